"""Likeness to the truth, tried on the truth itself."""

import math

import pytest
import torch

from splatdistill.cameras import Cameras, orbit
from splatdistill.evaluate.truth import best_turn, compare, depth_error, likeness, psnr, silhouette_iou, turned
from splatdistill.render import RenderOutput, Screen
from splatdistill.toybox import Caption, parse, render
from splatdistill.toybox.things import draw

VIEWS = orbit([0.0, 120.0, 200.0], [15.0, 15.0, 60.0], 2.8, 42.0, 48)


def seen(caption: Caption, turn: float = 0.0, cameras: Cameras = VIEWS) -> RenderOutput:
    """Return the truth, turned, as if it had been splats."""
    truth = render([caption.parts()], turned(cameras, torch.tensor([turn])))
    screen = Screen(torch.zeros(len(cameras), 0, 2), torch.zeros(len(cameras), 0, dtype=torch.int32))
    return RenderOutput(truth.rgb, truth.alpha, truth.depth, None, screen, cameras)


def test_turning_an_object_is_walking_around_it_the_other_way():
    walked = turned(orbit([70.0]), torch.tensor([30.0, -20.0]))
    assert torch.allclose(walked.azimuth, torch.tensor([40.0, 90.0]), atol=1e-3)
    assert torch.allclose(walked.elevation, torch.tensor([15.0, 15.0]), atol=1e-3)
    assert torch.allclose(walked.distance, torch.tensor([3.0, 3.0]), atol=1e-5)


def test_the_truth_is_like_itself():
    found = likeness(seen(parse("a red duck")), parse("a red duck"))
    assert (found.iou == 1).all()
    assert (found.psnr == 100).all()
    assert (found.depth_error == 0).all()


@pytest.mark.parametrize("turn", [0.0, 35.0, 200.0])
def test_a_turned_object_is_found(turn):
    duck = parse("a red duck")
    views = seen(duck, turn)
    found = best_turn(views.rgb, VIEWS, duck)
    assert found.degrees == turn
    assert (likeness(views, duck, found.degrees).psnr > 60).all()
    if turn:
        assert likeness(views, duck).psnr.mean() < 25


def test_symmetric_views_are_traced_once(monkeypatch):
    """Turns by 60 degrees lead six cameras 60 degrees apart to each other's places."""
    import splatdistill.evaluate.truth as module

    cameras, asked = orbit([0.0, 60.0, 120.0, 180.0, 240.0, 300.0], width=16), []
    monkeypatch.setattr(module, "draw", lambda thing, views, **rest: asked.append(len(views)) or draw(thing, views, **rest))
    best_turn(torch.rand(6, 3, 16, 16), cameras, parse("a red duck"), step=30.0)
    assert asked == [12]


@pytest.mark.parametrize("text", ["a green mug", "a yellow ball on an orange cube", "a checkered red and blue cube"])
def test_no_wrong_object_is_nearer_than_the_true_one(text):
    result = compare(seen(parse(text), 90.0), parse(text))
    assert (result.best.turn + 5) % 90 <= 10  # a cube has several
    assert result.best.iou.mean() > 0.95
    assert result.nearer_than_wrong
    assert result.wrong.psnr.mean() < 30
    assert result.wrong.caption != parse(text)


def test_the_wrong_object_is_found_out():
    result = compare(seen(parse("an orange duck"), 40.0), parse("a red duck"))
    assert not result.nearer_than_wrong
    assert result.wrong.caption == parse("an orange duck")
    assert result.wrong.turn == 40
    other = compare(seen(parse("a red cat")), parse("a red duck"))
    assert not other.nearer_than_wrong
    assert other.wrong.caption == parse("a red cat")
    assert other.best.iou.mean() < 0.9


def test_psnr_of_a_known_difference():
    a = torch.rand(2, 3, 8, 8) * 0.5
    assert psnr(a, a + torch.tensor([0.1, 0.01])[:, None, None, None]).tolist() == pytest.approx([20, 40], abs=1e-3)


def test_iou_of_known_squares():
    a, b = torch.zeros(3, 1, 10, 10), torch.zeros(3, 1, 10, 10)
    a[0, :, :6], b[0, :, 3:9] = 0.9, 0.8  # 3 rows of 9 are common
    a[1, :, :5] = 0.4  # not more than half covered
    b[1, :, :5] = 1.0
    assert silhouette_iou(a, b).tolist() == pytest.approx([1 / 3, 0, 1])


def test_depth_error_counts_only_what_both_cover():
    duck = parse("a red duck")
    shifted = seen(duck)
    truth = render([duck.parts()], VIEWS)
    farther = RenderOutput(shifted.rgb, shifted.alpha, shifted.depth + 0.25, None, shifted.screen, VIEWS)
    assert depth_error(farther, truth).tolist() == pytest.approx([0.25] * 3, abs=1e-5)
    empty = RenderOutput(shifted.rgb, 0 * shifted.alpha, shifted.depth, None, shifted.screen, VIEWS)
    assert depth_error(empty, truth).tolist() == [math.inf] * 3
