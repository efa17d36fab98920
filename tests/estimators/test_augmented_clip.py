"""Test-time augmentation of a CLIP: what averaging does to features, and that it knows the truth."""

import pytest
import torch

from splatdistill.estimators import TINY_CLIP, ClipScorer, load_judge
from splatdistill.estimators.test_time_augmentation import LOOKS, AugmentedClip, look
from splatdistill.estimators.weights import find
from splatdistill.evaluate.acceptance import look_at_truth
from splatdistill.evaluate.embedded_models import retrieval, true_pictures
from splatdistill.evaluate.retrieval import recognised
from splatdistill.toybox import ACCEPTANCE, parse

pytestmark = pytest.mark.skipif(not (find(TINY_CLIP) / "config.json").is_file(), reason="the embedded weights are not in this checkout")


@pytest.fixture(scope="module")
def judge() -> AugmentedClip:
    scorer = load_judge(find(TINY_CLIP))
    assert isinstance(scorer, AugmentedClip) and scorer.name == f"{TINY_CLIP}, {len(LOOKS)} looks"
    return scorer


def test_looks_move_and_zoom_and_mirror():
    dot = torch.zeros(1, 3, 40, 40)
    dot[..., 18:22, 18:22] = 1
    across = torch.arange(40.0)

    def seen(*how):
        got = look(dot, *how)[0, 0]
        return float((got.sum(0) * across).sum() / got.sum()), float(got.sum())

    assert seen(1.0, 0.0, False) == (19.5, 16.0) and torch.equal(look(dot, 1.0, 0.0, True), dot.flip(-1))
    assert seen(1.0, 0.1, False) == pytest.approx((17.5, 16.0), abs=1e-4)  # a tenth of 20 pixels to the left
    assert seen(1.0, 0.1, True) == pytest.approx((21.5, 16.0), abs=1e-4)
    assert seen(1.25, 0.0, False) == pytest.approx((19.5, 25.0), abs=0.5)


def test_a_feature_is_the_unit_mean_and_a_mirrored_picture_is_the_same(judge):
    images, _, _ = true_pictures(3, 5, False)
    once = ClipScorer(find(TINY_CLIP))
    features = judge.image_features(images)
    mean = torch.stack([once.image_features(look(images, *how)) for how in LOOKS]).mean(0)
    torch.testing.assert_close(features, mean / mean.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(judge.image_features(images.flip(-1)), features, atol=1e-4, rtol=0)
    torch.testing.assert_close(judge.text_features(["a red ball"]), once.text_features(["a red ball"]))


def test_it_knows_what_one_look_knows_and_more(judge):
    images, captions, _ = true_pictures(150, 77, True)
    once, often = (retrieval(s, images, captions)["all"].caption for s in (ClipScorer(find(TINY_CLIP)), judge))
    assert often > once


@pytest.mark.parametrize("prompt", ACCEPTANCE)
def test_it_knows_the_true_objects_of_the_acceptance_table(judge, prompt):
    assert recognised(judge, look_at_truth(parse(prompt)).seen.rgb, parse(prompt)).right.sum() >= 7
