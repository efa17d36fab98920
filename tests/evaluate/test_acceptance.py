"""The acceptance table on perfect, wrong and empty runs."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from splatdistill.evaluate.acceptance import VIEWS, Judged, Sight, judge, look, look_at_truth, sheet, table
from splatdistill.evaluate.janus import BEHIND, Janus
from splatdistill.evaluate.retrieval import recognised
from splatdistill.evaluate.truth import TruthComparison, likeness
from splatdistill.gaussians import Gaussians
from splatdistill.render.reference import ReferenceRasterizer
from splatdistill.toybox import Caption, parse

CAT = parse("an orange cat")


class Sees:
    """Scorer that takes every picture for the same caption."""

    name = "sees"

    def __init__(self, caption: Caption, right: int = 8):
        self.caption, self.count = str(caption), right

    def similarities(self, rgb: torch.Tensor, texts: list[str]) -> torch.Tensor:
        return torch.tensor([[float((t == self.caption) == (i < self.count)) for t in texts] for i in range(len(rgb))])


def test_views_are_those_that_are_promised():
    assert len(VIEWS) == 8
    assert sorted((VIEWS.azimuth[:6] % 360).round().tolist()) == [0, 60, 120, 180, 240, 300]
    assert VIEWS.elevation.round().tolist() == [15] * 6 + [-14, 74]
    assert ((BEHIND.azimuth % 360 - 180).abs() < 31).all()


@pytest.fixture(scope="module")
def perfect() -> Sight:
    return look_at_truth(CAT)


@pytest.fixture(scope="module")
def judged(perfect: Sight) -> Judged:
    return judge(perfect, CAT, Sees(CAT), None, torch.Generator())


def test_the_truth_passes(judged):
    record = judged.record()
    assert record.passed
    assert (record.views_right, record.iou, record.turn, record.psnr, record.second_front) == (
        8,
        1.0,
        0.0,
        100.0,
        False,
    )
    assert record.scorer == "sees"
    assert record.taken_for == (str(CAT),) * 8
    assert json.loads(json.dumps(asdict(record)))["prompt"] == str(CAT)
    assert "PASS" in record.cells()
    assert "1 of 2 pass" in table([record, replace(record, passed=False)])


def test_each_condition_can_fail_it(perfect, judged):
    def views(right: int) -> Judged:
        return replace(judged, recognition=recognised(Sees(CAT, right), perfect.seen.rgb, CAT))

    assert views(7).passed
    assert not views(6).passed
    brown = parse("a brown cat")
    seen = look_at_truth(brown).seen
    wrong_colour = replace(
        judged, comparison=TruthComparison(likeness(seen, CAT), likeness(seen, CAT), likeness(seen, brown))
    )
    assert wrong_colour.iou > 0.99
    assert not wrong_colour.passed
    lean = replace(
        perfect.seen, alpha=perfect.seen.alpha * (torch.arange(64) < 34)
    )  # pixels do not show what alpha lacks
    thin = replace(judged, comparison=replace(judged.comparison, best=likeness(lean, CAT)))
    assert thin.comparison.nearer_than_wrong
    assert 0.3 < thin.iou < 0.75
    assert not thin.passed
    two_faced = replace(judged, front=Janus(-1.0, None))
    assert not two_faced.passed
    assert "YES -1.0 dB" in two_faced.record().cells()


def test_symmetric_objects_have_no_fronts_to_count(judged):
    record = replace(judged, front=None).record()
    assert record.passed
    assert (record.second_front, record.back_by_truth) == (None, None)
    assert "-" in record.cells()


def test_a_depth_that_nothing_has_is_no_number(judged):
    """Infinity is no JSON."""
    best = replace(judged.comparison.best, depth_error=torch.full((8,), float("inf")))
    record = replace(judged, comparison=replace(judged.comparison, best=best)).record()
    assert record.depth_error is None and record.cells()[7] == "-" and json.dumps(asdict(record), allow_nan=False)


def test_splats_are_seen_on_white_within_range():
    one = torch.tensor([[1.0, 0, 0, 0]])
    bright = Gaussians(torch.zeros(1, 3), one, torch.full((1, 3), 0.3), torch.tensor([0.9]), torch.full((1, 1, 3), 5.0))
    sight = look(bright, ReferenceRasterizer())
    assert sight.seen.rgb.shape == (8, 3, 64, 64)
    assert len(sight.behind) == len(BEHIND)
    assert sight.seen.rgb.max() <= 1
    assert (sight.seen.rgb[:, :, 0, 0] == 1).all()
    assert (sight.seen.alpha[:, 0, 32, 32] > 0.8).all()


def test_the_sheet_shows_splats_over_truth(perfect):
    picture = sheet([CAT, CAT], [perfect, perfect])
    height, width = picture.shape[1:]
    assert height > 4 * 64
    assert width > 8 * 64
    row = height // 4 + 1
    assert (picture[:, : row - 2] - picture[:, row : 2 * row - 2]).abs().mean() < 0.01  # the truth over the truth
