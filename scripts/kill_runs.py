"""Runs that are killed, hung up on and starved of disk, at random and where it hurts: every one must go on to the same splats.

    python scripts/kill_runs.py --count 500          # all methods in turn
    python scripts/kill_runs.py --count 20 --methods sds vsd --seed 7

torch and the embedded prior are loaded once; each run is a fork of this process that calls the command line, as a person
would. Four faults, in turn: `aimed`, SIGKILL at a random one of the points at which the run touches its folder (before a file
is opened for writing, renamed, removed, synced, or half-way through what is written); `random`, SIGKILL at a random time;
`full`, a disk that is full from a random point on; `hangup`, SIGHUP while it trains. A quarter of the killed runs are killed once
more while they are resumed. Then `--resume` is to give the bytes of splats.ply that an undisturbed run gives, or to say in one
line why it cannot. Anything else is listed, its folder kept, and the exit status is 1.
"""

import argparse
import collections
import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch loads

import torch

from splatdistill.cli import main as command_line
from splatdistill.guidance import GUIDANCES
from splatdistill.train import loop
from splatdistill.train.run import RunDir

FAULTS = ("aimed", "random", "full", "hangup")
SMALL = ["--prior", "tiny", "--device", "cpu", "--no-viewer", "--init.count", "40", "--resolutions", "16", "--batch", "1"]
SMALL += ["--checkpoint-every", "2", "--preview-every", "3"]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.chmod")  # audit events beside "open"
PATIENCE = 300  # seconds that a run may take before it counts as hanging
CRASHED = 99  # exit status of a fork that ended in a traceback


