"""Cost of every guidance: time, network evaluations, memory, and what it adds to its own networks' time.

    python scripts/benchmark_guidance.py                          # tiny, and a random UNet of SD 1.5's shape, made small
    python scripts/benchmark_guidance.py --size 320 --device cuda # SD 1.5 itself, with random weights

A step is one call of the guidance on a batch of latents, its backward pass to them, and what it learns (VSD); nothing
is rendered. Overhead is the step's time over that of the very same network calls, recorded from this method's own
steps and repeated alone, learning included. Methods and repeats are interleaved, so that whatever else the machine
does falls on all alike; measurements are medians over repeats, with quartiles. Peak memory is that of a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from splatdistill.guidance import GUIDANCES, Guidance, View
from splatdistill.priors import Condition, DiffusionPrior, Query
from splatdistill.priors.weights import load
from splatdistill.train.divergence import peak_memory
from splatdistill.train.image2d import conditions

PROGRESS = 0.4  # of the run: times and stages of the schedules are those of this moment
SEEDS = 3  # different steps of each method, in turn: how often ISM asks depends on the time it draws
GOAL = 1.05


@dataclass
class Tape:
    """Recorder of a prior's queries, so that they can be repeated."""

    answer: Callable[[Sequence[Query]], tuple[Tensor, ...]]
    asked: list[tuple[Query, ...]] = field(default_factory=list)

    def __call__(self, queries: Sequence[Query]) -> tuple[Tensor, ...]:
        """Answer a query and record it."""
        self.asked.append(tuple(queries))
        return self.answer(queries)


