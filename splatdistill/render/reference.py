"""The rasteriser in plain PyTorch: the specification that the CPU and CUDA kernels are tested against.

Semantics are those of gsplat 1.5.3 ("gsplat: An Open-Source Library for Gaussian Splatting", arXiv 2409.06765) with
packed=False and rasterize_mode="classic"; EWA splatting after Zwicker et al. 2001, blending after "3D Gaussian
Splatting" (arXiv 2308.04079). Any device, any float type, gradients by autograd; slow, and readable above all.

Per pixel p, over the visible Gaussians by increasing depth z:

    sigma_i = (p - m_i)^T C_i^-1 (p - m_i) / 2        alpha_i = min(0.999, o_i exp(-sigma_i)), skipped under 1/255
    T_i = prod_{j<i} (1 - alpha_j)                    w_i = alpha_i T_i, until T_i (1 - alpha_i) <= 1e-4
    rgb = sum w_i c_i + T b,  alpha = 1 - T,  depth = sum w_i z_i / max(alpha, 1e-10),  normal = sum w_i n_i
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from splatdistill import sh
from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians, rotation_matrices
from splatdistill.render import (
    BLUR,
    MAX_ALPHA,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    NEAR,
    Rasterizer,
    RenderOutput,
    Screen,
)

EXTENT = 3.33  # standard deviations: where even an opaque Gaussian is below MIN_ALPHA
FOV_MARGIN = 0.3  # how far beyond the image, in tangents of the half field of view, the projection is linearised
TILE = 16  # pixels; bounds memory and work, no result depends on it


@dataclass(frozen=True)
class Projection:
    """Gaussians projected to the image planes. Rows of culled Gaussians (radii 0) hold zeros in `means` and `conics`."""

    means: Float[Tensor, "b n 2"]  # pixels, centres at +0.5
    depths: Float[Tensor, "b n"]  # camera z
    conics: Float[Tensor, "b n 3"]  # inverse covariance, entries xx, xy, yy, 1/pixel^2
    half_extents: Int[Tensor, "b n 2"]  # of the box outside which alpha < 1/255, whole pixels; 0 where culled

    @property
    def visible(self) -> Bool[Tensor, "b n"]:
        """Mask of the Gaussians that may touch the image."""
        return self.half_extents[..., 0] > 0


def project(gaussians: Gaussians, cameras: Cameras) -> Projection:
    """Project by EWA: mean through the pinhole, covariance J W Sigma W^T J^T + 0.3 I with the Jacobian J at the mean.

    Far off the axis the linearisation explodes, so J is taken at a point whose x/z and y/z are clamped to a little
    beyond the image; the clamped coordinate then depends on z alone, and so does its gradient.
    Culled: z < 0.01, opacity < 1/255, and a bounding box that misses the image.
    """
    c = cameras.to(gaussians.means.device, gaussians.means.dtype)
    turn, shift = c.world_to_camera[:, :3, :3], c.world_to_camera[:, :3, 3]
    x, y, z = (torch.einsum("bij,nj->bni", turn, gaussians.means) + shift[:, None]).unbind(-1)
    in_front = z >= NEAR
    safe_z = torch.where(in_front, z, 1)  # no division by what is culled anyway: its gradient must be 0, not nan
    fx, fy, cx, cy = (c.intrinsics[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    margin_x, margin_y = FOV_MARGIN * 0.5 * c.width / fx, FOV_MARGIN * 0.5 * c.height / fy
    tan_x = (x / safe_z).clamp(-cx / fx - margin_x, (c.width - cx) / fx + margin_x)
    tan_y = (y / safe_z).clamp(-cy / fy - margin_y, (c.height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([fx / safe_z, zero, -fx * tan_x / safe_z], -1),
            torch.stack([zero, fy / safe_z, -fy * tan_y / safe_z], -1),
        ],
        -2,
    )
    axes = rotation_matrices(gaussians.quats) * gaussians.scales[:, None]
    flat = jacobian @ turn[:, None] @ axes  # (b,n,2,3): its product with its transpose is the projected covariance
    covariance = flat @ flat.transpose(-1, -2)
    xx, xy, yy = covariance[..., 0, 0] + BLUR, covariance[..., 0, 1], covariance[..., 1, 1] + BLUR
    determinant = xx * yy - xy * xy
    means = torch.stack([fx * x / safe_z + cx, fy * y / safe_z + cy], -1)
    conics = torch.stack([yy, -xy, xx], -1) / determinant[..., None]

    with torch.no_grad():
        reach = (2 * (gaussians.opacities / MIN_ALPHA).clamp(min=1).log()).sqrt().clamp(max=EXTENT)
        half = (reach[None, :, None] * torch.stack([xx, yy], -1).sqrt()).ceil()
        size = torch.tensor([c.width, c.height]).to(half)
        on_image = ((means + half > 0) & (means - half < size)).all(-1)
        visible = in_front & (determinant > 0) & (gaussians.opacities >= MIN_ALPHA) & on_image & (half > 0).all(-1)
        half_extents = torch.where(visible[..., None], half, 0).int()
    kept = visible[..., None]
    return Projection(torch.where(kept, means, 0), z, torch.where(kept, conics, 0), half_extents)


def colours(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "b n 3"]:
    """Return max(SH(d) + 1/2, 0) along the direction d from each camera to each Gaussian."""
    position = cameras.to(gaussians.means.device, gaussians.means.dtype).position
    return torch.clamp_min(sh.evaluate(gaussians.sh, gaussians.means - position[:, None]) + 0.5, 0)


def facing_axes(gaussians: Gaussians, cameras: Cameras) -> Float[Tensor, "b n 3"]:
    """Return each Gaussian's shortest axis n (the first of equals), unit, world coordinates, turned to face the camera:
    n . (mean - camera) <= 0.
    """
    shortest = gaussians.scales.argmin(1)[:, None, None].expand(-1, 3, 1)
    axis = rotation_matrices(gaussians.quats).gather(2, shortest)[..., 0]
    position = cameras.to(gaussians.means.device, gaussians.means.dtype).position
    away = ((gaussians.means - position[:, None]).detach() * axis.detach()).sum(-1, keepdim=True) > 0
    return torch.where(away, -axis, axis)


class _Tap(torch.autograd.Function):
    """Identity that passes its gradient also to a leaf beside it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: Tensor, leaf: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], gradients[0]


