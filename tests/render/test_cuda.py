"""The CUDA rasteriser: its real kernels with --device cuda; without a GPU, everything around them.

gsplat's Python function `rasterization` is the real one throughout. On a CPU the native kernels that it calls are
exchanged for gsplat's own torch implementations of them, and the blending kernel for the reference's equations.
"""

import inspect
from dataclasses import replace

import gsplat
import gsplat.rendering
import pytest
import torch
from gsplat.cuda import _torch_impl
from splats import ball, blobs, trainable

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.render import MAX_ALPHA, cuda, reference
from splatdistill.render.copies import CopyingRasterizer
from splatdistill.render.cpu import cpu_rasterizer
from splatdistill.render.reference import reference_rasterizer

IMAGES = ("rgb", "alpha", "depth", "normal")


def _project(means, covars, quats, scales, viewmats, Ks, width, height, *, opacities, **kept):
    """Return the projection of the native kernel: it culls by opacity too, and leaves garbage in the culled rows."""
    assert covars is None and kept["camera_model"] == "pinhole"
    assert len(means) > 0, "the kernel divides by the number of Gaussians"
    assert not (kept["packed"] or kept["calc_compensations"] or kept["sparse_grad"] or kept["radius_clip"])
    covariance, _ = _torch_impl._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    planes = {k: kept[k] for k in ("eps2d", "near_plane", "far_plane")}
    radii, *rest, _ = _torch_impl._fully_fused_projection(means, covariance, viewmats, Ks, width, height, **planes)
    radii = torch.where((opacities >= 1 / 255)[None, :, None], radii, 0)
    culled = (radii == 0).any(-1)
    rest = [torch.where(culled.view(*culled.shape, *[1] * (v.dim() - 2)), 1e30, v) for v in rest]
    return radii, *rest, None


def _tiles(means2d, radii, depths, tile_size, tile_width, tile_height, **_):
    return _torch_impl._isect_tiles(means2d, radii, depths, tile_size, tile_width, tile_height)


def _pixels(means2d, conics, colors, opacities, width, height, tile_size, offsets, ids, backgrounds, packed, absgrad):
    """Return one tile per image, in the order of `ids`."""
    assert offsets.shape[1:] == (1, 1) and not packed
    means2d.absgrad = torch.full_like(means2d, 7.0) if absgrad else None
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([x, y], -1).reshape(-1, 2) + 0.5
    bounds = [*offsets.flatten().tolist(), len(ids)]
    images, alphas = [], []
    for i in range(len(means2d)):
        k = ids[bounds[i] : bounds[i + 1]].long() - i * means2d.shape[1]
        spread = means2d[i, k].expand(len(pixels), -1, -1)
        blended, left = reference._blend(pixels, spread, conics[i, k], opacities[i, k], colors[i, k])
        blended = blended if backgrounds is None else blended + left[:, None] * backgrounds[i]
        images.append(blended.view(height, width, -1))
        alphas.append(1 - left.view(height, width, 1))
    return torch.stack(images), torch.stack(alphas)


@pytest.fixture
def render(device: torch.device, monkeypatch: pytest.MonkeyPatch):
    """Return the CUDA rasteriser; on a CPU with stand-ins for the native kernels."""
    if device.type == "cuda":
        return cuda.cuda_rasterizer()
    native = {
        "fully_fused_projection": _project,
        "spherical_harmonics": lambda degree, dirs, sh, masks=None: _torch_impl._spherical_harmonics(degree, dirs, sh),
        "isect_tiles": _tiles,
        "isect_offset_encode": _torch_impl._isect_offset_encode,
        "rasterize_to_pixels": _pixels,
    }
    for name, function in native.items():
        monkeypatch.setattr(gsplat.rendering, name, function)
    return cuda.CudaRasterizer(gsplat.__version__, cuda.max_alpha_of(gsplat.__version__))


def scene(rng: torch.Generator, device: torch.device, degree: int = 1) -> Gaussians:
    """Return blobs, one of them behind the camera and one nearly transparent."""
    parts = blobs(12, rng, degree, torch.float32)
    means, opacities = parts.means.clone(), parts.opacities.clone()
    means[3, 0], opacities[5] = 9, 1e-3
    return trainable(replace(parts, means=means, opacities=opacities).to(device))


