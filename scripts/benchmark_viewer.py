"""Cost of the live viewer to a run: with nobody looking on, and with one page open.

    python scripts/benchmark_viewer.py                     # 20,000 splats, the embedded prior

Blocks of steps with and without the viewer take turns within one run, so that both meet the same machine; the ratio is that
of neighbours, once averaged over all pairs and once over their middle half, which what else the machine did in a few blocks
does not move, each with its 95 % interval. The viewer's clock stands still in the blocks without it: its budget is a share of
the time, and what it did not use there it would use in the others. The process's own processor time includes the viewer's
threads. The page is a program of its own that reads all that is sent. The first row compares blocks without the viewer with
others without it: what it shows is the machine's.
"""

import argparse
import dataclasses
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from splatdistill_viewer.run_page import RunPage

from splatdistill.api import settle
from splatdistill.priors.weights import TINY, load
from splatdistill.train.commands import Commands
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session

PAGE = """
import sys, msgspec, viser
from websockets.sync.client import connect
with connect(sys.argv[1], subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None) as s:
    s.send(msgspec.msgpack.encode(dict(type="ViewerCameraMessage", wxyz=(.5, -.5, -.5, .5), position=(2.8, 0., 0.), fov=.75,
        near=.01, far=100., image_height=720, image_width=1280, look_at=(0., 0., 0.), up_direction=(0., 0., 1.))))
    for message in s:
        pass
"""


class Clock:
    """Clock in seconds that can be stopped."""

    def __init__(self) -> None:
        self.stopped_for, self.since = 0.0, None

    def __call__(self) -> float:
        """Return the current time."""
        return (self.since or time.perf_counter()) - self.stopped_for

    def stop(self) -> None:
        """Time does not count from here on."""
        self.since = time.perf_counter()

    def go(self) -> None:
        """Time counts again."""
        if self.since is not None:
            self.stopped_for += time.perf_counter() - self.since
            self.since = None


def block(session: Session, live: RunPage | None, steps: int) -> tuple[float, float, float]:
    """Return seconds a step: of wall time, of processor time, and of wall time that the run waited for the viewer."""
    wall, work, waited = time.perf_counter(), time.process_time(), 0.0
    for _ in range(steps):
        done = session.step()
        if live is not None:
            began = time.perf_counter()
            live(done)
            waited += time.perf_counter() - began
    return (time.perf_counter() - wall) / steps, (time.process_time() - work) / steps, waited / steps


def compare(what: str, session: Session, live: RunPage | None, clock: Clock, blocks: int, steps: int) -> None:
    """Print one row; without a viewer to compare with, how equal blocks differ."""
    without, with_it = [], []
    for k in range(2 * blocks):
        if k % 4 in (0, 3):  # without, with, with, without: a run that grows slower or faster favours neither
            clock.stop()
            without.append(block(session, None, steps))
        else:
            clock.go()
            with_it.append(block(session, live, steps))
    bare = [statistics.mean(c) for c in zip(*without)]
    waited = statistics.mean(w for _, _, w in with_it) / bare[0]
    print(f"{what}: a step of {1000 * bare[0]:.1f} ms waits {waited:.2%} for the viewer, and is longer by")
    for column, clock_of in enumerate(("on the wall", "of the processor")):
        ratios = [math.log(b[column] / a[column]) for a, b in zip(without, with_it)]  # of plain ratios noise would raise the mean
        print(f"{'':4s}{clock_of:16s} {interval(ratios, statistics.mean)} of all pairs, {interval(ratios, middle)} of their middle half", flush=True)


def interval(ratios: list[float], average: Callable[[list[float]], float]) -> str:
    """Return an average of logarithms as a change, with its 95 % interval, by bootstrap."""
    chance = random.Random(0)
    drawn = sorted(average(chance.choices(ratios, k=len(ratios))) for _ in range(2000))
    mean, low, high = (math.expm1(x) for x in (average(ratios), drawn[50], drawn[-50]))
    return f"{mean:+.1%} [{low:+.1%}, {high:+.1%}]"


def middle(values: list[float]) -> float:
    """Return the mean of the middle half."""
    quarter = len(values) // 4
    return statistics.mean(sorted(values)[quarter : len(values) - quarter])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splats", type=int, default=20_000)
    parser.add_argument("--blocks", type=int, default=240, help="pairs of them")
    parser.add_argument("--steps", type=int, default=6, help="of a block: short ones meet the same machine as their neighbour")
    parser.add_argument("--guidance", default="sds", help="sds does the same work at every step, so that least is left to chance")
    args = parser.parse_args()
    config = settle("a red mushroom", args.guidance, {"prior": "tiny"})[0].config
    config = dataclasses.replace(config, steps=100_000, init=dataclasses.replace(config.init, count=args.splats))
    session = Session(config, load_tiny())
    with tempfile.TemporaryDirectory() as folder:
        live = RunPage(session, RunDir.create("p", Path(folder) / "run"), Commands(), 8900)
        live.share.clock = live.alone.clock = clock = Clock()
        try:
            block(session, live, 5)
            compare("nothing", session, None, clock, args.blocks, args.steps)
            compare("nobody looks on", session, live, clock, args.blocks, args.steps)
            page = subprocess.Popen([sys.executable, "-c", PAGE, live.where[0].replace("http", "ws", 1)])
            try:
                while not live.browsers.any:
                    time.sleep(0.1)
                block(session, live, 5)
                spent, began, frames = live.share.spent, clock(), live.sent
                compare("one page", session, live, clock, args.blocks, args.steps)
                took = clock() - began
                print(f"{'':4s}the viewer's own account: {(live.share.spent - spent) / took:.2%} of the blocks with it, {live.sent - frames} frames")
            finally:
                page.kill()
                page.wait()
        finally:
            live.close()


def load_tiny():
    """Return the embedded prior on the CPU."""
    from splatdistill.priors import weights

    return load(weights.find("tiny"), "cpu", "auto") if TINY.exists() else sys.exit("the embedded weights are not in this checkout")


if __name__ == "__main__":
    main()
