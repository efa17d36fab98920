"""Pictures of the reference rasteriser, against arithmetic done by hand and against gsplat's own torch code."""

import math
from dataclasses import replace

import pytest
import torch
from gsplat.cuda._torch_impl import _fully_fused_projection, _quat_scale_to_covar_preci, _spherical_harmonics
from splats import ball, blobs, join

from splatdistill.cameras import Cameras, orbit
from splatdistill.render import BLUR, MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, RenderOutput, reference
from splatdistill.render.reference import colours, facing_axes, project, reference_rasterizer

F64 = torch.float64
IMAGES = ("rgb", "alpha", "depth", "normal")
RED, GREEN, BLUE = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]
render = reference_rasterizer()


def front(width: int = 9, distance: float = 3.0) -> Cameras:
    """Return a camera on +x at the height of the origin: +y is to the right in the image, +z up."""
    return orbit([0.0], 0.0, distance, width=width).to(dtype=F64)


def centre(output: RenderOutput, image: str = "rgb") -> list[float]:
    """Return the middle pixel, whose centre is the principal point if the width is odd."""
    value = getattr(output, image)[0]
    return value[:, value.shape[1] // 2, value.shape[2] // 2].tolist()


def assert_same(a: RenderOutput, b: RenderOutput, tolerance: float = 1e-12) -> None:
    for name in IMAGES:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=tolerance, atol=tolerance)


def test_single_gaussian_in_closed_form() -> None:
    """On the axis the projected covariance is (fx s / z)^2 + 0.3; alpha falls off as its Gaussian, cut at 1/255."""
    cameras = front(33)
    output = render(ball([0.5, 0, 0], 0.15, 0.8, [0.9, 0.4, 0.1]), cameras, torch.tensor([[0.2, 0.3, 0.4]], dtype=F64))
    z = 2.5
    variance = (cameras.intrinsics[0, 0, 0] * 0.15 / z) ** 2 + BLUR
    pixel = torch.arange(33, dtype=F64) + 0.5 - 16.5
    alpha = 0.8 * torch.exp(-(pixel[:, None] ** 2 + pixel[None] ** 2) / (2 * variance))
    assert ((alpha - MIN_ALPHA).abs() > 1e-6).all()
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0)
    assert (alpha == 0).any() and (alpha > 0.1).any()
    # float32 camera matrices are the only rounding
    torch.testing.assert_close(output.alpha[0, 0], alpha, rtol=0, atol=1e-7)
    expected = torch.stack([c * alpha + b * (1 - alpha) for c, b in zip([0.9, 0.4, 0.1], [0.2, 0.3, 0.4])])
    torch.testing.assert_close(output.rgb[0], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(output.depth[0, 0], z * (alpha > 0).double(), rtol=0, atol=1e-6)
    reach = math.sqrt(2 * math.log(0.8 * 255))
    assert output.screen.radii.tolist() == [[math.ceil(reach * math.sqrt(variance))]]


def test_nearer_covers_farther() -> None:
    """Two on one ray: o1 c1 + (1 - o1) o2 c2, whatever their order in memory; depth is the weighted mean."""
    near, far = ball([1, 0, 0], 0.3, 0.6, RED), ball([-1, 0, 0], 0.3, 0.9, GREEN)
    for gaussians in (join(near, far), join(far, near)):
        output = render(gaussians, front())
        assert centre(output) == pytest.approx([0.6, 0.4 * 0.9, 0])
        assert centre(output, "alpha") == pytest.approx([1 - 0.4 * 0.1])
        assert centre(output, "depth") == pytest.approx([(0.6 * 2 + 0.36 * 4) / 0.96])


def test_equal_depth_keeps_the_order_of_indices() -> None:
    """Depths that differ by less than a float32 step count as equal."""
    red, green = ball([0, 0, 0], 0.3, 0.5, RED), ball([1e-9, 0, 0], 0.3, 0.5, GREEN)
    assert centre(render(join(red, green), front())) == pytest.approx([0.5, 0.25, 0])
    assert centre(render(join(green, red), front())) == pytest.approx([0.25, 0.5, 0])


def test_permutation_changes_nothing(rng: torch.Generator) -> None:
    gaussians, cameras = blobs(30, rng, degree=1), orbit([10.0, 200.0], 20.0, width=20, height=17).to(dtype=F64)
    order = torch.randperm(30, generator=rng)
    a, b = (render(g, cameras, normals=True) for g in (gaussians, gaussians[order]))
    assert_same(a, b)
    torch.testing.assert_close(b.screen.means, a.screen.means[:, order])


def test_stops_before_the_pixel_is_exhausted() -> None:
    """Under T = 1e-4 nothing is added: 0.9, 0.99, then 0.95 would leave 5e-5 and is left out, as is all behind it."""
    opacities = [0.9, 0.99, 0.95, 0.3]
    hues = [RED, GREEN, BLUE, RED]
    stack = join(*(ball([1 - 0.3 * i, 0, 0], 0.3, opacities[i], hues[i]) for i in range(4)))
    output = render(stack, front())
    assert 0.1 * 0.01 * 0.05 <= MIN_TRANSMITTANCE < 0.1 * 0.01
    assert centre(output) == pytest.approx([0.9, 0.1 * 0.99, 0])
    assert centre(output, "alpha") == pytest.approx([1 - 0.1 * 0.01])


def test_opacity_limits() -> None:
    """Alpha stops at 0.999; an opacity under 1/255 is not drawn at all and counts as culled."""
    assert centre(render(ball([0, 0, 0], 0.3, 1.0, RED), front())) == pytest.approx([MAX_ALPHA, 0, 0])
    for opacity, seen in ((0.99 / 255, False), (1.01 / 255, True)):
        output = render(ball([0, 0, 0], 0.3, opacity, RED), front())
        assert (output.alpha.max() > 0) == seen
        assert (output.screen.radii > 0).item() == seen


def test_background_shows_through(rng: torch.Generator) -> None:
    """rgb is linear in the background with slope 1 - alpha, per view; depth and normal do not see it."""
    gaussians, cameras = blobs(8, rng), orbit([0.0, 120.0], width=12).to(dtype=F64)
    background = torch.rand(2, 3, generator=rng, dtype=F64)
    black, coloured = render(gaussians, cameras, normals=True), render(gaussians, cameras, background, normals=True)
    expected = black.rgb + (1 - black.alpha) * background[:, :, None, None]
    torch.testing.assert_close(coloured.rgb, expected)
    assert_same(black, replace(coloured, rgb=black.rgb))


def test_empty_scene() -> None:
    background = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=F64)
    empty = ball([0, 0, 0], 0.3, 0.5, RED)[:0]
    output = render(empty, orbit([0.0, 90.0], width=5, height=4).to(dtype=F64), background, normals=True)
    assert torch.equal(output.rgb, background[:, :, None, None].expand(2, 3, 4, 5))
    assert all((getattr(output, name) == 0).all() for name in ("alpha", "depth", "normal"))
    assert output.screen.means.shape == (2, 0, 2) and output.screen.radii.shape == (2, 0)


