"""Networks of depth and normals: their folders, their agreement with the libraries they come from, their gradients."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from estimators.networks import write_dpt_hybrid, write_marigold, write_tiny_geometry
from safetensors.torch import load_file, save_file

from splatdistill.cameras import orbit
from splatdistill.errors import WeightsError
from splatdistill.estimators import GeometryEstimator, load_geometry
from splatdistill.estimators.depth import DepthPreprocessing
from splatdistill.estimators.geometry import angle, correlation, cosine, normal_of_inverse_depth, overlap
from splatdistill.toybox import parse, render
from splatdistill.weight_files import SharedWeights

WRITERS = {"tiny": write_tiny_geometry, "dpt": write_dpt_hybrid, "marigold": write_marigold}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one folder of each kind."""
    return {k: write(tmp_path_factory.mktemp("estimators") / k) for k, write in WRITERS.items()}


def pictures(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


# -- networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_it_is_one_of_the_protocol_and_tells_what_it_says(folders, kind):
    estimator = load_geometry(str(folders[kind]))
    assert isinstance(estimator, GeometryEstimator)
    told = estimator(pictures())
    maps = {"depth": told.inverse_depth, "normal": told.normal, "segment": told.foreground}
    assert {k for k, v in maps.items() if v is not None} == set(estimator.tells)
    assert all(v.shape == (2, 3 if k == "normal" else 1, 32, 32) for k, v in maps.items() if v is not None)
    assert {"tiny": "tiny-geometry"}.get(kind, str(folders[kind])) == estimator.name


@pytest.mark.parametrize("kind", WRITERS)
def test_gradients_reach_the_picture_as_finite_differences_say(folders, kind):
    estimator = load_geometry(str(folders[kind]))
    for part in ("network", "model", "unet", "vae"):
        if hasattr(estimator, part):
            assert not any(p.requires_grad for p in getattr(estimator, part).parameters())

    def value(rgb):
        told = estimator(rgb)
        return sum(v.square().mean(dim=(1, 2, 3)).sum() for v in (told.inverse_depth, told.foreground) if v is not None) + (
            0 if told.normal is None else told.normal[:, :2].mean(dim=(1, 2, 3)).sum()
        )

    rgb = pictures().requires_grad_()
    (slope,) = torch.autograd.grad(value(rgb), rgb)
    direction = slope / slope.norm()
    with torch.no_grad():
        ahead, behind = (float(value(rgb + e * direction)) for e in (2e-2, -2e-2))
    assert slope.norm() > 0
    assert float((slope * direction).sum()) == pytest.approx((ahead - behind) / 4e-2, rel=0.08)


def test_dpt_is_that_of_transformers(folders):
    from transformers import DPTForDepthEstimation

    model = DPTForDepthEstimation.from_pretrained(folders["dpt"]).eval()
    rgb = pictures()
    with torch.no_grad():
        expected = model(pixel_values=2 * rgb - 1).predicted_depth
        got = load_geometry(str(folders["dpt"]))(rgb).inverse_depth
    assert expected.std() > 0
    torch.testing.assert_close(got[:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("keep, multiple, shape", [(False, 1, (50, 50)), (True, 14, (64, 64)), (True, 14, (60, 90)), (False, 32, (20, 70))])
def test_preparation_is_that_of_transformers(tmp_path, keep, multiple, shape):
    from transformers import DPTImageProcessor

    theirs = DPTImageProcessor(size={"height": 56, "width": 56}, keep_aspect_ratio=keep, ensure_multiple_of=multiple)
    theirs.save_pretrained(tmp_path)
    ours = DepthPreprocessing.of(json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8")))
    y, x = np.meshgrid(*(np.arange(n) / 10 for n in shape), indexing="ij")
    picture = np.stack([128 + 90 * np.sin(x + 2), 128 + 90 * np.cos(2 * y), 100 + 80 * np.sin(x * y)], -1).astype(np.uint8)
    expected = torch.as_tensor(np.array(theirs(picture, return_tensors="np")["pixel_values"]))
    got = ours(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1.5 / 255 / 0.22  # theirs rounds to bytes after resizing


def test_marigold_is_that_of_diffusers(folders):
    from diffusers import MarigoldNormalsPipeline

    pipe = MarigoldNormalsPipeline.from_pretrained(folders["marigold"])
    pipe.set_progress_bar_config(disable=True)
    rgb, start = pictures(), torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    expected = pipe(rgb, num_inference_steps=1, processing_resolution=32, latents=start.expand(2, -1, -1, -1), batch_size=2, output_type="pt").prediction
    with torch.no_grad():
        got = load_geometry(str(folders["marigold"]))(rgb).normal
    flipped = expected * torch.tensor([1.0, -1.0, -1.0])[:, None, None]
    assert float(cosine(got, flipped, torch.ones(2, 1, 32, 32)).min()) > 0.999


def test_tiny_geometry_is_what_was_saved_its_own_or_bundled(folders, tmp_path):
    own, folder = load_geometry(str(folders["tiny"])), tmp_path / "models" / "geometry"
    shutil.copytree(folders["tiny"], folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file({f"geometry.{k}": v.half() for k, v in tensors.items()}, tmp_path / "models" / "weights.safetensors")
    SharedWeights.write(folder, tmp_path / "models" / "weights.safetensors", "geometry.")
    rgb = pictures()
    torch.testing.assert_close(load_geometry(str(folder))(rgb).inverse_depth, own(rgb).inverse_depth, rtol=0, atol=0.02)


# -- errors -------------------------------------------------------------------------------------------


def test_another_network_is_refused(folders, tmp_path):
    for changes, complaint in (
        ({"architectures": ["BertModel"]}, "BertModel; expected DPTForDepthEstimation"),
        ({"depth_estimation_type": "metric"}, "relative inverse depth"),
    ):
        folder = tmp_path / complaint[:5]
        shutil.copytree(folders["dpt"], folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        with pytest.raises(WeightsError, match=complaint):
            load_geometry(str(folder))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}), encoding="utf-8")
    with pytest.raises(WeightsError, match="StableDiffusionPipeline; expected a MarigoldNormalsPipeline"):
        load_geometry(str(tmp_path))


@pytest.mark.parametrize(
    "source, complaint",
    [
        ("Intel/dpt-hybrid-midas", "hf download Intel/dpt-hybrid-midas"),
        ("nowhere at all", "a hub id reads OWNER/NAME"),
    ],
)
def test_what_is_not_here_is_named_with_a_way_to_get_it(source, complaint):
    with pytest.raises(WeightsError, match=complaint):
        load_geometry(source)


def test_weights_that_are_missing_are_named(folders, tmp_path):
    for kind in ("tiny", "dpt"):
        shutil.copytree(folders[kind], tmp_path / kind)
        (tmp_path / kind / "model.safetensors").unlink()
        with pytest.raises(WeightsError, match="model.safetensors; pickled"):
            load_geometry(str(tmp_path / kind))


# -- measures -----------------------------------------------------------------------------------------


def test_measures():
    rng = torch.Generator().manual_seed(0)
    a, b, w = (torch.rand(2, 1, 8, 8, generator=rng) for _ in range(3))
    flat = [v.flatten(1).numpy().astype(np.float64) for v in (a, b, w)]
    expected = [np.cov(x, y, aweights=u)[0, 1] / np.sqrt(np.cov(x, aweights=u) * np.cov(y, aweights=u)) for x, y, u in zip(*flat)]
    assert correlation(a, b, w).tolist() == pytest.approx(expected, abs=1e-5)
    assert correlation(a, -3 * a + 7, w).tolist() == pytest.approx([-1, -1], abs=1e-4)
    assert correlation(a, b, 0 * w).tolist() == [0, 0] and correlation(a, 0 * b, w).tolist() == [0, 0]
    x, y = (torch.tensor(v)[None, :, None, None].expand(1, 3, 8, 8) for v in ([1.0, 0.0, 0.0], [1.0, 1.0, 0.0]))
    assert float(angle(x, y, w[:1])) == pytest.approx(45, abs=1e-3)
    assert float(cosine(x, y, w[:1])) == pytest.approx(0.5**0.5, abs=1e-3)
    left, top = (torch.zeros(1, 1, 4, 4) for _ in range(2))
    left[..., :2], top[..., :2, :] = 1, 1
    assert float(overlap(left, top)) == pytest.approx(1 / 3)


def test_normals_of_inverse_depth_face_as_the_true_ones():
    """On a ball of the toybox: the same side as the tracer's normals, whatever factor and shift the depth has."""
    cameras = orbit([20.0, 200.0], width=32)
    truth = render([parse("a red ball").parts()], cameras, samples=1, threads=1)
    inside = (truth.alpha > 0.5).float()
    inverse = torch.where(inside > 0, 1 / truth.depth.clamp(min=0.1), 0.25)
    true = torch.einsum("bij,bjhw->bihw", cameras.world_to_camera[:, :3, :3], truth.normal)
    inner = 1 - torch.nn.functional.max_pool2d(1 - inside, 3, 1, 1)
    got = normal_of_inverse_depth(inverse, inside)
    for axis in (0, 1):  # right of its middle a ball faces right, below it down
        assert float(correlation(got[:, axis : axis + 1], true[:, axis : axis + 1], inner).min()) > 0.8
    assert float(cosine(got, true, inner).min()) > 0.8
    torch.testing.assert_close(normal_of_inverse_depth(40 * inverse + 3, inside), got, rtol=1e-3, atol=1e-3)
