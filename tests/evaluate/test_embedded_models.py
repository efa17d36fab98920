"""Measurements of the embedded models: counting, and sampling on one side of the split."""

from dataclasses import astuple

import pytest
import torch

from splatdistill.cameras import orbit
from splatdistill.evaluate.embedded_models import (
    QUARTERS,
    Obeyed,
    Retrieval,
    Samples,
    cameras_obeyed,
    draw_captions,
    draw_real_captions,
    draw_samples,
    draw_sets,
    family,
    fronted_captions,
    fronted_real_captions,
    obeyed,
    quarters_seen,
    retrieval,
    true_pictures,
    true_real_pictures,
)
from splatdistill.evaluate.retrieval import Recognition
from splatdistill.priors import Condition
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.toybox import Caption, is_held_out, parse, render
from splatdistill.toybox.real import truth_pack
from splatdistill.toybox.things import symmetric
from splatdistill.toybox.world import SIZE, VIEWS, WORDS

CAT = parse("an orange cat")


def test_shares_are_counted_over_pictures():
    other = parse("a red cat")
    found = [
        Recognition(CAT, "x", (CAT, other), torch.tensor([0, 3])),
        Recognition(other, "x", (parse("a red ball"),), torch.tensor([1])),
    ]
    assert astuple(Retrieval.of(found)) == pytest.approx((3, 1 / 3, 1 / 3, 2 / 3, 2 / 3))
    dotted, striped = parse("a spotted red and blue ball"), parse("a striped red and blue ball")
    nearly = Retrieval.of([Recognition(dotted, "x", (striped,), torch.tensor([1]))])
    assert nearly == Retrieval(1, caption=0.0, both=1.0, object=1.0, colour=1.0)
    seen = Obeyed.of(["front", "front", "back"], ["front", "side", "back"])
    assert (seen.count, seen.all) == (3, pytest.approx(2 / 3))
    assert seen.words == (("front", 0.5), ("back", 1.0))


class Blind:
    """Takes every picture for a red ball."""

    name = "blind"

    def similarities(self, rgb: torch.Tensor, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float(t == "a red ball") for t in texts]] * len(rgb))


def test_retrieval_is_told_by_family():
    texts = ["a red ball", "a red cat", "a striped red and blue ball", "a red ball on a blue cube", "a red ball"]
    captions = [parse(t) for t in texts]
    assert [family(c) for c in captions] == ["primitive", "named", "patterned", "stack", "primitive"]
    found = retrieval(Blind(), torch.zeros(5, 3, 8, 8), captions)
    assert found["all"].caption == pytest.approx(0.4)
    assert found["primitive"] == Retrieval(2, 1.0, 1.0, 1.0, 1.0)
    assert found["stack"].caption == 0


@pytest.mark.parametrize("held_out", [False, True])
def test_captions_come_from_one_side_of_the_split(held_out):
    drawn = draw_captions(12, held_out, 5)
    assert drawn == draw_captions(12, held_out, 5)
    assert all(is_held_out(c) == held_out for c in drawn)
    fronted = fronted_captions(held_out, 5)
    assert len({c.kind for c in fronted}) == len(fronted) == 16
    assert all(is_held_out(c) == held_out and not c.symmetric for c in fronted)
    more = fronted_captions(held_out, 5, each=2)
    assert len({c.kind for c in more}) == 16 < len(more) == len(set(more)) <= 32
    images, captions, words = true_pictures(6, 1, held_out)
    assert images.shape == (6, 3, SIZE, SIZE)
    assert 0 <= images.min() <= images.max() <= 1
    assert all(is_held_out(c) == held_out for c in captions)
    assert len(words) == 6


@pytest.mark.parametrize("held_out", [False, True])
def test_real_captions_come_from_one_side_of_their_split(held_out):
    drawn = draw_real_captions(12, held_out, 5)
    assert drawn == draw_real_captions(12, held_out, 5) and all(c.held_out == held_out for c in drawn)
    fronted = fronted_real_captions(held_out, 5, each=2)
    assert len({c.kind for c in fronted}) > 15 and all(c.held_out == held_out and not symmetric(c) for c in fronted)
    assert len(set(fronted)) == len(fronted) <= 2 * len({c.kind for c in fronted})
    images, captions = true_real_pictures(truth_pack(), 6, 1, "held out" if held_out else "trained")
    assert images.shape == (6, 3, SIZE, SIZE) and 0 <= images.min() <= images.max() <= 1
    assert all(c.held_out == held_out for c in captions) and {family(c) for c in captions} == {"real"}