@pytest.mark.parametrize(
    ("where", "seen"),
    [
        ([0, 0, 0], True),
        ([5.0, 0, 0], False),  # behind the camera
        ([2.995, 0, 0], False),  # nearer than 0.01
        ([0, 4.0, 0], False),  # beside the image
        ([0, 0, -4.0], False),  # under it
        ([0, 1.25, 0], True),  # centre outside, flank inside
    ],
)
def test_culling(where: list[float], seen: bool) -> None:
    output = render(ball(where, 0.1, 0.9, RED), front())
    assert (output.screen.radii > 0).item() == seen
    assert (output.alpha.max() > 0).item() == seen
    if not seen:
        assert torch.equal(output.screen.means, torch.zeros(1, 1, 2, dtype=F64))


def test_batch_equals_singles(rng: torch.Generator) -> None:
    gaussians = blobs(20, rng, degree=2)
    cameras = orbit([0.0, 77.0], [5.0, 50.0], [3.0, 2.5], [40.0, 60.0], width=18, height=21).to(dtype=F64)
    background = torch.rand(2, 3, generator=rng, dtype=F64)
    both = render(gaussians, cameras, background, normals=True)
    for i in range(2):
        single = render(gaussians, cameras[[i]], background[[i]], normals=True)
        for name in IMAGES:
            assert torch.equal(getattr(both, name)[i], getattr(single, name)[0])
        assert torch.equal(both.screen.radii[i], single.screen.radii[0])


