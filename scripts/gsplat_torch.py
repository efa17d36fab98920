"""gsplat 1.5.3's own PyTorch code, made to run without CUDA, as a yardstick for benchmark_render.py.

gsplat's projection and its compositing (`accumulate`) run unchanged. Three steps of it exist for CUDA only and are
replaced here: the search for the pairs (Gaussian, pixel) that count, by brute force; and nerfacc's two scans along
rays, by the same sums in compiled loops. The benchmark searches the pairs beforehand, outside the measured time.
"""

import math
import sys
import types
from dataclasses import dataclass
from typing import Any

import gsplat.cuda._torch_impl as gsplat_torch
import numba
import numpy as np
import torch
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians
from splatdistill.render import BLUR, MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, NEAR


@dataclass(frozen=True)
class Pairs:
    """Pairs (Gaussian, pixel) that count, by view, then pixel, then depth."""

    gaussians: Tensor
    pixels: Tensor
    views: Tensor


@numba.njit(cache=True)
def _search(order, means, conics, radii, opacities, width, height, gaussians, pixels):
    """Write as many pairs as fit; return how many there are. Front to back, every pixel until it is full."""
    transmittance = np.ones((height, width))
    full = np.zeros((height, width), np.bool_)
    count = 0
    for i in order:
        rx, ry = radii[i, 0], radii[i, 1]
        if rx <= 0 or ry <= 0:
            continue
        x0, x1 = max(0, int(math.floor(means[i, 0] - rx))), min(width, int(math.ceil(means[i, 0] + rx)))
        y0, y1 = max(0, int(math.floor(means[i, 1] - ry))), min(height, int(math.ceil(means[i, 1] + ry)))
        for y in range(y0, y1):
            for x in range(x0, x1):
                dx, dy = means[i, 0] - (x + 0.5), means[i, 1] - (y + 0.5)
                sigma = 0.5 * (conics[i, 0] * dx * dx + conics[i, 2] * dy * dy) + conics[i, 1] * dx * dy
                alpha = min(MAX_ALPHA, opacities[i] * math.exp(-sigma))
                if full[y, x] or sigma < 0 or alpha < MIN_ALPHA:
                    continue
                following = transmittance[y, x] * (1.0 - alpha)
                if following <= MIN_TRANSMITTANCE:
                    full[y, x] = True
                    continue
                transmittance[y, x] = following
                if count < gaussians.size:
                    gaussians[count], pixels[count] = i, y * width + x
                count += 1
    return count


@numba.njit(cache=True)
def _products_before(factors, starts, counts, out):
    """Write for each entry of a ray the product of the entries before it."""
    for ray in range(starts.size):
        product = 1.0
        for j in range(starts[ray], starts[ray] + counts[ray]):
            out[j] = product
            product *= factors[j]


@numba.njit(cache=True)
def _products_before_backward(factors, products, gradients, starts, counts, out):
    for ray in range(starts.size):
        total = 0.0
        for j in range(starts[ray] + counts[ray] - 1, starts[ray] - 1, -1):
            out[j] = total / max(factors[j], 1e-10)
            total += gradients[j] * products[j]


class _ProductsBefore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, factors: Tensor, starts: np.ndarray, counts: np.ndarray) -> Tensor:
        out = torch.empty_like(factors)
        _products_before(factors.detach().numpy(), starts, counts, out.numpy())
        ctx.save_for_backward(factors, out)
        ctx.rays = starts, counts
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        factors, products = ctx.saved_tensors
        out = torch.empty_like(factors)
        arrays = factors.detach().numpy(), products.numpy(), gradient.contiguous().numpy()
        _products_before_backward(*arrays, *ctx.rays, out.numpy())
        return out, None, None


def _render_weight_from_alpha(alphas: Tensor, ray_indices: Tensor, n_rays: int) -> tuple[Tensor, Tensor]:
    """Return alpha T, and T, as nerfacc's function of this name."""
    counts = torch.bincount(ray_indices, minlength=n_rays)
    starts = torch.cumsum(counts, 0) - counts
    transmittance = _ProductsBefore.apply(1.0 - alphas, starts.numpy(), counts.numpy())
    return transmittance * alphas, transmittance


def _accumulate_along_rays(weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int) -> Tensor:
    """Return the sums of weights, or of weighted values, per ray, as nerfacc's function of this name."""
    source = weights[:, None] if values is None else weights[:, None] * values
    return torch.zeros(n_rays, source.shape[-1], dtype=source.dtype).index_add_(0, ray_indices, source)


def _provide_nerfacc() -> None:
    module = types.ModuleType("nerfacc")
    module.render_weight_from_alpha = _render_weight_from_alpha  # type: ignore[attr-defined]
    module.accumulate_along_rays = _accumulate_along_rays  # type: ignore[attr-defined]
    sys.modules["nerfacc"] = module


def _projected(gaussians: Gaussians, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    covariances, _ = gsplat_torch._quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, True, False, triu=False)
    radii, means, depths, conics, _ = gsplat_torch._fully_fused_projection(
        gaussians.means, covariances, cameras.world_to_camera, cameras.intrinsics, cameras.width, cameras.height,
        eps2d=BLUR, near_plane=NEAR, calc_compensations=False,
    )  # fmt: skip
    return radii, means, depths, conics


def find_pairs(gaussians: Gaussians, cameras: Cameras) -> Pairs:
    """Return all (pixel, Gaussian) pairs that count."""
    with torch.no_grad():
        radii, means, depths, conics = (x.numpy() for x in _projected(gaussians, cameras))
    opacities = gaussians.opacities.detach().double().numpy()
    parts = []
    for view in range(len(cameras)):
        order = np.argsort(depths[view], kind="stable")
        arguments = order, means[view].astype(float), conics[view].astype(float), radii[view], opacities
        size = cameras.width, cameras.height
        count = _search(*arguments, *size, np.empty(0, np.int64), np.empty(0, np.int64))
        found = np.empty(count, np.int64), np.empty(count, np.int64)
        _search(*arguments, *size, *found)
        by_pixel = np.argsort(found[1], kind="stable")
        parts.append((found[0][by_pixel], found[1][by_pixel], np.full(count, view)))
    return Pairs(*(torch.from_numpy(np.concatenate(column)) for column in zip(*parts)))


def render(gaussians: Gaussians, cameras: Cameras, background: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return rgb and expected depth (b,h,w,4) and alpha (b,h,w,1); constant colours."""
    _provide_nerfacc()
    _, means, depths, conics = _projected(gaussians, cameras)
    views = len(cameras)
    colours = torch.clamp_min(gaussians.rgb, 0).expand(views, -1, -1)
    channels = torch.cat([colours, depths[..., None]], -1)
    image, alpha = gsplat_torch.accumulate(
        means, conics, gaussians.opacities.expand(views, -1), channels, pairs.gaussians, pairs.pixels, pairs.views,
        cameras.width, cameras.height,
    )  # fmt: skip
    rgb = image[..., :3] + background[:, None, None] * (1 - alpha)
    return torch.cat([rgb, image[..., 3:] / alpha.clamp(min=1e-10)], -1), alpha
