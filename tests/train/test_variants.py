"""Runs that take turns are the runs that they would be alone."""

import threading
import time
from functools import partial

import pytest
import torch

from splatdistill.errors import RunEnded
from splatdistill.train import loop
from splatdistill.train.events import Ended
from splatdistill.train.loop import run
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.variants import Variant, take_turns
from train.small import config, red_and_blue


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(loop, "finish", partial(loop.finish, size=16, frames=2))


def variants(folder, prior, seeds, steps=4):
    return [Variant(Session(config(steps=steps, seed=s), prior), RunDir.create("p", folder / f"seed-{s}")) for s in seeds]


def test_taking_turns_changes_nothing(tmp_path):
    runs = variants(tmp_path / "turns", red_and_blue(), (0, 1))
    order = []
    for k, r in enumerate(runs):
        r.callbacks.append(lambda event, k=k: order.append(k))
    take_turns(runs)
    assert order[:4] == [0, 1, 0, 1]
    for s, r in enumerate(runs):
        alone = variants(tmp_path / "alone", red_and_blue(), (s,))[0]
        ended, files = run(alone.session, alone.folder)
        assert files.splats.read_bytes() == r.result[1].splats.read_bytes()
        assert isinstance(ended, Ended) and ended.calls == r.result[0].calls > 0, "each counts its own questions"
    assert runs[0].folder.splats.read_bytes() != runs[1].folder.splats.read_bytes()


def test_one_that_goes_wrong_keeps_no_other_from_going(tmp_path):
    runs = variants(tmp_path, red_and_blue(), (0, 1, 2))

    def full():
        raise MemoryError

    runs[1].session.step = full
    take_turns(runs)
    assert isinstance(runs[1].wrong, RunEnded) and "oom" in str(runs[1].wrong) and runs[1].result is None
    assert [r.result[0].how for r in (runs[0], runs[2])] == ["done", "done"]


def test_variants_on_several_devices_are_the_runs_that_they_would_be_alone(tmp_path):
    """On the two names that torch has for a CPU: at the same time, callbacks one after the other, a fault kept to itself."""
    priors = red_and_blue(), red_and_blue()
    priors[1].device = torch.device("cpu", 0)
    runs = [variants(tmp_path / "spread", priors[s % 2], (s,))[0] for s in range(4)]
    told, inside, crossed, threads = [], [], [], set()

    def callback(event):
        inside.append(1)
        crossed.append(len(inside) > 1)
        threads.add(threading.get_ident())
        time.sleep(0.002)
        told.append(event)
        inside.pop()

    for r in runs:
        r.callbacks.append(callback)

    def full():
        raise MemoryError

    runs[3].session.step = full
    take_turns(runs)
    assert len(threads) == 2 and not any(crossed) and len(told) > 12
    assert isinstance(runs[3].wrong, RunEnded) and [r.result[0].how for r in runs[:3]] == ["done"] * 3
    for s in range(3):
        alone = variants(tmp_path / "alone", red_and_blue(), (s,))[0]
        _, files = run(alone.session, alone.folder)
        assert files.splats.read_bytes() == runs[s].result[1].splats.read_bytes()
