"""The compiled CPU rasteriser.

`kernels/` holds the mathematics as vector code, `pipeline` the order of the stages, `function` the differentiable
operation, `rasterize` the front. Where nothing can be compiled, `cpu_rasterizer` gives the reference instead.
"""

import platform
import warnings
from functools import cache

import torch

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians
from splatdistill.render import Rasterizer
from splatdistill.render.reference import reference_rasterizer

PROCESSORS = ("x86_64", "amd64", "arm64", "aarch64")  # LLVM ends the process where it cannot select instructions


def _failure() -> str | None:
    """Return the reason why the kernels do not work, None if they do. Compiles them or loads them from the cache."""
    if platform.machine().lower() not in PROCESSORS:
        return f"they are not known to run on this processor ({platform.machine()})"
    try:
        from numba.core.errors import NumbaError

        from splatdistill.render.cpu.rasterize import rasterize
    except (ImportError, AttributeError, OSError) as error:  # not installed, of another make, or nowhere to compile to
        return f"{type(error).__name__}: {error}"
    try:
        return _mistake(rasterize)
    except (NumbaError, AttributeError, TypeError, OSError, RuntimeError) as error:  # numba, its inside, LLVM
        reason = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {reason[0]}"


def _mistake(rasterize: Rasterizer) -> str | None:
    """Try one Gaussian whose image and gradient are known: through the middle of the one pixel, alpha is its opacity,
    rgb is alpha times its colour, and depth its distance.
    """
    pose = torch.eye(4)[None].clone()
    pose[0, 2, 3] = 3.0
    cameras = Cameras(pose, torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1.0]]]), 1, 1)
    opacity = torch.tensor([0.5], requires_grad=True)
    quat = torch.tensor([[1.0, 0, 0, 0]])
    one = Gaussians(torch.zeros(1, 3), quat, torch.ones(1, 3), opacity, torch.zeros(1, 1, 3))
    with torch.enable_grad():
        seen = rasterize(one, cameras)
        seen.rgb.sum().backward()
    assert opacity.grad is not None
    got = torch.stack([seen.alpha.sum(), seen.rgb[0, 0, 0, 0], seen.depth.sum(), opacity.grad.sum()]).detach()
    expected = torch.tensor([0.5, 0.25, 3.0, 1.5])
    if torch.allclose(got, expected, rtol=1e-4):
        return None
    return f"a trial gave {got.tolist()} instead of {expected.tolist()}"


@cache
def cpu_rasterizer() -> Rasterizer:
    """Return the compiled rasteriser, or, with one warning that says why, the reference.

    The first call on a machine compiles for some seconds and says so; later ones load the result.
    """
    failure = _failure()
    if failure is None:
        from splatdistill.render.cpu.rasterize import rasterize

        return rasterize
    warnings.warn(
        f"The compiled CPU rasteriser does not work here: {failure}. Rendering with the plain PyTorch reference: the "
        "same images, but many times slower. To put it right, install the numba and llvmlite versions that "
        "scripts/constraints.txt names.",
        stacklevel=2,
    )
    return reference_rasterizer()
