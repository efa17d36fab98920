"""Speed of the compiled CPU rasteriser against everything it can be compared with, in one run.

    python scripts/benchmark_render.py --quick

For every scene: milliseconds of a forward and a backward pass (rgb, alpha and depth over a background, gradients to
everything); how many times longer our PyTorch reference and gsplat's PyTorch code take (the latter with its pairs
found for it); and how many times longer we take than the flop floor and the kernel floor (see cpu_floors.py).

Scenes: "init", a ball of faint round blobs as at the start of a distillation; "obj", a surface of thin, mostly opaque
discs. One thread is timed by its CPU time, which other programs hardly change; more are timed by the clock, so that the
machine should be idle. Everything is a median, and the peak is measured between the renders. Torch's threads wait as
the commands let them (GOMP_SPINCOUNT): left to themselves they keep the second core from the rasteriser's.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from splatdistill.cli import SPIN

os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # as every command does: torch reads it when the next line loads it
import cpu_floors
import gsplat_torch
import torch

from splatdistill.cameras import Cameras, orbit
from splatdistill.gaussians import SH_C0, Gaussians
from splatdistill.render import Rasterizer, rasterizer
from splatdistill.render.reference import reference_rasterizer

GRID = [(n, width) for n in (1008, 5008, 20000, 50000) for width in (64, 128, 256, 512)]
QUICK = [(1008, 64), (5008, 128), (20000, 256)]
KINDS = ("init", "obj")
SLOW = 20_000 * 256 * 256  # Gaussians times pixels; from here on the references run once, without a warm-up


def scene(kind: str, n: int, degree: int, seed: int = 0) -> Gaussians:
    """Return a scene as leaves that require gradients."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng)

    quats, directions = normal(n, 4), torch.nn.functional.normalize(normal(n, 3), dim=1)
    if kind == "init":
        means = 0.5 * torch.rand(n, 1, generator=rng) ** (1 / 3) * directions
        scales = 0.5 * n ** (-1 / 3) * torch.exp(0.2 * normal(n, 1)).expand(n, 3)
        opacities = torch.full((n,), 0.1)
    else:
        bumps = torch.sin(5 * directions[:, :1]) * torch.cos(4 * directions[:, 1:2])
        means = 0.6 * (1 + 0.15 * bumps) * directions + 0.01 * normal(n, 3)
        scales = 0.96 * math.sqrt(4 / n) * torch.exp(0.5 * normal(n, 3)) * torch.tensor([1.0, 0.6, 0.2])
        opacities = torch.sigmoid(1.5 * normal(n) + 1)
    sh = 0.1 * normal(n, (degree + 1) ** 2, 3)
    sh[:, 0] = (torch.rand(n, 3, generator=rng) - 0.5) / SH_C0
    values = (means, torch.nn.functional.normalize(quats, dim=1), scales, opacities, sh)
    return Gaussians(*(value.contiguous().requires_grad_() for value in values))


