"""Compare the CUDA rasteriser with the reference, gradients included, and time both.

    python scripts/check_gpu.py                    # gsplat on the GPU against the reference
    python scripts/check_gpu.py --device cpu       # the compiled CPU kernels against it

Every row is one scene: n Gaussians of a spherical harmonics degree, 4 views, background, depth and normals. A
difference counts relative to the largest value of its image or gradient; images leave out the 0.1 % of pixels that
differ most, since float32 may fall on either side of the cuts at alpha 1/255 and transmittance 1e-4.

Exit status: 0 if all agree, 1 if something differs or gsplat's kernels cannot be built, 77 if there is no GPU (the
customary "skipped").
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.gaussians import Gaussians
from splatdistill.render import Rasterizer, rasterizer
from splatdistill.render.copies import CopyingRasterizer
from splatdistill.render.reference import ReferenceRasterizer, reference_rasterizer

PASSED, FAILED, SKIPPED = 0, 1, 77
IMAGE_TOLERANCE, GRADIENT_TOLERANCE = 1e-3, 5e-3
OUTLIERS = 1e-3  # share of pixels that may fall on the other side of a cut


@dataclass(frozen=True)
class Case:
    """Scene to render."""

    count: int
    degree: int
    size: int

    def scene(self, device: str) -> tuple[Gaussians, Cameras, Tensor]:
        """Return blobs that shrink as they grow in number, seen from around; the same on every device."""
        rng = torch.Generator().manual_seed(self.count)
        n = self.count
        gaussians = Gaussians(
            means=torch.randn(n, 3, generator=rng) * 0.35,
            quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
            scales=n ** (-1 / 3) * (0.2 + torch.rand(n, 3, generator=rng)) * 0.5,
            opacities=0.05 + 0.9 * torch.rand(n, generator=rng),
            sh=torch.randn(n, (self.degree + 1) ** 2, 3, generator=rng) * 0.4,
        )
        cameras = orbit([0.0, 100.0, 190.0, 280.0], [0.0, 20.0, 40.0, 60.0], 2.5, 45.0, self.size)
        return gaussians.to(device), cameras.to(device), torch.rand(4, 3, generator=rng).to(device)


@dataclass(frozen=True)
class Drawn:
    """Results of one backend for a case: images, then gradients, by name."""

    images: dict[str, Tensor]
    gradients: dict[str, Tensor]


def draw(render: Rasterizer, case: Case, device: str) -> Drawn:
    """Return images and the gradients of a fixed random functional of them."""
    gaussians, cameras, background = case.scene(device)
    leaves = {f.name: getattr(gaussians, f.name).requires_grad_() for f in fields(gaussians)}
    leaves["background"] = background.requires_grad_()
    output = render(gaussians, cameras, background, normals=True, absgrad=True)
    images = {name: getattr(output, name) for name in ("rgb", "alpha", "depth", "normal")}
    rng = torch.Generator().manual_seed(1)
    sum((v * torch.randn(v.shape, generator=rng).to(v)).sum() for v in images.values()).backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    gradients["screen means"], gradients["absgrad"] = output.screen.means.grad, output.screen.means.absgrad
    return Drawn({name: v.detach() for name, v in images.items()}, gradients)


def differences(got: Drawn, expected: Drawn) -> dict[str, tuple[float, float]]:
    """Return by name the difference and its tolerance."""
    found = {}
    for name, truth in expected.images.items():
        error = (got.images[name] - truth).abs().amax(1).flatten().sort().values
        kept = error[: max(1, int(len(error) * (1 - OUTLIERS)))]
        found[name] = (kept[-1] / truth.abs().max().clamp(min=1e-12)).item(), IMAGE_TOLERANCE
    for name, truth in expected.gradients.items():
        # in norm: a pixel on the other side of a cut moves single entries by more than rounding does
        error = (got.gradients[name] - truth).norm() / truth.norm().clamp(min=1e-12)
        found[f"d/d {name}"] = error.item(), GRADIENT_TOLERANCE
    return found


def compare(render: Rasterizer, case: Case, device: str) -> list[str]:
    """Print the case's differences and return the names of those past their tolerance."""
    found = differences(draw(render, case, device), draw(reference_rasterizer(), case, device))
    print(f"\n{case.count:,} Gaussians, degree {case.degree}, 4 x {case.size} x {case.size} pixels")
    for name, (error, tolerable) in found.items():
        print(f"  {name:<16}{error:10.2e}  {'ok' if error <= tolerable else f'DIFFERS by more than {tolerable:.0e}'}")
    return [name for name, (error, tolerable) in found.items() if not error <= tolerable]


def milliseconds(render: Rasterizer, case: Case, device: str, repeats: int) -> float:
    """Return the median wall time in milliseconds of rendering with its gradient, the device idle before and after."""
    gaussians, cameras, background = case.scene(device)
    leaves = Gaussians(**{f.name: getattr(gaussians, f.name).requires_grad_() for f in fields(gaussians)})

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    taken = []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        output = render(leaves, cameras, background)
        (output.rgb.mean() + output.alpha.mean() + output.depth.mean()).backward()
        wait()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken[1:])  # the first warms up


def main(arguments: list[str] | None = None) -> int:
    """Compare, then time; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="two small scenes and no timing")
    options = parser.parse_args(arguments)
    device: str = options.device
    if device == "cuda" and not torch.cuda.is_available():
        print("skipped: torch sees no CUDA device. Run this where there is one, or check the CPU with --device cpu.")
        return SKIPPED
    if device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    render = rasterizer(device)
    if isinstance(render, (ReferenceRasterizer, CopyingRasterizer)):
        print("failed: the compiled kernels are not usable here; the warning above says why and what to do.")
        return FAILED
    print(f"{getattr(render, '__name__', render)} against the reference")

    small = [Case(1, 0, 33), Case(500, 3, 64)]
    large = [] if options.quick else [Case(5_000, 0, 128), Case(20_000, 3, 256)]
    wrong = [f"{name} ({case})" for case in small + large for name in compare(render, case, device)]
    if large:
        print("\nforward and backward, ms (median)     here    reference")
    for case in large:
        here, plain = milliseconds(render, case, device, 20), milliseconds(reference_rasterizer(), case, device, 3)
        print(f"  {case.count:>6,} Gaussians, 4 x {case.size}^2 {here:14.1f} {plain:12.1f}")
    print(f"\nfailed: {', '.join(wrong)}" if wrong else "\npassed: values and gradients agree")
    return FAILED if wrong else PASSED


if __name__ == "__main__":
    sys.exit(main())
