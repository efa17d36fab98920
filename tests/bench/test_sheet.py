"""The sheet of a bench, and the judges' reading: a bad row costs that row, a file of nothing but bad rows its own place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from splats import blobs, join

from splatdistill.bench.measure_jobs import MeasuredJob, Results
from splatdistill.bench.plan import Job
from splatdistill.bench.record import JobRecord
from splatdistill.bench.sheet import SIZE, sheet, words
from splatdistill.evaluate.acceptance_runs import splats_of
from splatdistill.evaluate.measure import Evaluator, Measured
from splatdistill.evaluate.protocol import Protocol
from splatdistill.evaluate.run_summary import RunSummary
from splatdistill.io.images import GAP, LABEL
from splatdistill.io.ply import write_ply

PROMPT = "three blobs"  # of which the toybox knows no truth


def broken(path: Path, rows: int) -> Path:
    """Replace the first rows' positions in a .ply by non-finite numbers."""
    head, data = path.read_bytes().split(b"end_header\n", 1)
    table = np.frombuffer(data, "<f4").reshape(-1, head.count(b"property float")).copy()
    table[:rows, 0] = np.nan
    path.write_bytes(head + b"end_header\n" + table.tobytes())
    return path


def job(folder: Path, arm: str, gaussians, bad: int) -> MeasuredJob:
    folder = folder / arm
    folder.mkdir()
    file = folder / "splats.ply"
    write_ply(file, gaussians)
    broken(file, bad)
    run = RunSummary(folder, PROMPT, arm, "tiny", 0, 1, 2.8, 42.0, "r", "done", 1, 1.0, None, None, (file,))
    record = JobRecord(PROMPT, arm, 0, (), "done")
    return MeasuredJob(Job(PROMPT, arm, 0, (), (), 1, 1.0), record, Measured(run, (), None))


def test_one_bad_row_ends_no_sheet(tmp_path, rng):
    good, stray = blobs(3, rng, dtype=torch.float32), blobs(1, rng, dtype=torch.float32)
    jobs = [job(tmp_path, "whole", good, 0), job(tmp_path, "stray", join(stray, good), 1), job(tmp_path, "lost", good, 3)]
    arms = tuple(j.job.arm for j in jobs)
    picture = sheet(Results(arms, (PROMPT,), (0,), "whole", jobs), Evaluator(Protocol(), None, None), 0)
    _, whole, stray_too, lost = (picture[:, LABEL:, k * (SIZE + GAP) :][:, :SIZE, :SIZE] for k in range(4))
    assert whole.std() > 0.03 and torch.equal(whole, stray_too)
    assert torch.equal(lost, words("done"))


def test_a_judge_leaves_bad_rows_out_and_says_so(tmp_path, rng):
    good, stray = blobs(3, rng, dtype=torch.float32), blobs(1, rng, dtype=torch.float32)
    (file,) = job(tmp_path, "stray", join(stray, good), 1).measured.run.splats
    with pytest.warns(UserWarning, match=r"left out 1 of 4 rows \(1 with a position"):
        seen = splats_of(file)
    torch.testing.assert_close(seen.means, good.means, rtol=0, atol=1e-5)
