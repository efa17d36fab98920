"""View words by the truth and by a prior whose scores are exact; second fronts that are there and that are not."""

import pytest
import torch

from splatdistill.cameras import DIRECTIONS, VIEW_WORDS, orbit
from splatdistill.evaluate.janus import BEHIND, Janus, backdrop, detect_janus, words_by_prior, words_by_truth
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.toybox import parse, render
from splatdistill.toybox.world import DIRECTED, SIZE, VIEWS, WORDS, backgrounds

CAT = parse("an orange cat")


def test_the_truth_names_views_on_any_background():
    rng = torch.Generator().manual_seed(3)
    cameras = VIEWS.sample(24, SIZE, SIZE, rng)
    cameras = cameras[
        [
            i
            for i, (a, e) in enumerate(zip(cameras.azimuth.abs() % 90, cameras.elevation, strict=True))
            if abs(a - 45) > 8 and abs(e - 60) > 8
        ]
    ]
    pictures = render([CAT.parts()], cameras, backgrounds(len(cameras), rng)).rgb
    assert len(cameras) >= 10
    scores = words_by_truth(pictures, CAT)
    assert scores.words == VIEW_WORDS
    assert scores.score.shape == (len(cameras), 1, 4)
    assert scores.best == WORDS.words(cameras)


def test_the_truth_tells_left_from_right():
    cameras = orbit([0.0, 50.0, 85.0, 140.0, 180.0, -130.0, -90.0, -40.0, 90.0], [10.0] * 8 + [70.0], 2.8, 42.0, SIZE)
    found = words_by_truth(render([CAT.parts()], cameras).rgb, CAT, DIRECTED)
    assert found.best == [*DIRECTIONS, "overhead left side"]


def test_the_backdrop_is_the_colour_at_the_border():
    ground = torch.tensor([[0.2, 0.5, 0.9]])
    picture = render([CAT.parts()], orbit([0.0]), ground).rgb
    assert torch.allclose(backdrop(picture), ground)


@pytest.fixture
def exact() -> GaussianMixturePrior:
    """Return a prior that knows the cat from in front and from behind."""
    seen = render([CAT.parts()], orbit([0.0, 180.0], 15.0, 2.8, 42.0, 16)).rgb.double()
    words = {f"{CAT}, front view": [1.0, 0.0], f"{CAT}, back view": [0.0, 1.0]}
    return GaussianMixturePrior(seen, torch.full((2,), 0.02, dtype=torch.float64), words)


def test_a_prior_names_views_by_its_denoising_error(exact, rng):
    views = render([CAT.parts()], orbit([10.0, 170.0, -5.0, 184.0], 15.0, 2.8, 42.0, 16)).rgb.double()
    scores = words_by_prior(exact, views, str(CAT), rng)
    assert scores.score.shape == (4, 16, 2)
    assert scores.best == ["front", "back", "front", "back"]
    again = words_by_prior(exact, views, str(CAT), torch.Generator().manual_seed(0))
    assert torch.equal(scores.score, again.score)
    assert torch.equal(scores.margin("front", "back"), -scores.margin("back", "front"))
    swapped = words_by_prior(exact, views, str(CAT), torch.Generator().manual_seed(0), words=("back", "front"))
    assert torch.equal(swapped.score.flip(-1), scores.score)  # all words get the same noises


def test_the_truth_has_no_second_front_and_a_two_faced_object_has():
    behind = render([CAT.parts()], BEHIND).rgb
    in_front = render(
        [CAT.parts()], orbit((BEHIND.azimuth + 180).tolist(), BEHIND.elevation.tolist(), 2.8, 42.0, SIZE)
    ).rgb
    rng = torch.Generator().manual_seed(0)
    right, wrong = detect_janus(behind, CAT, None, rng), detect_janus(in_front, CAT, None, rng)
    assert right.by_truth > 3
    assert not right.there
    assert wrong.by_truth < -3
    assert wrong.there
    assert detect_janus(behind, parse("a red mushroom"), None, rng) is None


def test_the_prior_is_heard_when_it_is_sure(exact, rng):
    front, back = (render([CAT.parts()], orbit([a] * 2, 15.0, 2.8, 42.0, 16)).rgb.double() for a in (0.0, 180.0))
    assert words_by_prior(exact, front, str(CAT), rng).margin("back", "front").mean() < 0
    assert words_by_prior(exact, back, str(CAT), rng).margin("back", "front").mean() > 0
    assert Janus(1.0, -2.5).there
    assert not Janus(1.0, -1.5).there
    assert Janus(-0.1, 5.0).there
