"""Speed of training, and the quality of its result at 1, 2 and 5 minutes, with the embedded prior.

    python scripts/benchmark_train.py                      # speed of SDS and SDI, share of the networks, memory
    python scripts/benchmark_train.py --quality 1 2 5      # also what that many minutes are worth
    python scripts/benchmark_train.py --particles 8        # only that many particles of VSD against as many single runs

The speed rows use 2,000 Gaussians, 2 views a step, 64x64 pixels. "Everything else" is a step's time minus that
of its calls of the prior (text embeddings are cached), measured in the same steps. Particles share VSD's adapter, and a step is
one particle's; rounds of as many steps of one run, and of a step of each single run, take turns. Seconds that the process computed.
"""

import argparse
import dataclasses
import time

import torch
from benchmark_guidance import quartiles

from splatdistill.api import settle
from splatdistill.estimators import load_judge
from splatdistill.evaluate.acceptance import judge, look
from splatdistill.guidance import SDS
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.weights import TINY, load
from splatdistill.render import rasterizer
from splatdistill.scene.initial import Ball
from splatdistill.toybox import parse
from splatdistill.train.config import Train
from splatdistill.train.divergence import peak_memory
from splatdistill.train.session import Session


def recipe(guidance: str, prompt: str) -> Train:
    """Return the configuration of `splatdistill train` with --prior tiny, a guidance and a prompt."""
    return settle(prompt, guidance, {"prior": "tiny"})[0].config


class Clock:
    """Clock that adds up the seconds spent in a prior's networks."""

    def __init__(self, prior: DiffusionPrior):
        self.seconds, self.answer = 0.0, prior.answer
        prior.answer = self  # type: ignore[method-assign]

    def __call__(self, queries):
        began = time.perf_counter()
        answers = self.answer(queries)
        self.seconds += time.perf_counter() - began
        return answers


def speed(name: str, config: Train, prior: DiffusionPrior, steps: int) -> None:
    """Print one row: steps a second, calls, and the share of everything that is not the networks."""
    session, clock = Session(config, prior), Clock(prior)
    for _ in range(5):
        session.step()
    clock.seconds, prior.calls, times = 0.0, 0, []
    for _ in range(steps):
        began = time.perf_counter()
        session.step()
        times.append(time.perf_counter() - began)
    del prior.answer
    total = sum(times)
    median = sorted(times)[len(times) // 2]
    print(
        f"{name:22s} {1 / median:8.1f} steps/s   {prior.calls / steps:6.1f} images/step   everything else {1 - clock.seconds / total:6.1%} of a step",
        flush=True,
    )


def particles(count: int, prior: DiffusionPrior, rounds: int) -> None:
    """Print the time of a run of several particles over that of as many single runs, at equal steps and network images."""
    config = recipe("vsd", "a red mushroom")
    together = Session(dataclasses.replace(config, particles=count, steps=count * config.steps), prior)
    alone = [Session(dataclasses.replace(config, seed=seed), prior) for seed in range(count)]

    def taken(sessions: list[Session]) -> float:
        began = time.process_time()
        for session in sessions:
            session.step()
        return time.process_time() - began

    ratios, images = [], [0, 0]
    for k in range(rounds + 2):
        order = [[together] * count, alone]
        seconds = []
        for which in (0, 1) if k % 2 else (1, 0):
            before = prior.calls
            seconds.append((which, taken(order[which])))
            images[which] += prior.calls - before
        found = dict(seconds)
        if k > 1:  # the first ones embed texts and compile
            ratios.append(found[0] / found[1])
    low, median, high = quartiles(ratios)
    print(f"{count} particles of VSD: {median:.3f} [{low:.3f}, {high:.3f}] of the time of {count} single runs, {rounds} rounds, {images[0]} and {images[1]} network images")


def quality(prompts: list[str], minutes: list[float], guidance: str, prior: DiffusionPrior) -> None:
    """Print the acceptance score of runs whose steps were chosen to fill the given minutes on this machine."""
    scorer = load_judge(TINY.parent / "clip")
    for m in minutes:
        scores = []
        for prompt in prompts:
            config = recipe(guidance, prompt)
            probe = Session(config, prior)
            began = time.perf_counter()
            for _ in range(40):
                probe.step()
            steps = max(20, int(60 * m / ((time.perf_counter() - began) / 40)))
            session = Session(dataclasses.replace(config, steps=steps), prior)
            while session.state.step < steps:
                session.step()
            sight = look(session.gaussians(), rasterizer("cpu"))
            scores.append(judge(sight, parse(prompt), scorer, prior, torch.Generator().manual_seed(0)).record())
        views = sum(s.views_right for s in scores) / len(scores)
        iou, psnr = (sum(getattr(s, k) for s in scores) / len(scores) for k in ("iou", "psnr"))
        print(
            f"{guidance}  {m:4.1f} min ({steps} steps): right from {views:.1f} of 8 views, IoU {iou:.2f}, PSNR {psnr:.1f} dB, passed {sum(s.passed for s in scores)} of {len(scores)}",
            flush=True,
        )


def main() -> None:
    """Run this script's command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--quality", type=float, nargs="*", default=[], metavar="MINUTES")
    parser.add_argument("--guidances", nargs="*", default=["sdi", "sds"], help="whose quality")
    parser.add_argument("--prompts", nargs="*", default=["a red mushroom", "a blue robot", "a purple chair"])
    parser.add_argument("--particles", type=int, metavar="N", help="measure only N particles against N single runs, --steps rounds")
    args = parser.parse_args()
    prior = load("tiny", "cpu")
    print(f"{torch.get_num_threads()} threads, prior {prior.name}", flush=True)
    if args.particles:
        return particles(args.particles, prior, args.steps)
    for name in ("sds", "sdi"):
        config = dataclasses.replace(recipe(name, "a red mushroom"), init=Ball(count=2000), batch=2)
        speed(f"{name} (recipe)", config, prior, args.steps)
    plain = Train(prompt="a red mushroom", guidance=SDS(), init=Ball(count=2000), batch=2)
    speed("sds (paper)", plain, prior, args.steps)
    print(f"peak memory {peak_memory(torch.device('cpu')) / 2**30:.2f} GiB")
    for name in args.guidances if args.quality else ():
        quality(args.prompts, args.quality, name, prior)


if __name__ == "__main__":
    main()
