"""The compiled CPU rasteriser draws and differentiates what the reference does."""

import inspect
from copy import copy
from dataclasses import fields, replace

import pytest
import torch
from splats import ball, blobs, join, trainable
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.render import Rasterizer, RenderOutput
from splatdistill.render.cpu.rasterize import rasterize
from splatdistill.render.reference import reference_rasterizer

F64 = torch.float64
NAMES = [f.name for f in fields(Gaussians)]
IMAGES = ("rgb", "alpha", "depth", "normal")
reference = reference_rasterizer()


def scattered(n: int, rng: torch.Generator, degree: int = 0) -> Gaussians:
    """Return splats of every kind: thin, fat, faint, opaque, behind the camera, beyond the image's border."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=F64)

    opacities = torch.rand(n, generator=rng, dtype=F64) ** 0.5
    sh = 0.5 * normal(n, (degree + 1) ** 2, 3)
    return Gaussians(1.2 * normal(n, 3), normal(n, 4), (normal(n, 3) - 2).exp(), opacities, sh)


def views(width: int, height: int) -> Cameras:
    """Return three cameras with unequal focal lengths and a principal point off the centre."""
    cameras = orbit([10.0, 130.0, -100.0], [0.0, 30.0, 60.0], 2.0, 50.0, width, height).to(dtype=F64)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 0, 0] *= 1.2
    intrinsics[:, 0, 2] += 3.3
    return replace(cameras, intrinsics=intrinsics)


def differentiated(
    render: Rasterizer, gaussians: Gaussians, cameras: Cameras, background: Tensor, **options: bool
) -> tuple[RenderOutput, dict[str, Tensor]]:
    """Return the images, and all gradients of their product with fixed random numbers."""
    leaves, behind = trainable(gaussians), background.clone().requires_grad_()
    output = render(leaves, cameras, behind, **options)
    rng = torch.Generator().manual_seed(1)
    shown = [image for image in (getattr(output, name) for name in IMAGES) if image is not None]
    noise = [torch.randn(image.shape, generator=rng, dtype=F64).to(image) for image in shown]
    torch.autograd.backward(shown, noise)
    gradients = {name: getattr(leaves, name).grad for name in NAMES}
    gradients |= {"background": behind.grad, "screen means": output.screen.means.grad}
    if options.get("absgrad"):
        gradients["absgrad"] = output.screen.means.absgrad
    return output, gradients


def assert_close(got: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    """Check equality up to a share of the largest value."""
    assert got.shape == expected.shape, name
    error, scale = (got - expected).abs().max().item(), expected.abs().max().item()
    assert error <= tolerance * max(scale, 1e-6), f"{name}: off by {error}, largest value {scale}"


def assert_agrees(gaussians: Gaussians, cameras: Cameras, tolerance: float = 1e-9, **options: bool) -> RenderOutput:
    background = torch.linspace(0, 1, 3 * len(cameras), dtype=F64).view(-1, 3)
    ours, our_gradients = differentiated(rasterize, gaussians, cameras, background, **options)
    theirs, their_gradients = differentiated(reference, gaussians, cameras, background, **options)
    for name in IMAGES:
        if getattr(theirs, name) is not None:
            assert_close(getattr(ours, name), getattr(theirs, name), tolerance, name)
    assert (ours.normal is None) == (theirs.normal is None)
    assert_close(ours.screen.means.detach(), theirs.screen.means.detach(), tolerance, "screen")
    assert torch.equal(ours.screen.radii, theirs.screen.radii)
    assert our_gradients.keys() == their_gradients.keys()
    for name, expected in their_gradients.items():
        assert_close(our_gradients[name], expected, tolerance, f"gradient of {name}")
        assert expected.abs().max() > 0, name
    return ours


@pytest.mark.parametrize(("degree", "n"), [(0, 203), (1, 64), (2, 33), (3, 150)])
def test_float64_agrees_with_reference(degree: int, n: int, rng: torch.Generator) -> None:
    """Every image and every gradient, with normals, magnitudes and a background, to 1e-9; odd numbers of all."""
    output = assert_agrees(scattered(n, rng, degree), views(33, 47), normals=True, absgrad=True)
    culled = (output.screen.radii == 0).double().mean()
    assert 0.05 < culled < 0.95
    assert n < 150 or (output.alpha > 0.999).any()  # some pixels are full before their last Gaussian


def test_float64_agrees_without_normals_and_magnitudes(rng: torch.Generator) -> None:
    assert_agrees(scattered(80, rng), views(16, 16))
    assert_agrees(scattered(16, rng), views(5, 3))


def test_needles_across_many_tiles_agree(rng: torch.Generator) -> None:
    """Gaussians over more than 32 tiles take another way into the tiles: rows of tiles cut to the ellipse."""
    needles = scattered(24, rng)
    scales = torch.tensor([1.0, 0.02, 0.3], dtype=F64) * torch.ones(24, 1, dtype=F64)
    assert_agrees(replace(needles, means=0.3 * needles.means, scales=scales), views(130, 100))


def test_float32_is_as_exact_as_float32(rng: torch.Generator) -> None:
    """Against the reference in float64: only pixels where rounding decides whether a Gaussian counts differ visibly."""
    gaussians, cameras = scattered(400, rng), views(64, 64)
    background = torch.zeros(3, 3, dtype=F64)
    exact, exact_gradients = differentiated(reference, gaussians, cameras, background)
    single = gaussians.to(dtype=torch.float32), cameras.to(dtype=torch.float32), background.float()
    output, gradients = differentiated(rasterize, *single)
    assert output.rgb.dtype == torch.float32
    off = (output.rgb - exact.rgb).abs().amax(1)
    assert (off > 1e-5).double().mean() < 1e-3
    assert off.max() < 1e-2
    for name, expected in exact_gradients.items():
        assert (gradients[name] - expected).norm() < 2e-3 * expected.norm(), name


def test_order_in_memory_does_not_matter(rng: torch.Generator) -> None:
    """Not in the last bit: depth alone decides, and sums run over pixels in a fixed order."""
    gaussians, cameras = blobs(100, rng).to(dtype=torch.float32), orbit([0.0, 90.0], width=40)
    order = torch.randperm(100, generator=rng)
    background = torch.ones(2, 3)
    a, ga = differentiated(rasterize, gaussians, cameras, background)
    b, gb = differentiated(rasterize, gaussians[order], cameras, background)
    assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("rgb", "alpha", "depth"))
    assert all(torch.equal(ga[name][order], gb[name]) for name in NAMES)
    assert torch.equal(ga["screen means"][:, order], gb["screen means"])


def test_equal_depths_keep_their_order() -> None:
    """As the reference: the first in memory is the nearer one."""
    red, blue = ball([0, 0, 0], 0.3, 0.6, [1, 0, 0]), ball([0, 0, 0], 0.3, 0.9, [0, 0, 1])
    for pair in (join(red, blue), join(blue, red)):
        assert_close(rasterize(pair, orbit([0.0])).rgb, reference(pair, orbit([0.0])).rgb, 1e-9, "rgb")


@pytest.mark.parametrize("n", [0, 5])
def test_nothing_to_see(n: int, rng: torch.Generator) -> None:
    """No Gaussians, or all behind the camera: the background, and gradients that exist and are zero."""
    gaussians = blobs(n, rng).to(dtype=torch.float32)
    gaussians = trainable(replace(gaussians, means=gaussians.means + torch.tensor([100.0, 0, 0])))
    background = torch.rand(1, 3, generator=rng).requires_grad_()
    output = rasterize(gaussians, orbit([0.0], 0.0, width=20), background, normals=True)
    assert torch.equal(output.rgb, background.detach()[:, :, None, None].expand(1, 3, 20, 20))
    assert not output.alpha.any() and not output.depth.any() and not output.normal.any()
    assert output.screen.radii.tolist() == [[0] * n]
    (output.rgb.sum() + output.depth.sum() + output.normal.sum()).backward()
    assert background.grad.tolist() == [[400.0] * 3]
    assert all(getattr(gaussians, name).grad.shape == getattr(gaussians, name).shape for name in NAMES)
    assert not any(getattr(gaussians, name).grad.any() for name in NAMES)


def test_graph_only_where_asked(rng: torch.Generator) -> None:
    gaussians, cameras = blobs(20, rng).to(dtype=torch.float32), orbit([0.0], width=20)
    plain = rasterize(gaussians, cameras, absgrad=True)
    assert not plain.rgb.requires_grad and not plain.screen.means.requires_grad
    with torch.no_grad():
        quiet = rasterize(trainable(gaussians), cameras)
    assert not quiet.rgb.requires_grad
    background = torch.ones(1, 3, requires_grad=True)
    behind = rasterize(gaussians, cameras, background)
    behind.rgb.sum().backward()
    assert background.grad[0, 0].item() == pytest.approx((1 - behind.alpha).sum().item(), rel=1e-5)
    some = replace(gaussians, scales=gaussians.scales.clone().requires_grad_())
    rasterize(some, cameras).alpha.sum().backward()
    assert some.scales.grad.abs().sum() > 0 and some.means.grad is None


def test_memory_layout_does_not_matter(rng: torch.Generator) -> None:
    """Inputs and incoming gradients as views with any strides."""
    gaussians, cameras = blobs(32, rng).to(dtype=torch.float32), orbit([0.0, 50.0], width=32)
    spread = Gaussians(**{n: torch.stack([getattr(gaussians, n)] * 2, -1)[..., 0] for n in NAMES})
    assert not spread.means.is_contiguous()
    results = []
    for source in (gaussians, spread):
        leaves = Gaussians(**{n: getattr(source, n).requires_grad_() for n in NAMES})
        output = rasterize(leaves, cameras)
        weight = torch.randn(2, 32, 32, 3, generator=torch.Generator().manual_seed(2))
        strided = weight.permute(0, 3, 1, 2)
        cotangent = strided if source is spread else strided.contiguous()
        depth = torch.ones(()).expand(2, 1, 32, 32) if source is spread else torch.ones(2, 1, 32, 32)
        torch.autograd.backward([output.rgb, output.depth], [cotangent, depth])
        results.append([output.rgb, *(getattr(leaves, n).grad for n in NAMES)])
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_backward_twice(rng: torch.Generator) -> None:
    """A kept graph gives the same gradients again, also after other renders; a freed one says so."""
    gaussians, cameras = trainable(blobs(50, rng).to(dtype=torch.float32)), orbit([0.0], width=48)
    output = rasterize(gaussians, cameras, absgrad=True)
    loss = (output.rgb**2).sum()
    first = torch.autograd.grad(loss, [gaussians.means, gaussians.sh, output.screen.means], retain_graph=True)
    magnitudes = output.screen.means.absgrad.clone()
    for seed in range(3):  # would reuse the memory if it had been given back
        other = trainable(blobs(50, torch.Generator().manual_seed(seed)).to(dtype=torch.float32))
        rasterize(other, cameras).rgb.sum().backward()
    second = torch.autograd.grad(loss, [gaussians.means, gaussians.sh, output.screen.means])
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert torch.equal(output.screen.means.absgrad, 2 * magnitudes)  # adds up, as .grad does
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("which", ["output", "input"])
def test_changes_in_place_are_noticed(which: str, rng: torch.Generator) -> None:
    """Of what the backward pass would read, instead of wrong gradients."""
    gaussians = trainable(blobs(10, rng).to(dtype=torch.float32))
    output = rasterize(gaussians, orbit([0.0], width=16))
    with torch.no_grad():
        (output.rgb if which == "output" else gaussians.scales).clamp_(max=0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.rgb.sum().backward()


@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_gaussian_is_culled_and_its_gradient_tells(name: str, value: float, rng: torch.Generator) -> None:
    if (name, value) == ("opacities", float("inf")):
        value = float("-inf")  # opacity +inf is opaque
    gaussians, cameras = blobs(40, rng).to(dtype=torch.float32), orbit([0.0, 70.0], width=32)
    broken = getattr(gaussians, name).clone()
    broken.view(40, -1)[7, 0] = value
    leaves = trainable(replace(gaussians, **{name: broken}))
    output = rasterize(leaves, cameras, normals=True)
    rest = torch.arange(40) != 7
    clean = rasterize(gaussians[rest], cameras, normals=True)
    assert all(torch.equal(getattr(output, image), getattr(clean, image)) for image in IMAGES)
    assert output.screen.radii[:, 7].tolist() == [0, 0]
    (output.rgb.sum() + output.normal.sum()).backward()
    finite = torch.stack([getattr(leaves, n).grad.flatten(1).isfinite().all(1) if n != "opacities"
                          else leaves.opacities.grad.isfinite() for n in NAMES]).all(0)  # fmt: skip
    assert torch.equal(finite, rest)


@pytest.mark.parametrize("degree", [0, 2])
def test_a_broken_colour_shows(degree: int, rng: torch.Generator) -> None:
    gaussians = blobs(40, rng, degree).to(dtype=torch.float32)
    gaussians.sh[3, 0, 1] = float("nan")
    output = rasterize(gaussians, orbit([0.0], width=32))
    assert output.rgb[:, 1].isnan().any()
    assert output.rgb[:, 0].isfinite().all() and output.alpha.isfinite().all()


def test_what_it_cannot_render_is_said(rng: torch.Generator) -> None:
    """Compiled code would read beyond the end of arrays that are too short."""
    good, cameras = blobs(3, rng), orbit([0.0, 90.0])
    render = inspect.unwrap(rasterize)  # without the tests' own check of shapes, as users call it
    with pytest.raises(UserError, match="float16.*float32"):
        render(good.to(dtype=torch.float16), cameras)
    for name, wrong in {"quats": good.quats[:2], "sh": good.sh.expand(3, 3, 3), "opacities": good.means}.items():
        bad = copy(good)
        object.__setattr__(bad, name, wrong)  # past the constructor's check
        with pytest.raises(UserError, match=f"{name}.*shape"):
            render(bad, cameras)
    with pytest.raises(UserError, match="background.*shape"):
        render(good, cameras, torch.zeros(1, 3))
    with pytest.raises(UserError, match="0x32"):
        render(good, replace(cameras, width=0, height=32))