class Points:
    """Points at which this process touches a folder, counted; at one of them a fault happens."""

    def __init__(self, folder: Path, at: int = -1, full: bool = False) -> None:
        self.folder, self.at, self.full, self.count = str(folder), at, full, 0

    def install(self) -> None:
        """Install this fault in the process for good, so it should be a fork."""
        sys.addaudithook(self.audit)
        write, sync, write_bytes = os.write, os.fsync, Path.write_bytes

        def half(file: int, data: bytes) -> int:
            if file > 2 and self.hit():
                write(file, data[: len(data) // 2])
                self.strike()
            return write(file, data)

        def half_bytes(path: Path, data: bytes) -> int:
            if self.folder in str(path) and self.hit():
                write_bytes(path, data[: len(data) // 2])
                self.strike()
            return write_bytes(path, data)

        def synced(file: int) -> None:
            if self.hit():
                self.strike()
            sync(file)

        replaced: Any = os  # functions of modules, seen by whoever calls them there
        replaced.write, replaced.fsync = half, synced
        changed: Any = Path
        changed.write_bytes = half_bytes

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Check an event that Python announces before it happens."""
        writing = event == "open" and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if (writing or event in CHANGES) and self.folder in str(args[0]):
            struck = self.hit()
            if (self.full and self.count > self.at >= 0 and (writing or event == "os.mkdir")) or (struck and not self.full):
                self.strike()

    def hit(self) -> bool:
        """Count a point; True at the one."""
        self.count += 1
        return self.count - 1 == self.at or (self.full and self.count > self.at >= 0)

    def strike(self) -> None:
        """Kill the process, or raise the error of a full disk."""
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Ending:
    """Exit status and output of a fork."""

    status: int  # negative: by a signal
    said: str

    @property
    def refusal(self) -> str:
        """Return the one line with which resuming was refused; "" if it was not, or in more lines."""
        errors = [line for line in self.said.splitlines() if line.startswith("error: ")]
        return errors[0].removeprefix("error: ") if self.status == 2 and len(errors) == 1 and "Traceback" not in self.said else ""


def forked(argv: list[str], output: Path, points: Points | None = None, meanwhile: Callable[[int], None] | None = None) -> Ending:
    """Call the command line in a fork of this process, and wait for its end."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # before the fork: it may be killed at once
    child = os.fork()
    if child == 0:
        status = CRASHED
        try:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(file, 1)
            os.dup2(file, 2)
            if points is not None:
                points.install()
            status = command_line(argv)
            if points is not None and points.at < 0:
                output.with_suffix(".points").write_text(str(points.count), encoding="utf-8")
            sys.stdout.flush()
            sys.stderr.flush()
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else CRASHED
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        os._exit(status)
    os.close(file)
    if meanwhile is not None:
        meanwhile(child)
    end = time.monotonic() + PATIENCE
    while True:
        pid, state = os.waitpid(child, os.WNOHANG)
        if pid:
            return Ending(os.waitstatus_to_exitcode(state), output.read_text(encoding="utf-8", errors="replace"))
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            end = float("inf")
        time.sleep(0.005)


@dataclass
class Undisturbed:
    """Undisturbed run of a method."""

    argv: list[str]
    splats: bytes
    points: int
    seconds: float


def undisturbed(method: str, steps: int, root: Path) -> Undisturbed:
    """Run a method without any fault, counting the points at which one could strike."""
    folder, began = root / f"{method}-undisturbed", time.monotonic()
    argv = ["train", "--prompt", "a red mushroom", "--guidance", method, "--steps", str(steps), *SMALL]
    ending = forked([*argv, "--out", str(folder)], root / f"{method}.txt", Points(folder))
    if ending.status:
        raise SystemExit(f"{method} does not even run undisturbed: status {ending.status}\n{ending.said}")
    points = int((root / f"{method}.points").read_text(encoding="utf-8"))
    return Undisturbed(argv, (folder / "splats.ply").read_bytes(), points, time.monotonic() - began)


def after(seconds: float, number: int) -> Callable[[int], None]:
    """Send a signal after some time."""

    def send(child: int) -> None:
        time.sleep(seconds)
        os.kill(child, number)  # one that has ended is still there to be waited for

    return send


def while_training(folder: Path, seconds: float) -> Callable[[int], None]:
    """Return a function that sends SIGHUP some time after the first step."""

    def send(child: int) -> None:
        end = time.monotonic() + PATIENCE
        while not RunDir(folder).last_events() and time.monotonic() < end and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.005)
        after(seconds, signal.SIGHUP)(child)

    return send


def trial(fault: str, whole: Undisturbed, folder: Path, rng: random.Random) -> tuple[str, str]:
    """Run once with a fault, and resume; return the outcome, "" where it is wrong, and a description."""
    output = folder.with_suffix(".txt")
    argv = [*whole.argv, "--out", str(folder)]
    at = rng.randrange(whole.points)
    if fault == "aimed":
        first = forked(argv, output, Points(folder, at))
    elif fault == "random":
        first = forked(argv, output, meanwhile=after(rng.uniform(0, whole.seconds), signal.SIGKILL))
    elif fault == "full":
        first = forked(argv, output, Points(folder, at, full=True))
    else:
        first = forked(argv, output, meanwhile=while_training(folder, rng.uniform(0, 0.3 * whole.seconds)))
    wanted = {"aimed": (0, -signal.SIGKILL), "random": (0, -signal.SIGKILL), "full": (0, 2), "hangup": (0, 128 + signal.SIGHUP)}[fault]
    if first.status not in wanted or (first.status == 2 and not first.refusal):
        return "", f"{fault} at point {at}: status {first.status}\n{first.said}"
    if fault in ("aimed", "random") and rng.random() < 0.25:
        forked(["train", "--no-viewer", "--resume", str(folder)], output, Points(folder, rng.randrange(whole.points // 2)))
    second = forked(["train", "--no-viewer", "--resume", str(folder)], output)
    if second.refusal and "has done" not in second.refusal:
        held = [p.name for p in RunDir(folder).checkpoints()]
        reason = second.refusal.replace(str(folder), "RUN").split(";")[0]
        return ("", f"refused though {held} are there: {reason}") if held else (f"said: {reason}", "")
    if second.status and not second.refusal:
        return "", f"{fault} at point {at}, resumed: status {second.status}\n{second.said}"
    run = RunDir(folder)
    if run.splats.read_bytes() != whole.splats:
        return "", f"{fault} at point {at}: other splats"
    left = [p.name for p in folder.rglob("*") if p.name.endswith((".new", ".old")) or (p.name.startswith(".") and p.is_file())]
    if left or not run.finished() or run.events()[-1]["event"] != "Ended":
        return "", f"{fault} at point {at}: not in order, with {left}"
    return "the same splats", ""


def main() -> int:
    """Make the trials and tell what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="trials in all, over methods and faults in turn")
    parser.add_argument("--methods", nargs="*", default=list(GUIDANCES), choices=list(GUIDANCES))
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=FAULTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=8, help="of each run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loop.finish = partial(loop.finish, size=16, frames=2)  # all the files, quickly
    root = Path(tempfile.mkdtemp(prefix="kill-runs-"))
    whole, found, wrong = {}, collections.Counter(), []
    began = time.monotonic()
    # weights and kernels are loaded once, here
    if command_line(["train", "--prompt", "a red mushroom", "--guidance", "sds", "--steps", "1", *SMALL, "--out", str(root / "warm")]):
        return 1
    for k in range(options.count):
        method, fault = options.methods[k % len(options.methods)], options.faults[k // len(options.methods) % len(options.faults)]
        if method not in whole:
            whole[method] = undisturbed(method, options.steps, root)
        folder = root / f"{k}-{method}-{fault}"
        what, more = trial(fault, whole[method], folder, random.Random(f"{options.seed} {k}"))
        found[method, fault, what or "WRONG"] += 1
        if what:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            wrong.append(f"{folder}: {more}")
            print(f"WRONG {wrong[-1]}", flush=True)
        if (k + 1) % 20 == 0:
            print(f"{k + 1} of {options.count}, {time.monotonic() - began:.0f} s, {len(wrong)} wrong", flush=True)
    for (method, fault, what), count in sorted(found.items()):
        print(f"{method:14} {fault:8} {count:4}  {what}")
    per_method = collections.Counter(m for m, _, _ in found.elements())
    print(f"{sum(found.values())} runs, {', '.join(f'{m} {n}' for m, n in per_method.items())}; {len(wrong)} wrong")
    if not wrong:
        shutil.rmtree(root)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