@dataclass(frozen=True)
class Timed:
    """Measured seconds."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        return self.forward + self.backward


def timed(
    forward: Callable[[], list[torch.Tensor]], leaves: Gaussians, repeats: int, warm: int, clock: Callable[[], float],
    between: Callable[[], object] = lambda: None,
) -> Timed:  # fmt: skip
    """Return medians over repeats of building the images and of their backward pass, which adds to no earlier gradients, as in
    a training step.
    """
    wanted = [getattr(leaves, name) for name in ("means", "quats", "scales", "opacities", "sh")]
    runs = []
    for _ in range(warm + repeats):
        between()
        start = clock()
        images = forward()
        middle = clock()
        torch.autograd.grad(images, wanted, [_cotangent(image) for image in images])
        runs.append((middle - start, clock() - middle))
    return Timed(*(statistics.median(column) for column in zip(*runs[warm:])))


_cotangents: dict[tuple[int, ...], torch.Tensor] = {}


def _cotangent(image: torch.Tensor) -> torch.Tensor:
    shape = tuple(image.shape)
    if shape not in _cotangents:
        _cotangents[shape] = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return _cotangents[shape]


def images_of(render: Rasterizer, gaussians: Gaussians, cameras: Cameras) -> list[torch.Tensor]:
    """Return the images of one forward pass."""
    output = render(gaussians, cameras, torch.ones(len(cameras), 3))
    return [output.rgb, output.alpha, output.depth]


def rows(kind: str, n: int, width: int, threads: list[int], args: argparse.Namespace, per_entry: float) -> list[str]:
    """Return the table's lines for one scene."""
    gaussians, cameras = scene(kind, n, args.degree), orbit([17.0 + 360 * i / args.views for i in range(args.views)], 15.0, 2.2, 49.1, width)
    compiled = rasterizer("cpu")
    slow = n * width * width * args.views >= SLOW
    torch.set_num_threads(1)
    pairs = gsplat_torch.find_pairs(gaussians, cameras)
    entries = cpu_floors.staged(gaussians, cameras).entries if args.degree == 0 else 0
    theirs, reference = None, None
    if args.degree == 0:
        theirs = timed(
            lambda: list(gsplat_torch.render(gaussians, cameras, torch.ones(len(cameras), 3), pairs)), gaussians,
            1 if slow else 3, 1, time.thread_time,
        )  # fmt: skip
    if not args.no_reference:
        reference = timed(
            lambda: images_of(reference_rasterizer(), gaussians, cameras), gaussians,
            1 if slow else 2, 0 if slow else 1, time.thread_time,
        )  # fmt: skip
    lines = []
    for count in threads:
        torch.set_num_threads(count)
        peaks: list[float] = []
        ours = timed(
            lambda: images_of(compiled, gaussians, cameras), gaussians, args.repeats, 3,
            time.thread_time if count == 1 else time.perf_counter, lambda peaks=peaks: peaks.append(cpu_floors.peak_flops(100_000)),
        )  # fmt: skip
        flop_floor = len(pairs.pixels) * cpu_floors.FLOPS_PER_PAIR / (statistics.median(peaks) * count)
        ratios = [
            f"{reference.total / ours.total:9.0f}x" if reference else f"{'-':>10}",
            f"{theirs.total / ours.total:7.1f}x" if theirs else f"{'-':>8}",
            f"{ours.total / flop_floor:9.1f}x",
            f"{ours.total / (entries * per_entry / count):9.2f}x" if entries else f"{'-':>10}",
        ]
        numbers = f"{1e3 * ours.forward:8.2f} {1e3 * ours.backward:8.2f} {1e3 * ours.total:8.2f}"
        lines.append(f"{kind:5} {n:6d} {width:4d} {count:4d} {numbers} {' '.join(ratios)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three sizes of sixteen")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts (default: 1 2)")
    parser.add_argument("--sizes", nargs="+", metavar="NxWIDTH", help="own sizes, e.g. 5008x128 (N a multiple of 16)")
    parser.add_argument("--views", type=int, default=1, help="cameras a render, as many as a training step has (default: 1)")
    parser.add_argument("--repeats", type=int, default=11, help="renders per median (default: 11)")
    parser.add_argument("--degree", type=int, default=0, help="of the colours; gsplat, kernel floor only at 0")
    parser.add_argument("--no-reference", action="store_true", help="leave out our reference, the slowest")
    args = parser.parse_args()
    grid = QUICK if args.quick else GRID
    if args.sizes:
        grid = [(int(n), int(width)) for n, width in (size.split("x") for size in args.sizes)]

    rasterizer("cpu")
    torch.set_num_threads(1)
    peak = statistics.median(cpu_floors.peak_flops() for _ in range(5))
    per_entry = cpu_floors.seconds_per_entry()
    print(f"one core: {peak / 1e9:.0f} GFLOP/s fused multiply-adds; {per_entry * 1e9:.1f} ns per (Gaussian, 4x4 block)")
    print("                          ---------- ms ----------  they take longer    we take longer than")
    print("scene      n   px  thr   forward backward    total  reference   gsplat  flop floor kernel floor")
    for kind in KINDS:
        for n, width in grid:
            for line in rows(kind, n, width, args.threads, args, per_entry):
                print(line, flush=True)


if __name__ == "__main__":
    main()