@dataclass
class Bench:
    """Benchmark of one guidance on one prior."""

    name: str
    guidance: Guidance
    prior: DiffusionPrior
    batch: int
    memory: nn.Module = field(init=False)
    x: nn.Parameter = field(init=False)
    asked: dict[int, list[tuple[Query, ...]]] = field(default_factory=dict)  # by seed
    images: list[float] = field(default_factory=list)  # per view, of the steps that were recorded
    whole: list[float] = field(default_factory=list)  # seconds of each repeat
    alone: list[float] = field(default_factory=list)  # of the same network calls

    def __post_init__(self) -> None:
        side = self.prior.image_size
        with torch.no_grad():
            x = self.prior.encode(torch.rand(self.batch, 3, side, side, generator=torch.Generator().manual_seed(1)).to(self.prior.device))
        self.x = nn.Parameter(x)
        self.text = conditions(self.prior, "a red mushroom", self.batch)
        self.memory = self.guidance.init(self.prior)

    def step(self, seed: int) -> None:
        """Run one step of the guidance."""
        view = View(self.x, self.text, self.prior, torch.Generator().manual_seed(seed), PROGRESS)
        self.guidance(view, self.memory).loss.backward()
        self.guidance.learn(view, self.memory)

    def listen(self, seed: int) -> None:
        """Make the step of a seed, and remember what networks were asked in it."""
        tape = Tape(self.prior.answer)
        self.prior.answer = tape  # type: ignore[method-assign]
        before = self.prior.calls
        try:
            self.step(seed)
        finally:
            del self.prior.answer
        self.asked[seed] = tape.asked
        self.images.append((self.prior.calls - before) / self.batch)

    def networks(self, seed: int) -> None:
        """Run only the network calls of a seed's step."""
        for queries in self.asked[seed]:
            self.prior.answer(queries)
        self.guidance.learn(View(self.x, self.text, self.prior, torch.Generator().manual_seed(seed), PROGRESS), self.memory)

    def repeat(self, k: int) -> None:
        """Time one step, and its network calls alone, in alternating order, so that neither profits from a warm cache."""
        seed = sorted(self.asked)[k % len(self.asked)]
        order = [(self.whole, self.step), (self.alone, self.networks)]
        for kept, work in order if k % 2 else reversed(order):
            kept.append(timed(lambda work=work: work(seed), self.prior.device))


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of some work until the device has finished it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def sd_like(size: int, sample: int, device: str) -> DiffusionPrior:
    """Return SD 1.5's UNet with `size` channels in the place of 320 and random weights, over `sample` x `sample` latents."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from splatdistill.priors.parts import Parts
    from splatdistill.priors.schedule import TableSchedule
    from splatdistill.priors.stable import StableDiffusionPrior

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=sample,
        cross_attention_dim=768,
        block_out_channels=(size, 2 * size, 4 * size, 4 * size),
        norm_num_groups=min(32, size),
    )  # every other default is SD 1.5's
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = AutoencoderKL(down_block_types=down, up_block_types=up, block_out_channels=(8, 8, 8, 8), norm_num_groups=8, latent_channels=4)
    prior = StableDiffusionPrior(
        Parts(unet.to(device), vae.to(device), (), (), TableSchedule.scaled_linear(), "epsilon"),  # no text: embed is replaced below
        image_size=8 * sample,
        name=f"SD 1.5's UNet, {size} channels, {sum(p.numel() for p in unet.parameters()) / 1e6:.0f} M, {sample}x{sample}",
    )
    # random embeddings of CLIP's shape: their values cost nothing
    prior.read = lambda prompts: Condition(torch.stack([torch.randn(77, 768, generator=torch.Generator().manual_seed(len(p))) for p in prompts]).to(device))  # type: ignore[method-assign]
    return prior


def prior_of(which: str, args: argparse.Namespace) -> DiffusionPrior:
    """Return the embedded prior tiny, or the one with random weights."""
    return load("tiny", args.device) if which == "tiny" else sd_like(args.size, args.sample, args.device)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) < 2:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def memory_of(which: str, name: str, args: argparse.Namespace) -> int:
    """Return the peak bytes of a process that only runs two steps."""
    argv = [sys.executable, __file__, "--only-memory", which, name, "--batch", str(args.batch), "--device", args.device]
    done = subprocess.run([*argv, "--size", str(args.size), "--sample", str(args.sample)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def table(which: str, args: argparse.Namespace) -> dict:
    """Measure all methods on one prior and print them."""
    prior = prior_of(which, args)
    benches = [Bench(name, GUIDANCES[name](), prior, args.batch) for name in args.guidances]
    print(f"\n{prior.name}, batch {args.batch}, {args.repeats} interleaved repeats, {prior.device}", flush=True)
    for seed in range(SEEDS):  # unmeasured, which also fills caches
        for b in benches:
            b.listen(seed)
    for k in range(args.repeats):
        for b in benches:
            b.repeat(k)
    rows = []
    for b in benches:
        low, middle, high = quartiles(b.whole)
        first = benches[0]
        over = quartiles([w / a for w, a in zip(b.whole, b.alone)])
        ratio = quartiles([w / s for w, s in zip(b.whole, first.whole)])
        peak = memory_of(which, b.name, args) / 2**30 if args.memory else float("nan")
        rows.append({"method": b.name, "seconds": middle, "quartiles": [low, high], "images_per_view": sum(b.images) / len(b.images)})
        rows[-1] |= {"against_first": ratio, "overhead": over, "peak_GiB": peak}
        flag = "" if over[1] <= GOAL else "  above the goal"
        print(
            f"  {b.name:14s} {1e3 * middle:9.1f} ms [{1e3 * low:.1f}, {1e3 * high:.1f}]  {rows[-1]['images_per_view']:5.1f} images/view  "
            f"{ratio[1]:6.2f} x {first.name}  overhead {over[1]:.3f} [{over[0]:.3f}, {over[2]:.3f}]  peak {peak:.2f} GiB{flag}",
            flush=True,
        )
    return {"prior": prior.name, "batch": args.batch, "device": args.device, "rows": rows}


def main() -> None:
    """Run this script's command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--priors", nargs="*", default=["tiny", "sd"], choices=["tiny", "sd"])
    parser.add_argument("--guidances", nargs="*", default=list(GUIDANCES), choices=list(GUIDANCES))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--size", type=int, default=32, help="channels of the first block; SD 1.5 has 320")
    parser.add_argument("--sample", type=int, default=32, help="latent pixels per side; SD 1.5 has 64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the processes that measure memory")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--only-memory", nargs=2, metavar=("PRIOR", "METHOD"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_memory:
        which, name = args.only_memory
        bench = Bench(name, GUIDANCES[name](), prior_of(which, args), args.batch)
        for seed in range(2):
            bench.step(seed)
        print(peak_memory(bench.prior.device))
        return
    print(f"{torch.get_num_threads()} threads")
    found = [table(which, args) for which in args.priors]
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