def test_tiles_leave_no_trace(rng: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles only bound the work: one tile for the whole image, which offers every Gaussian to every pixel, agrees."""
    gaussians, cameras = blobs(40, rng), front(40)
    gaussians = replace(gaussians, scales=0.2 * gaussians.scales)
    tiled = render(gaussians, cameras, normals=True)
    monkeypatch.setattr(reference, "TILE", 40)
    assert_same(tiled, render(gaussians, cameras, normals=True))


def test_normals_face_the_camera(rng: torch.Generator) -> None:
    """A disc thin along the viewing axis shows minus the viewing direction, from both sides, weighted by alpha."""
    disc = replace(ball([0, 0, 0], 0.4, 0.7, RED), scales=torch.tensor([[0.01, 0.4, 0.4]], dtype=F64))
    cameras = orbit([0.0, 180.0], 0.0, width=9).to(dtype=F64)
    output = render(disc, cameras, normals=True)
    for view, sign in enumerate((1, -1)):
        middle = output.normal[view, :, 4, 4].tolist()
        assert middle == pytest.approx([0.7 * sign, 0, 0], abs=1e-6)
    axes = facing_axes(blobs(50, rng), cameras)
    torch.testing.assert_close(axes.norm(dim=-1), torch.ones(2, 50, dtype=F64))
    assert render(disc, cameras).normal is None


def test_turning_the_world_changes_only_world_normals(rng: torch.Generator) -> None:
    """Rigid motion of scene and camera together."""
    gaussians, cameras = blobs(15, rng), orbit([30.0], 25.0, width=15).to(dtype=F64)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=F64)
    half = math.sqrt(0.5)
    w, x, y, z = gaussians.quats.unbind(1)  # (half, 0, 0, half) times q
    quats = half * torch.stack([w - z, x - y, y + x, z + w], 1)
    turned = replace(gaussians, means=gaussians.means @ quarter.T, quats=quats)
    a = render(gaussians, cameras, normals=True)
    b = render(turned, orbit([120.0], 25.0, width=15).to(dtype=F64), normals=True)
    normal = torch.einsum("ij,bihw->bjhw", quarter, b.normal)
    assert_same(a, replace(b, normal=normal), tolerance=2e-6)  # orbit() places its cameras in float32


def test_projection_agrees_with_gsplat(rng: torch.Generator) -> None:
    """Means, depths, conics of all that is visible, some far off the axis; radii of theirs never smaller."""
    gaussians = blobs(300, rng)
    gaussians = replace(gaussians, means=4 * gaussians.means, quats=3 * gaussians.quats)
    cameras = orbit([0.0, 100.0, 250.0], [0.0, 30.0, 60.0], 3.0, [43.0, 60.0, 30.0], width=24, height=16).to(dtype=F64)
    covariance, _ = _quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, compute_preci=False)
    radii, means, depths, conics, _ = _fully_fused_projection(
        gaussians.means, covariance, cameras.world_to_camera, cameras.intrinsics, 24, 16
    )
    ours = project(gaussians, cameras)
    visible = ours.visible
    assert 100 < visible.sum() < 800
    outside = ((means < 0) | (means > torch.tensor([24.0, 16.0]))).any(-1)
    assert (outside & visible).sum() > 20
    torch.testing.assert_close(ours.means[visible], means[visible], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.depths[visible], depths[visible], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.conics[visible], conics[visible], rtol=1e-10, atol=1e-12)
    # theirs reach 3.33 standard deviations whatever the opacity, and so see a few more at the edges
    assert ((radii > 0).all(-1) | ~visible).all()
    assert (ours.half_extents[visible] <= radii[visible]).all()


@pytest.mark.parametrize("degree", range(4))
def test_colours_agree_with_gsplat(degree: int, rng: torch.Generator) -> None:
    gaussians, cameras = blobs(40, rng, degree), orbit([0.0, 130.0], 30.0).to(dtype=F64)
    gaussians = replace(gaussians, sh=10 * gaussians.sh)
    directions = gaussians.means - torch.inverse(cameras.world_to_camera)[:, None, :3, 3]
    theirs = torch.stack([_spherical_harmonics(degree, d, gaussians.sh) for d in directions])
    expected = torch.clamp_min(theirs + 0.5, 0)
    assert (expected == 0).any()
    torch.testing.assert_close(colours(gaussians, cameras), expected, rtol=1e-6, atol=1e-6)  # R^T t of float32 cameras


def test_float32_is_close_to_float64(rng: torch.Generator, device: torch.device) -> None:
    """Except in pixels where a cut at 1/255 falls the other way; that moves them by no more than such a cut."""
    gaussians, cameras = blobs(100, rng, degree=3), orbit([0.0, 90.0], width=32)
    exact = render(gaussians, cameras.to(dtype=F64), normals=True)
    single = render(gaussians.to(device, torch.float32), cameras, normals=True)
    for name in IMAGES:
        image = getattr(single, name)
        assert image.dtype == torch.float32 and image.device.type == device.type
        error = (image.cpu().double() - getattr(exact, name)).abs()
        assert error.max() < 0.02
        assert (error < 2e-5).double().mean() > 0.999
