"""scripts/gallery.py reads a bench's folder as it is: runs that ended, that went wrong, that have not begun, and that are none of its jobs."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splatdistill.bench.record import JobRecord as Ending
from splatdistill.errors import UserError
from splatdistill.estimators import ClipScorer
from splatdistill.gaussians import Gaussians
from splatdistill.io.ply import Provenance, write_ply
from splatdistill.priors.weights import TINY
from splatdistill.render import rasterizer

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "gallery.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gallery_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def red_ball(n: int = 400) -> Gaussians:
    """Opaque, red, of the size of the toybox's."""
    points = 0.59 * torch.nn.functional.normalize(torch.randn(n, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(n, 1)
    red = torch.tensor([0.8, 0.1, 0.1]).repeat(n, 1, 1)
    return Gaussians(points, quats, torch.full((n, 3), 0.04), torch.full((n,), 0.95), (red - 0.5) / 0.28209479)


def test_a_bench_is_judged_and_drawn(script, tmp_path):
    methods, prompts = ["sds", "sdi"], ["a red ball"]
    good = Ending("a red ball", "sds", 0, (), "done")
    endings = [good, replace(good, seed=1), replace(good, arm="sdi", how="nan"), replace(good, prompt="a stale job")]
    folders = [tmp_path / "jobs" / e.arm / f"{e.prompt[2:]}-{e.seed}" for e in endings]
    todo = [{"folder": str(f.relative_to(tmp_path))} for f in (*folders[:3], tmp_path / "jobs" / "sdi" / "not-begun")]
    plan = {"prompts": prompts, "arms": [{"name": m} for m in methods], "jobs": todo}
    (tmp_path / "bench.json").write_text(json.dumps(plan))
    for ending, folder in zip(endings, folders, strict=True):
        (folder / "run").mkdir(parents=True)
        ending.write(folder)
        if ending.how == "done":
            write_ply(folder / "run" / "splats.ply", red_ball(), Provenance("a red ball", "tiny", "none", "0").comments())
    render = rasterizer("cpu")
    runs = script.collect(tmp_path, script.planned(tmp_path), ClipScorer(TINY.parent / "clip"), None, render)
    ended = [(r.method, r.seed, r.how, r.judged is not None) for r in runs]
    assert ended == [("sds", 0, "done", True), ("sds", 1, "done", True), ("sdi", 0, "nan", False)]
    assert runs[1].judged.iou > 0.7 and runs[1].judged.second_front is None
    picture = script.sheet(runs, prompts, methods, render)
    ball, failed, truth = (picture[:, :, x : x + 96] for x in (98, 196, 294))  # beside the prompt
    assert picture.shape == (3, 226, 390)
    for side in (slice(16, 112), slice(130, 226)):  # front and back
        for seen in (ball, truth):
            assert seen[0, side].min() > 0.3 and seen[1, side].min() < 0.3
    assert (failed[0] == failed[1]).all() and failed[:, 16:112].min() < 0.3  # words say how it ended
    assert "sds" in script.summary(runs, methods) and "no run" in script.summary(runs, methods)


def test_what_is_no_bench_is_refused(script, tmp_path):
    with pytest.raises(UserError, match=r"no bench\.json"):
        script.planned(tmp_path)
