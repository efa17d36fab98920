"""The rasteriser on CUDA: gsplat's kernels (arXiv 2409.06765) behind our interface.

gsplat is pinned to 1.5.3, whose semantics the reference states; facts about it that this file works around:
- Its kernels are found, or compiled, at the first native call. That fails in three ways: AttributeError on None (no
  CUDA toolkit), ImportError (no usable library), RuntimeError (the compiler). So one tiny call is tried first.
- The projection divides by the number of Gaussians on the host: an empty scene would end the process.
- Rows of culled Gaussians in its outputs are uninitialised memory.
- Later versions clamp alpha at 0.99 instead of 0.999.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.cameras import Cameras
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.render import BLUR, MAX_ALPHA, NEAR, Rasterizer, RenderOutput, Screen
from splatdistill.render.copies import CopyingRasterizer
from splatdistill.render.cpu import cpu_rasterizer
from splatdistill.render.reference import colours, facing_axes, reference_rasterizer

PINNED = "1.5.3"


def max_alpha_of(version: str) -> float:
    """Return the value at which a gsplat version clamps alpha: 0.999 up to 1.5, 0.99 from 1.6 on."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return 0.999 if (major, minor) < (1, 6) else 0.99


def _arguments(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Float[Tensor, "b 3"] | None,
    normals: bool,
    absgrad: bool,
) -> dict[str, Any]:
    """Return the keywords of gsplat.rasterization. With normals, the colours are evaluated here and carried as channels
    0 to 2, the normals as 3 to 5 over a background of 0, so that one pass blends all; gsplat appends the depth.
    """
    if normals:
        features = torch.cat([colours(gaussians, cameras), facing_axes(gaussians, cameras)], -1)
        if background is not None:
            background = torch.cat([background, torch.zeros_like(background)], -1)
    return {
        "means": gaussians.means,
        "quats": gaussians.quats,
        "scales": gaussians.scales,
        "opacities": gaussians.opacities,
        "colors": features if normals else gaussians.sh,
        "sh_degree": None if normals else gaussians.degree,
        "viewmats": cameras.world_to_camera,
        "Ks": cameras.intrinsics,
        "width": cameras.width,
        "height": cameras.height,
        "near_plane": NEAR,
        "eps2d": BLUR,
        "packed": False,
        "backgrounds": background,
        "render_mode": "RGB+ED",
        "absgrad": absgrad,
        "rasterize_mode": "classic",
    }


@dataclass(frozen=True)
class CudaRasterizer:
    """Rasteriser by gsplat in float32, whatever precision the Gaussians come in; they have to be on a CUDA device."""

    gsplat_version: str
    max_alpha: float
    """Of one Gaussian in one pixel, compiled into this gsplat."""

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        background: Float[Tensor, "b 3"] | None = None,
        normals: bool = False,
        absgrad: bool = False,
    ) -> RenderOutput:
        """Render every camera. See Rasterizer."""
        if len(gaussians) == 0:
            return reference_rasterizer()(gaussians, cameras, background, normals, absgrad)
        import gsplat

        device = gaussians.means.device
        single = gaussians.to(dtype=torch.float32)
        views = cameras.to(device, torch.float32)
        behind = None if background is None else background.to(device, torch.float32)
        image, alpha, meta = gsplat.rasterization(**_arguments(single, views, behind, normals, absgrad))
        radii, means = meta["radii"].amax(-1), meta["means2d"]
        if means.requires_grad:
            means.retain_grad()
        # The kernels skip these rows by their radii, forwards and backwards, so nothing that autograd has saved is
        # changed by writing to them; .data because autograd cannot know that.
        means.data.masked_fill_((radii == 0)[..., None], 0)
        planes = image.movedim(-1, 1)
        return RenderOutput(
            rgb=planes[:, :3],
            alpha=alpha.movedim(-1, 1),
            depth=planes[:, -1:],
            normal=planes[:, 3:6] if normals else None,
            screen=Screen(means, radii),
            cameras=cameras,
        )


def _failure(device: str) -> tuple[str, str] | None:
    """Return the reason why gsplat's kernels do not run, and the remedy; None if they run. May compile for minutes."""
    try:
        import gsplat
    except ImportError as error:
        return f"gsplat cannot be imported: {error}", f"pip install gsplat=={PINNED}"
    one = torch.ones(1, 3, device=device)
    try:
        gsplat.spherical_harmonics(0, one, one[:, None])
    except AttributeError as error:
        if "NoneType" not in str(error):
            raise
        return (
            "gsplat found no CUDA toolkit to compile its kernels with",
            f"install the CUDA toolkit {torch.version.cuda or ''} with nvcc and set CUDA_HOME, or install a wheel with "
            "compiled kernels from https://docs.gsplat.studio/whl",
        )
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return (
            f"gsplat's kernels do not build or load: {reason[0]}",
            f"check that nvcc is CUDA {torch.version.cuda or ''} as torch, delete ~/.cache/torch_extensions, and look "
            "at the whole error with: VERBOSE=1 python -c 'from gsplat.cuda._backend import _C'",
        )
    return None


@cache
def cuda_rasterizer() -> Rasterizer:
    """Return gsplat's rasteriser, or, with one warning that says why and what to do, the CPU's kernels behind copies.

    UserError if torch sees no CUDA device. The first call in a process may compile gsplat's kernels for minutes.
    """
    if not torch.cuda.is_available():
        raise UserError(
            "Rendering on CUDA was asked for, but torch sees no CUDA device. "
            "Use the CPU (--device cpu), or install a driver and a CUDA build of torch."
        )
    failure = _failure("cuda")
    if failure is not None:
        reason, remedy = failure
        warnings.warn(
            f"{reason}. Rendering on the CPU, with copies to the GPU and back: the same images, but slower. To render on the GPU: {remedy}.",
            stacklevel=2,
        )
        return CopyingRasterizer(cpu_rasterizer())
    import gsplat

    rasterizer = CudaRasterizer(gsplat.__version__, max_alpha_of(gsplat.__version__))
    if rasterizer.max_alpha != MAX_ALPHA:
        warnings.warn(
            f"gsplat {rasterizer.gsplat_version} clamps alpha at {rasterizer.max_alpha}, the other backends at "
            f"{MAX_ALPHA}: opaque surfaces differ by up to a hundredth. For equal images: "
            f"pip install gsplat=={PINNED}.",
            stacklevel=2,
        )
    return rasterizer
