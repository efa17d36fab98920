"""Hostile run folders: damaged, cut, forged checkpoints and logs, thousands of them, in this process.

    python scripts/fuzz_runs.py --count 10000 --seed 0

Three small steered runs are made on the embedded prior (SDS, VSD, and SDS as earlier versions saved it, without digests); each
input is a copy of one with one thing wrong. Of a damaged checkpoint one of these must come: it is refused in one line; an
older checkpoint is taken and that is said; or the state is the same, tensor by tensor and bit by bit, with the same settings in
force. Forged ones, whose digests were made to agree, may also bring settings that are others but sound. Of a damaged log: its
commands are refused in one line that names the line, or they are some; progress is still told, the run still goes on from its
checkpoint with the settings in force, and another line can follow. Anything else is listed and the exit status is 1.
"""

import argparse
import collections
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch loads

import torch
from hostile_runs import STEPS, Files, harm, harm_log

import splatdistill
from splatdistill.errors import UserError
from splatdistill.priors import DiffusionPrior
from splatdistill.scene.initial import Ball
from splatdistill.train import loop
from splatdistill.train.checkpoint import read_checkpoint
from splatdistill.train.commands import Commands, Densify, Prune, SetField
from splatdistill.train.config import Train
from splatdistill.train.events import Event, Resumed, StepDone
from splatdistill.train.notes import FIRST, NOTE
from splatdistill.train.plain import to_plain
from splatdistill.train.run import RunDir
from splatdistill.train.state import restore
from splatdistill.train.steer import as_steered, in_force


@dataclass(frozen=True)
class Base:
    """Valid run."""

    files: Files
    config: Train  # that it began with
    states: dict[int, dict[str, torch.Tensor]]  # by step
    settings: dict[int, Any]
    prior: DiffusionPrior


def base(guidance: str, old: bool, root: Path) -> Base:
    """Make a run; old: as an earlier version would have left it."""
    commands, folder = Commands(), RunDir(root / f"{guidance}{old}")

    def steer(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            for command in (SetField("guidance.scale", 9.0), Prune(0.01), Densify(), SetField("prompt", "a blue mushroom")):
                commands.put(command)

    small: dict[str, Any] = {"init": Ball(count=30), "resolutions": (16,), "batch": 1, "steps": STEPS[-1], "checkpoint_every": 2}
    splatdistill.distil("a red mushroom", guidance, prior="tiny", device="cpu", out=folder.path, callbacks=[steer], commands=commands, **small)
    session = splatdistill.session("a red mushroom", guidance, prior="tiny", device="cpu", **small)
    states, settings = {}, {}
    for step in STEPS:
        place = folder.checkpoint(step)
        checkpoint = read_checkpoint(place)
        config = in_force(session.config, folder, checkpoint)
        states[step], settings[step] = restore(checkpoint, config, session.prior).tensors(), to_plain(config)
        if old:
            note = json.loads((place / NOTE).read_text(encoding="utf-8"))
            del note["particles"]
            (place / NOTE).write_text(json.dumps({k: v for k, v in note.items() if k in FIRST}), encoding="utf-8")
    files = {str(p.relative_to(folder.path)): p.read_bytes() for p in folder.path.rglob("*") if p.is_file() and p.suffix in (".yaml", ".jsonl", ".json", ".safetensors")}
    return Base(files, session.config, states, settings, session.prior)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect what is told to the log of `logging` meanwhile."""
    said: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("splatdistill.train.run")
    handler.emit = lambda record: said.append(record.getMessage())
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def one_line(error: UserError) -> bool:
    """Return whether the error is one readable line."""
    return 0 < len(str(error)) < 1000 and "\n" not in str(error)


def outcome(run: RunDir, sound: Base, forged: bool) -> str:
    """Return the outcome of taking up a run; "" where it is wrong."""
    with heard() as said:
        try:
            checkpoint = run.newest_checkpoint()
            config = in_force(sound.config, run, checkpoint)
            state = restore(checkpoint, config, sound.prior)
        except UserError as e:
            return "refused" if one_line(e) else ""
    want = sound.states.get(state.step, {})
    got = state.tensors()
    if want.keys() != got.keys() or not all(torch.equal(got[k], want[k]) for k in want):
        return ""
    if to_plain(config) != sound.settings[state.step]:
        return "forged settings" if forged else ""
    if state.step == STEPS[-1]:
        return "the same"
    return "an older one" if any("passed over" in line for line in said) or not (run.checkpoint(STEPS[-1]) / NOTE).exists() else ""


def outcome_log(run: RunDir, sound: Base) -> str:
    """Return the outcome of a damaged log; "" where it is wrong."""
    run.last_events()
    try:
        given = run.commands()
        how = "read"
        as_steered(sound.config, given)
    except UserError as e:
        if not one_line(e):
            return ""
        how = "refused"
    if outcome(run, sound, False) != "the same":
        return ""
    with run.writing():
        run.record(Resumed(STEPS[-1]))
    if run.log.read_bytes().splitlines()[-1] != b'{"event": "Resumed", "step": 4}':
        return ""
    if how == "read":
        run.events()
    return how


def main(argv: list[str] | None = None) -> int:
    """Make the inputs and tell what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="inputs of each kind: checkpoints, and logs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    loop.finish = partial(loop.finish, size=16, frames=2)
    root = Path(tempfile.mkdtemp(prefix="fuzz-runs-"))
    bases = [base("sds", False, root), base("vsd", False, root), base("sds", True, root)]
    found, wrong, began = collections.Counter(), 0, time.monotonic()
    for k in range(2 * options.count):
        rng, log = random.Random(f"{options.seed} {k}"), k % 2 == 1
        which = rng.choices(range(3), (6, 1, 2))[0]
        if log and which == 2:
            which = 0  # there the log says what is in force
        sound, run = bases[which], RunDir(root / "run")
        files = dict(sound.files)
        kind, forged = (f"log {harm_log(files, rng)}", False) if log else harm(files, rng, which == 2)
        shutil.rmtree(run.path, ignore_errors=True)
        for name, data in files.items():
            (run.path / name).parent.mkdir(parents=True, exist_ok=True)
            (run.path / name).write_bytes(data)
        try:
            how = outcome_log(run, sound) if log else outcome(run, sound, forged)
        except Exception:
            how = ""
            traceback.print_exc()
        if not how:
            wrong += 1
            kept = root / f"wrong-{k}"
            shutil.copytree(run.path, kept)
            print(f"WRONG: {kind} of base {which}, kept in {kept}", flush=True)
        found[kind, how or "WRONG"] += 1
    for (kind, how), count in sorted(found.items()):
        print(f"{kind:18} {count:6}  {how}")
    print(f"{sum(found.values())} inputs in {time.monotonic() - began:.0f} s; {wrong} wrong")
    if not wrong:
        shutil.rmtree(root)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
