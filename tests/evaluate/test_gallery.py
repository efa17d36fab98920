"""The gallery reads a bench's folder as it is: runs that ended, that went wrong, that have not begun, and that are none of its jobs."""

import json
from dataclasses import replace

import pytest
import torch

from splatdistill.bench import gallery
from splatdistill.bench.record import JobRecord as Ending
from splatdistill.errors import UserError
from splatdistill.estimators.weights import TINY_CLIP
from splatdistill.evaluate.acceptance_runs import JudgeNetworks
from splatdistill.evaluate.clip_model import clip_model
from splatdistill.gaussians import Gaussians
from splatdistill.io.ply import Provenance, write_ply


def red_ball(n: int = 400) -> Gaussians:
    """Return an opaque red ball of the size of the toybox's."""
    points = 0.59 * torch.nn.functional.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    red = torch.tensor([0.8, 0.1, 0.1]).repeat(n, 1, 1)
    return Gaussians(points, quats, torch.full((n, 3), 0.04), torch.full((n,), 0.95), (red - 0.5) / 0.28209479)


def test_a_bench_is_judged_and_drawn(tmp_path):
    methods, prompts = ["sds", "sdi"], ["a red ball"]
    good = Ending("a red ball", "sds", 0, (), "done")
    endings = [good, replace(good, seed=1), replace(good, arm="sdi", how="nan"), replace(good, prompt="a stale job")]
    folders = [tmp_path / "jobs" / e.arm / f"{e.prompt[2:]}-{e.seed}" for e in endings]
    todo = [{"folder": str(f.relative_to(tmp_path))} for f in (*folders[:3], tmp_path / "jobs" / "sdi" / "not-begun")]
    plan = {"prompts": prompts, "arms": [{"name": m} for m in methods], "jobs": todo}
    (tmp_path / "bench.json").write_text(json.dumps(plan), encoding="utf-8")
    for ending, folder in zip(endings, folders, strict=True):
        (folder / "run").mkdir(parents=True)
        ending.write(folder)
        if ending.how == "done":
            write_ply(folder / "run" / "splats.ply", red_ball(), Provenance("a red ball", "tiny", "none", "0").comments())
    judges, lines = JudgeNetworks(clip_model(TINY_CLIP), None), []
    runs = gallery.collect(tmp_path, gallery.planned(tmp_path), judges, lines.append)
    again = JudgeNetworks(clip_model(TINY_CLIP), None)
    assert [r.judged for r in gallery.collect(tmp_path, gallery.planned(tmp_path), again, lines.append)] == [r.judged for r in runs]
    assert not {"rasterizer", "prior"} & set(vars(again)) and "scorer" not in vars(again.clip), "what is judged is not judged again"
    assert len(lines) == 4 and lines[:2] == lines[2:]
    ended = [(r.method, r.seed, r.how, r.judged is not None) for r in runs]
    assert ended == [("sds", 0, "done", True), ("sds", 1, "done", True), ("sdi", 0, "nan", False)]
    assert runs[1].judged.iou > 0.7 and runs[1].judged.second_front is None
    picture = gallery.sheet(runs, prompts, methods, judges.rasterizer)
    ball, failed, truth = (picture[:, :, x : x + 96] for x in (98, 196, 294))  # beside the prompt
    assert picture.shape == (3, 226, 390)
    for side in (slice(16, 112), slice(130, 226)):  # front and back
        for seen in (ball, truth):
            assert seen[0, side].min() > 0.3 and seen[1, side].min() < 0.3
    assert (failed[0] == failed[1]).all() and failed[:, 16:112].min() < 0.3  # words say how it ended
    assert "sds" in gallery.summary(runs, methods) and "no run" in gallery.summary(runs, methods)


def test_what_is_no_bench_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no bench\.json"):
        gallery.planned(tmp_path)


def test_real_objects_are_judged_and_drawn_beside_their_truth(tmp_path):
    folder = tmp_path / "jobs" / "sds" / "cup"
    (folder / "run").mkdir(parents=True)
    Ending("a red coffee cup", "sds", 0, (), "done").write(folder)
    write_ply(folder / "run" / "splats.ply", red_ball(), Provenance("a red coffee cup", "world", "none", "0").comments())
    plan = {"prompts": ["a red coffee cup"], "arms": [{"name": "sds"}], "jobs": [{"folder": str(folder.relative_to(tmp_path))}]}
    judges = JudgeNetworks(None, None)
    (run,) = gallery.collect(tmp_path, plan, judges, lambda line: None)
    assert run.judged is not None and run.judged.scorer.startswith("world-clip") and not run.judged.passed and 0.2 < run.judged.iou < 0.9
    assert gallery.sheet([run], plan["prompts"], ["sds"], judges.rasterizer).shape[0] == 3
