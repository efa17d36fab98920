"""Pictures of the toybox's truth: the part that sphere tracing and rasterising share.

The kernels add up the samples of each pixel; the averages are taken here. The light is fixed in the world and diffuse, so that
it can be baked into splats. Kernels take it as an argument: one kernel's on-disk cache does not notice an edit of another file.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.system import cores

FAST = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}  # of the kernels' compilation
LIGHT = np.array([0.09, 0.05, 0.24, 0.66, 0.35, 0.65])
"""Brightness of a surface with normal n and openness o in [0, 1]: (l0 nx + l1 ny + l2 nz + l3) (l4 o + l5)."""

Thing = TypeVar("Thing")
Draw = Callable[[Thing, np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]
"""(thing, pose (4,4) world to camera, k (3,3), eye (3,), sums (8,h,w)): adds up the samples of each pixel that hit the thing:
red, green, blue, their number, depth along the camera's z axis, unit normal.
"""


@dataclass(frozen=True)
class Truth:
    """Images of the true object, anti-aliased by averaging samples within the pixel."""

    rgb: Float[Tensor, "b 3 h w"]  # composited over the background, in [0, 1]
    alpha: Float[Tensor, "b 1 h w"]  # share of the pixel that the object covers
    depth: Float[Tensor, "b 1 h w"]  # along the camera's z axis, mean over the covered share; 0 where empty
    normal: Float[Tensor, "b 3 h w"]  # unit, world axes, facing the camera; 0 where empty


def drawn(
    draw: Draw[Thing], things: Sequence[Thing], cameras: Cameras, background: Float[Tensor, "b 3"] | None, samples: int, threads: int | None
) -> Truth:
    """Draw thing i from camera i (one thing: from every camera).

    background: in [0,1], white by default. samples: per pixel side. threads: all cores by default.
    """
    views = len(cameras)
    each = list(things) * views if len(things) == 1 else list(things)
    if len(each) != views:
        raise ValueError(f"{len(each)} objects for {views} cameras: give one object, or one per camera")
    pose = cameras.world_to_camera.double().cpu().numpy()
    k = cameras.intrinsics.double().cpu().numpy()
    eye = -np.einsum("bji,bj->bi", pose[:, :3, :3], pose[:, :3, 3])
    sums = np.zeros((views, 8, cameras.height, cameras.width))
    in_threads(views, lambda i: draw(each[i], pose[i], k[i], eye[i], sums[i]), threads)
    rgb, hits, depth, normal = torch.from_numpy(sums).split([3, 1, 1, 3], 1)
    alpha = hits / samples**2
    behind = 1.0 if background is None else background.double().cpu()[:, :, None, None]
    return Truth(
        (rgb / samples**2 + (1 - alpha) * behind).float(),
        alpha.float(),
        (depth / hits.clamp(min=1)).float(),
        (normal / (normal.norm(dim=1, keepdim=True) + 1e-12)).float(),
    )


def in_threads(count: int, one: Callable[[int], None], threads: int | None) -> None:
    """Run one(0), ..., one(count - 1), which release the interpreter's lock; on all cores by default."""
    workers = min(threads or cores(), count)
    if workers <= 1:
        for i in range(count):
            one(i)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, range(count)))