@pytest.mark.parametrize("normals", [False, True])
@pytest.mark.parametrize("coloured", [False, True])
def test_agrees_with_the_reference(render, device, rng, normals: bool, coloured: bool) -> None:
    """Images, radii, projected means and every gradient."""
    cameras = orbit([0.0, 30.0], [10.0, 40.0], width=16, height=13)
    cotangents = [torch.randn(2, c, 13, 16, generator=rng).to(device) for c in (3, 1, 1, 3)]
    results = []
    values = scene(rng, device)
    colour = torch.rand(2, 3, generator=rng).to(device) if coloured else None
    for rasterizer in (render, reference_rasterizer()):
        gaussians = trainable(values)
        background = None if colour is None else colour.clone().requires_grad_()
        output = rasterizer(gaussians, cameras, background, normals=normals)
        assert (output.normal is not None) == normals
        images = [getattr(output, name) for name in IMAGES[: 4 if normals else 3]]
        sum((image * cotangent).sum() for image, cotangent in zip(images, cotangents)).backward()
        leaves = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh]
        leaves += [] if background is None else [background]
        results.append((images, output.screen, [leaf.grad for leaf in leaves]))
    (images, screen, gradients), (expected_images, expected_screen, expected_gradients) = results
    for got, expected in zip([*images, *gradients], [*expected_images, *expected_gradients]):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * expected.detach().abs().max().item())
    assert torch.equal(screen.radii > 0, expected_screen.radii > 0)
    assert (screen.radii == 0).any()
    torch.testing.assert_close(screen.means, expected_screen.means, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(screen.means.grad, expected_screen.means.grad, rtol=1e-3, atol=1e-4)


def test_absgrad_is_handed_through(render, device, rng) -> None:
    output = render(scene(rng, device), orbit([0.0], width=16), absgrad=True)
    output.rgb.sum().backward()
    assert output.screen.means.absgrad.shape == (1, 12, 2)


def test_nothing_trained_and_empty_scene(render, device, rng) -> None:
    background = torch.tensor([[0.1, 0.2, 0.3]], device=device)
    output = render(scene(rng, device).detach(), orbit([0.0], width=16), background)
    assert not output.rgb.requires_grad and not output.screen.means.requires_grad
    empty = render(scene(rng, device)[:0], orbit([0.0], width=16), background, normals=True)
    assert torch.equal(empty.rgb, background[:, :, None, None].expand(1, 3, 16, 16))


def test_any_precision_is_rendered_in_single(render, device) -> None:
    gaussians = trainable(ball([0, 0, 0], 0.3, 0.5, [1, 0, 0]).to(device))
    output = render(gaussians, orbit([0.0], width=16))
    assert output.rgb.dtype == torch.float32
    output.rgb.sum().backward()
    assert gaussians.opacities.grad.dtype == torch.float64 and gaussians.opacities.grad.item() > 0


@pytest.mark.parametrize("normals", [False, True])
def test_arguments_fit_the_installed_gsplat(normals: bool, rng: torch.Generator) -> None:
    arguments = cuda._arguments(blobs(3, rng), orbit([0.0]), torch.zeros(1, 3), normals, True)
    bound = inspect.signature(gsplat.rasterization).bind(**arguments)
    assert bound.arguments["packed"] is False and bound.arguments["eps2d"] == 0.3
    assert bound.arguments["sh_degree"] == (None if normals else 0)


def test_versions() -> None:
    assert cuda.max_alpha_of(cuda.PINNED) == MAX_ALPHA
    assert [cuda.max_alpha_of(v) for v in ("1.4.0", "1.5.10")] == [0.999] * 2
    assert [cuda.max_alpha_of(v) for v in ("1.6.0", "1.6.0.dev1", "2.0.0")] == [0.99] * 3


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (AttributeError("'NoneType' object has no attribute 'spherical_harmonics_fwd'"), "CUDA_HOME"),
        (ImportError("gsplat_cuda.so: cannot open shared object file"), "torch_extensions"),
        (RuntimeError("Error building extension 'gsplat_cuda'\nnvcc fatal"), "torch_extensions"),
    ],
)
def test_falls_back_to_the_kernels_of_the_cpu_with_one_warning(error, named, monkeypatch: pytest.MonkeyPatch) -> None:
    def unbuilt(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat, "spherical_harmonics", unbuilt)
    monkeypatch.setattr(cuda, "_failure", lambda device, real=cuda._failure: real("cpu"))
    cuda.cuda_rasterizer.cache_clear()
    with pytest.warns(UserWarning, match=named) as caught:
        first, second = cuda.cuda_rasterizer(), cuda.cuda_rasterizer()
    cuda.cuda_rasterizer.cache_clear()
    assert len(caught) == 1
    assert "nvcc fatal" not in str(caught[0].message)
    assert isinstance(first, CopyingRasterizer) and first.inner is cpu_rasterizer() and second is first


def test_other_attribute_errors_are_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("module 'gsplat' has no attribute 'colours'")

    monkeypatch.setattr(gsplat, "spherical_harmonics", broken)
    with pytest.raises(AttributeError, match="colours"):
        cuda._failure("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_says_what_to_do() -> None:
    cuda.cuda_rasterizer.cache_clear()
    with pytest.raises(UserError, match="--device cpu"):
        cuda.cuda_rasterizer()