def _blend(
    pixels: Float[Tensor, "p 2"],
    means: Float[Tensor, "p m 2"],
    conics: Float[Tensor, "m 3"],
    opacities: Float[Tensor, " m"],
    features: Float[Tensor, "m f"],
) -> tuple[Float[Tensor, "p f"], Float[Tensor, " p"]]:
    """Evaluate the equations at the top for some pixels and the Gaussians sorted by depth: sum_i w_i f_i, and T."""
    dx, dy = (means - pixels[:, None]).unbind(-1)
    sigma = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alpha = (opacities * torch.exp(-sigma)).clamp(max=MAX_ALPHA)  # no gradient where clamped
    alpha = torch.where((sigma >= 0) & (alpha >= MIN_ALPHA), alpha, 0)
    # T never grows, so whatever comes behind the Gaussian that would exhaust it fails the same test
    alpha = torch.where((1 - alpha.detach()).cumprod(1) > MIN_TRANSMITTANCE, alpha, 0)
    passed = (1 - alpha).cumprod(1)
    before = torch.cat([alpha.new_ones(len(alpha), 1), passed], 1)
    return (alpha * before[:, :-1]) @ features, before[:, -1]


def _render_view(
    projection: Projection,
    view: int,
    means: Float[Tensor, "n 2"],
    opacities: Float[Tensor, " n"],
    features: Float[Tensor, "n f"],
    size: tuple[int, int],
    absgrad: Float[Tensor, "n 2"] | None,
) -> tuple[Float[Tensor, "f h w"], Float[Tensor, "h w"]]:
    """Render one view, tile by tile; every tile forgets its intermediates and redoes them in the backward pass."""
    width, height = size
    conics, centre, half = projection.conics[view], means.detach(), projection.half_extents[view]
    order = torch.argsort(projection.depths[view].detach().float(), stable=True)  # float32, as gsplat's sort keys
    order = order[projection.visible[view][order]]

    def blend(pixels: Tensor, index: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        means, conics, opacities, features = (value[index] for value in values)
        spread = means.expand(len(pixels), -1, -1)  # one copy per pixel: its gradient is that of each pixel apart

        def add_magnitudes(gradient: Tensor) -> None:
            assert absgrad is not None
            absgrad.index_add_(0, index, gradient.abs().sum(0))

        if absgrad is not None and spread.requires_grad:
            spread.register_hook(add_magnitudes)
        return _blend(pixels, spread, conics, opacities, features)

    rows = []
    for top in range(0, height, TILE):
        row = []
        for left in range(0, width, TILE):
            right, bottom = min(left + TILE, width), min(top + TILE, height)
            low, high = torch.tensor([[left, top], [right, bottom]]).to(centre)
            touches = ((centre + half > low) & (centre - half < high)).all(1)
            y, x = torch.meshgrid(torch.arange(top, bottom), torch.arange(left, right), indexing="ij")
            pixels = torch.stack([x, y], -1).reshape(-1, 2).to(centre) + 0.5
            arguments = pixels, order[touches[order]], means, conics, opacities, features
            values = checkpoint(blend, *arguments, use_reentrant=False, preserve_rng_state=False)
            row.append(torch.cat([values[0], values[1][:, None]], 1).T.reshape(-1, *x.shape))
        rows.append(torch.cat(row, 2))
    image = torch.cat(rows, 1)
    return image[:-1], image[-1]


@dataclass(frozen=True)
class ReferenceRasterizer:
    """Rasteriser in plain PyTorch, see the head of this module. Memory: about 16x16 pixels times the Gaussians that touch them."""

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        background: Float[Tensor, "b 3"] | None = None,
        normals: bool = False,
        absgrad: bool = False,
    ) -> RenderOutput:
        """Render every camera on the Gaussians' device and in their precision. See Rasterizer."""
        projection = project(gaussians, cameras)
        trained = any(getattr(gaussians, f.name).requires_grad for f in fields(gaussians))
        differentiable = trained and torch.is_grad_enabled()
        leaf = projection.means.detach().clone().requires_grad_(differentiable)
        means = _Tap.apply(projection.means, leaf)
        magnitudes = torch.zeros_like(leaf, requires_grad=False) if absgrad and differentiable else None
        if magnitudes is not None:
            setattr(leaf, "absgrad", magnitudes)  # noqa: B010 (where gsplat puts it too)
        features = [colours(gaussians, cameras), projection.depths[..., None]]
        if normals:
            features.append(facing_axes(gaussians, cameras))
        features = torch.cat(features, -1)

        size = cameras.width, cameras.height
        views = [
            _render_view(
                projection,
                view,
                means[view],
                gaussians.opacities,
                features[view],
                size,
                None if magnitudes is None else magnitudes[view],
            )
            for view in range(len(cameras))
        ]
        blended, left = (torch.stack(parts) for parts in zip(*views))
        left = left[:, None]
        alpha = 1 - left
        rgb = blended[:, :3]
        if background is not None:
            rgb = rgb + left * background.to(rgb)[:, :, None, None]
        return RenderOutput(
            rgb=rgb,
            alpha=alpha,
            depth=blended[:, 3:4] / alpha.clamp(min=1e-10),
            normal=blended[:, 4:] if normals else None,
            screen=Screen(leaf, projection.half_extents.amax(-1)),
            cameras=cameras,
        )


def reference_rasterizer() -> Rasterizer:
    """Return the specification, as a rasteriser."""
    return ReferenceRasterizer()