def test_samples_of_an_obedient_prior_obey_and_of_a_stubborn_one_do_not():
    views = orbit([0.0, 90.0, 180.0, 0.0], [15.0, 15.0, 15.0, 70.0], 2.8, 42.0, SIZE)
    seen = render([CAT.parts()], views).rgb.double()
    words = WORDS.words(views)
    assert words == ["front", "side", "back", "overhead"]
    prompts = {f"{CAT}, {w} view": [float(i == k) for k in range(4)] for i, w in enumerate(words)}
    narrow = torch.full((4,), 1e-3, dtype=torch.float64)
    drawn = draw_samples(
        GaussianMixturePrior(seen, narrow, prompts), [CAT], torch.Generator().manual_seed(0), scale=1.0, steps=10
    )
    assert drawn.captions == (CAT,) * 4
    assert obeyed(drawn) == Obeyed(4, 1.0, tuple((w, 1.0) for w in words))
    stubborn = Samples(drawn.images[[0, 0, 0, 0]], drawn.captions, drawn.words)
    assert obeyed(stubborn).words == (("front", 1.0), ("side", 0.0), ("back", 0.0), ("overhead", 0.0))


@pytest.mark.parametrize("caption", [CAT, *(pytest.param(c, marks=pytest.mark.slow) for c in (Caption("duck", "red"), Caption("car", "orange")))], ids=str)
def test_sets_whose_views_are_turned_round_do_not_obey_their_cameras(caption):
    around = orbit([0.0, 90.0, 180.0, 270.0], 15.0, 2.8, 42.0, SIZE)
    true = render([caption.parts()], around, torch.full((4, 3), 0.6)).rgb
    assert quarters_seen(true, caption) == list(QUARTERS)
    assert quarters_seen(true.roll(1, 0), caption) == [*QUARTERS[3:], *QUARTERS[:3]]
    one_side = Samples(torch.cat([true, true[[1, 1, 1, 1]]]), (caption,) * 8, QUARTERS * 2)
    assert cameras_obeyed(one_side) == Obeyed(8, 0.625, (("front", 0.5), ("back", 0.5), ("left side", 1.0), ("right side", 0.5)))


class Turning(GaussianMixturePrior):
    """Prior that sees four views, each by its camera."""

    views, image_size, wants = 4, SIZE, frozenset({"tokens", "camera"})

    def eps(self, x_t, t, condition):
        turns = [round(float(torch.rad2deg(torch.atan2(c[1, 3], c[0, 3]))) / 90) % 4 for c in condition.camera]
        each = [Condition(torch.eye(4, dtype=x_t.dtype)[k].log().clamp(min=-50).view(1, 1, 4)) for k in turns]
        return torch.cat([super(Turning, self).eps(x_t[i : i + 1], t[i : i + 1], each[i]) for i in range(len(x_t))])


def test_sets_are_asked_by_their_cameras():
    around = orbit([0.0, 90.0, 180.0, 270.0], 15.0, *VIEWS.middle, SIZE)
    seen = render([CAT.parts()], around, torch.full((4, 3), 0.5)).rgb.double()
    prior = Turning(seen, torch.full((4,), 1e-3, dtype=torch.float64), {str(CAT): [0.25] * 4})
    drawn = draw_sets(prior, [CAT, CAT], torch.Generator().manual_seed(0), scale=1.0, steps=6)
    assert drawn.images.shape == (8, 3, SIZE, SIZE) and cameras_obeyed(drawn).all == 1.0


def test_symmetric_objects_are_not_asked_for_views():
    both = Samples(render([CAT.parts()], orbit([0.0, 0.0])).rgb, (CAT, Caption("ball", "red")), ("front", "back"))
    assert obeyed(both).count == 1
