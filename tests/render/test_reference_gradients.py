"""Gradients of the reference rasteriser against finite differences, all in float64."""

from dataclasses import fields, replace

import pytest
import torch
from splats import ball, blobs, join, trainable
from torch import Tensor

from splatdistill.cameras import orbit
from splatdistill.gaussians import Gaussians
from splatdistill.render import MAX_ALPHA
from splatdistill.render.reference import reference_rasterizer

F64 = torch.float64
NAMES = [f.name for f in fields(Gaussians)]
render = reference_rasterizer()


@pytest.mark.parametrize("image", ["rgb", "alpha", "depth", "normal"])
@pytest.mark.parametrize("degree", [0, 3])
def test_finite_differences(image: str, degree: int, rng: torch.Generator) -> None:
    """Every parameter along a random direction, over two views and two tiles.

    Where a Gaussian is cut off at alpha 1/255 the image jumps; pixels where a jump lies between the perturbed images
    show in two step sizes that disagree, and get no weight.
    """
    cameras = orbit([20.0, -130.0], [15.0, 40.0], width=20, height=12).to(dtype=F64)
    gaussians = blobs(6, rng, degree)
    names = [*NAMES, "background"]
    values = [*(getattr(gaussians, name) for name in NAMES), torch.rand(2, 3, generator=rng, dtype=F64)]
    directions = [torch.randn(v.shape, generator=rng, dtype=F64) for v in values]

    def shown(parameters: list[Tensor]) -> Tensor:
        return getattr(render(Gaussians(*parameters[:-1]), cameras, parameters[-1], normals=True), image)

    def moved(k: int, step: float) -> Tensor:
        return shown([v + step * directions[k] if i == k else v for i, v in enumerate(values)])

    with torch.no_grad():
        coarse, fine = ([(moved(k, h) - moved(k, -h)) / (2 * h) for k in range(len(values))] for h in (4e-5, 1e-5))
    smooth = torch.stack([(a - b).abs() < 1e-4 for a, b in zip(coarse, fine)]).all(0)
    assert smooth.double().mean() > 0.95
    cotangent = torch.randn(smooth.shape, generator=rng, dtype=F64) * smooth

    leaves = [v.clone().requires_grad_() for v in values]
    gradients = torch.autograd.grad((shown(leaves) * cotangent).sum(), leaves, materialize_grads=True)
    expected = {name: (quotient * cotangent).sum() for name, quotient in zip(names, fine)}
    for name, gradient, direction in zip(names, gradients, directions):
        got = (gradient * direction).sum()
        torch.testing.assert_close(got, expected[name], rtol=1e-6, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")
    geometry = {"means", "quats", "scales", "opacities"}
    felt = geometry | {"sh", "background"} if image == "rgb" else geometry
    assert {name for name, value in expected.items() if value.abs() > 1e-3} == felt


def test_alpha_at_its_limit_has_no_gradient() -> None:
    cameras = orbit([0.0], 0.0, width=3).to(dtype=F64)
    gaussians = trainable(ball([0, 0, 0], 0.5, 1.0, [1, 0, 0]))
    alpha = render(gaussians, cameras).alpha[0, 0]
    assert alpha[1, 1].item() == pytest.approx(MAX_ALPHA, abs=1e-12)
    (at_limit,) = torch.autograd.grad(alpha[1, 1], gaussians.opacities, retain_graph=True)
    (below,) = torch.autograd.grad(alpha[0, 1], gaussians.opacities)
    assert at_limit.item() == 0
    assert below.item() > 0


def test_far_off_axis_gradient_goes_to_depth_only() -> None:
    """Beyond the clamp the projected shape does not feel where a Gaussian is sideways, only how deep.

    A large Gaussian outside the image on the right, whose flank is seen: moving it sideways with its projected mean
    held would not change the image. So d(alpha)/d(world y) = sum of d(alpha)/d(mean_x) * fx / z exactly.
    """
    cameras = orbit([0.0], 0.0, width=8).to(dtype=F64)
    gaussians = trainable(ball([0, 2.0, 0], 0.8, 0.9, [1, 1, 1]))
    output = render(gaussians, cameras)
    output.alpha.sum().backward()
    fx = cameras.intrinsics[0, 0, 0]
    assert output.screen.means[0, 0, 0] > 8 * 1.15  # past the margin of 0.3 tan(fov / 2), where the clamp holds
    torch.testing.assert_close(gaussians.means.grad[0, 1], output.screen.means.grad[0, 0, 0] * fx / 3)
    inside = trainable(ball([0, 0.5, 0], 0.8, 0.9, [1, 1, 1]))
    output = render(inside, cameras)
    output.alpha.sum().backward()
    assert (inside.means.grad[0, 1] - output.screen.means.grad[0, 0, 0] * fx / 3).abs() > 1e-3


def test_screen_means_hold_values_and_receive_gradients(rng: torch.Generator) -> None:
    """Moving the principal point moves every projected mean, so d/d(cx) is the sum of the leaf's gradients."""
    cameras = orbit([0.0, 90.0], 10.0, width=9).to(dtype=F64)
    gaussians = trainable(blobs(5, rng))
    cotangent = torch.randn(2, 3, 9, 9, generator=rng, dtype=F64)

    def shifted(step: float, axis: int) -> float:
        intrinsics = cameras.intrinsics.clone()
        intrinsics[0, axis, 2] += step
        with torch.no_grad():
            return (render(gaussians, replace(cameras, intrinsics=intrinsics)).rgb * cotangent).sum().item()

    output = render(gaussians, cameras)
    (output.rgb * cotangent).sum().backward()
    means = output.screen.means
    assert means.is_leaf
    pose = cameras.world_to_camera[:, None]
    seen = cameras.intrinsics[:, None] @ (pose[..., :3, :3] @ gaussians.means.detach()[..., None] + pose[..., :3, 3:])
    torch.testing.assert_close(means.detach(), (seen[..., :2, 0] / seen[..., 2:, 0]))
    for axis in (0, 1):
        expected = (shifted(1e-6, axis) - shifted(-1e-6, axis)) / 2e-6
        assert means.grad[0, :, axis].sum().item() == pytest.approx(expected, rel=1e-5)
    assert all(getattr(gaussians, name).grad.abs().sum() > 0 for name in NAMES)


def test_absgrad_sums_magnitudes_over_pixels(rng: torch.Generator) -> None:
    cameras = orbit([0.0, 90.0], 10.0, width=5, height=4).to(dtype=F64)
    gaussians = trainable(blobs(5, rng))
    cotangent = torch.randn(2, 3, 4, 5, generator=rng, dtype=F64)
    output = render(gaussians, cameras, absgrad=True)
    (output.rgb * cotangent).sum().backward(retain_graph=True)
    whole = output.screen.means
    once = whole.absgrad.clone()
    signed, magnitude = torch.zeros_like(once), torch.zeros_like(once)
    for pixel in torch.cartesian_prod(torch.arange(4), torch.arange(5)).tolist():
        single = render(gaussians, cameras, absgrad=True)
        (single.rgb * cotangent)[:, :, pixel[0], pixel[1]].sum().backward()
        torch.testing.assert_close(single.screen.means.absgrad, single.screen.means.grad.abs())
        signed += single.screen.means.grad
        magnitude += single.screen.means.grad.abs()
    torch.testing.assert_close(whole.grad, signed)
    torch.testing.assert_close(once, magnitude)
    assert (once > 1.01 * whole.grad.abs()).any()
    (output.rgb * cotangent).sum().backward()
    torch.testing.assert_close(whole.absgrad, 2 * once)  # accumulates, as .grad does


def test_no_graph_where_nothing_is_trained(rng: torch.Generator) -> None:
    cameras = orbit([0.0], width=8).to(dtype=F64)
    gaussians = blobs(3, rng)
    output = render(gaussians, cameras)
    assert not output.rgb.requires_grad and not output.screen.means.requires_grad
    with torch.no_grad():
        output = render(trainable(gaussians), cameras)
    assert not output.rgb.requires_grad and not output.screen.means.requires_grad


@pytest.mark.parametrize("n", [0, 3])
def test_backward_where_nothing_is_seen(n: int, rng: torch.Generator) -> None:
    """No Gaussians, or all behind the camera: black, and gradients that are zero, not missing and not nan."""
    cameras = orbit([0.0], width=8).to(dtype=F64)
    gaussians = blobs(n, rng)
    gaussians = trainable(replace(gaussians, means=gaussians.means + torch.tensor([9.0, 0, 0], dtype=F64)))
    output = render(gaussians, cameras, normals=True)
    (output.rgb.sum() + output.depth.sum() + output.alpha.sum() + output.normal.sum()).backward()
    assert output.rgb.abs().max() == output.depth.abs().max() == output.alpha.abs().max() == 0
    for name in NAMES:
        assert torch.equal(getattr(gaussians, name).grad, torch.zeros_like(getattr(gaussians, name)))


def test_gaussian_in_the_camera_plane() -> None:
    """At z = 0, and at the camera itself, the projection divides by zero; culling must keep that out of gradients."""
    for mean in ([3.0, 1.0, 0.0], [3.0, 0.0, 0.0]):
        gaussians = trainable(join(ball([0, 0, 0], 0.3, 0.5, [1, 0, 0]), ball(mean, 0.3, 0.5, [0, 1, 0])))
        output = render(gaussians, orbit([0.0], 0.0, 3.0, width=8), normals=True)
        (output.rgb.sum() + output.depth.sum() + output.normal.sum()).backward()
        for name in NAMES:
            gradient = getattr(gaussians, name).grad
            assert gradient.isfinite().all() and (gradient[1] == 0).all(), name
