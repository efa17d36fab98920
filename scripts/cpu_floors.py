"""Least times that a CPU could take for a render: two lower bounds on time for benchmark_render.py.

Flop floor: pairs (Gaussian, pixel) that count, times 37 operations forwards and 65 backwards, at the rate of fused
multiply-adds that this processor reaches in a loop of nothing else. It ignores projection, sorting, and lanes of a
block that do not count.

Kernel floor: (Gaussian, block) entries, times what one takes where nothing else happens: large faint Gaussians over
one tile, whose rows stay in the first-level cache.
"""

import time
from dataclasses import dataclass

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils

from splatdistill.cameras import Cameras, orbit
from splatdistill.gaussians import Gaussians
from splatdistill.render.cpu import pipeline
from splatdistill.render.cpu.buffers import CameraBuffers, Composited, Images, Shapes, Tiles, channel_tag, degree_tag
from splatdistill.render.cpu.kernels import layout
from splatdistill.render.cpu.kernels.simd import INT64, Simd, Vec, emitted
from splatdistill.render.cpu.rasterize import pack_view

FLOPS_PER_PAIR = 37 + 65
CHAINS = 12  # independent multiply-adds: more than any processor has under way


@emitted
def _multiply_add(s: Simd, array, rounds) -> None:
    slots = [cgutils.alloca_once_value(s.builder, s.constant(1.0 + 0.01 * i).value) for i in range(CHAINS)]
    with cgutils.for_range(s.builder, rounds, intp=INT64):
        for slot in slots:
            s.builder.store(s.fma(Vec(s, s.builder.load(slot)), 0.9999, 0.0001).value, slot)
    total = s.constant(0.0)
    for slot in slots:
        total = total + Vec(s, s.builder.load(slot))
    s.store(total, array, ir.Constant(INT64, 0))


@numba.njit(nogil=True)
def _multiply_add_loop(array, rounds):
    _multiply_add(array, rounds)


def peak_flops(rounds: int = 400_000) -> float:
    """Return the operations a second of one core, a fused multiply-add counting as two."""
    out = np.empty(16, np.float32)
    _multiply_add_loop(out, 1)
    start = time.thread_time()
    _multiply_add_loop(out, rounds)
    return rounds * CHAINS * 16 * 2 / (time.thread_time() - start)


@dataclass(frozen=True)
class Staged:
    """Stages of a render, and the time of compositing, forwards and backwards."""

    tiles: Tiles
    composited: Composited
    seconds: float

    @property
    def entries(self) -> int:
        """Return the number of (Gaussian, block) entries that tiles looked at."""
        starts, used = self.tiles.starts[:-1], self.composited.used
        masks = [self.composited.masks[start : start + count] for start, count in zip(starts, used)]
        return int(np.unpackbits(np.concatenate(masks).view(np.uint8)).sum()) if masks else 0


def staged(gaussians: Gaussians, cameras: Cameras) -> Staged:
    """Render on one thread with gradients of 1 everywhere. Needs whole groups of Gaussians."""
    view = pack_view(cameras, torch.float32)
    parts = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities)
    shapes = Shapes(*(x.detach().contiguous().numpy().reshape(-1) for x in parts))
    if len(gaussians) % layout.GROUP:
        raise ValueError(f"{len(gaussians)} Gaussians are not a multiple of {layout.GROUP}")
    sh, tag = gaussians.sh.detach().contiguous().numpy().reshape(-1), channel_tag(False)
    colours = pipeline.shade(sh, len(gaussians), shapes, view, degree_tag(1))
    projection = pipeline.project(shapes, colours, True, view, tag)
    tiles = pipeline.bin_tiles(projection, shapes.padded, view)
    start = time.thread_time()
    images = _images(view)
    background = np.zeros(3 * view.count, np.float32)
    composited = pipeline.composite(projection.rows, tiles, view, background, images, tag)
    ones = _images(view)
    pipeline.composite_backward(projection.rows, tiles, view, images, composited, ones, tag, ())
    seconds = time.thread_time() - start
    return Staged(tiles, composited, seconds)


def _images(view: CameraBuffers) -> Images:
    size = view.count * view.padded[0] * view.padded[1]
    return Images(*(np.ones(planes * size, np.float32) for planes in (3, 0, 1, 1)))


def seconds_per_entry(repeats: int = 5) -> float:
    """Return the seconds an entry costs the kernels, forwards and backwards."""
    n = 1600
    quats = torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1)
    faint = Gaussians(torch.zeros(n, 3), quats, torch.ones(n, 3), torch.full((n,), 0.005), torch.zeros(n, 1, 3))
    runs = [staged(faint, orbit([0.0], width=layout.TILE)) for _ in range(repeats)]
    return min(run.seconds / run.entries for run in runs)
