"""Starts from meshes, points and splats of other programs, and from a shape that Shap-E makes of the prompt."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_tokenizer
from plyfile import PlyData, PlyElement

from splatdistill.errors import UserError, WeightsError
from splatdistill.io import frames
from splatdistill.io.ply import write_ply
from splatdistill.io.surface_points import barycentric, read_surface
from splatdistill.scene.initial import Ball, FromFile, fitted
from splatdistill.scene.shape import FromShape, shaped

trimesh = pytest.importorskip("trimesh")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def box(path: Path, scale: float = 3.0, offset: float = 40.0) -> Path:
    """Return a box in glTF's axes: 2 wide along x, 4 high along y, 6 deep along z; red at the front (+z), blue elsewhere."""
    mesh = trimesh.creation.box((2.0 * scale, 4.0 * scale, 6.0 * scale))
    mesh.unmerge_vertices()
    front = mesh.face_normals[:, 2] > 0.5
    colours = np.tile([0, 0, 255, 255], (len(mesh.vertices), 1)).astype(np.uint8)
    colours[mesh.faces[front].ravel()] = [255, 0, 0, 255]
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=colours)
    mesh.apply_translation([offset, 0, -offset])
    mesh.export(path)
    return path


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_a_mesh_stands_upright_in_the_middle_and_looks_along_x(tmp_path: Path, suffix: str) -> None:
    g = FromFile(box(tmp_path / f"box{suffix}"), count=3000, opacity=0.3).make(rng())
    assert len(g) == 3000 and (g.opacities == 0.3).all()
    reach = (g.means.amax(0) - g.means.amin(0)) / 2
    torch.testing.assert_close(reach / reach.max(), torch.tensor([1.0, 1 / 3, 2 / 3]), rtol=0, atol=0.02)  # deep, wide, high
    assert g.means.norm(dim=1).quantile(0.99).item() == pytest.approx(0.7, abs=0.01)
    front = g.means[:, 0] > 0.9999 * g.means[:, 0].max()
    red = g.rgb[:, 0] > 0.9
    assert red[front].all() and (red & ~front).float().mean() < 0.02
    areas = 2 * torch.tensor([2 * 4, 4 * 6, 2 * 6.0])
    ends = torch.stack([(g.means[:, k].abs() > 0.985 * reach[k]) for k in range(3)], 1).float().mean(0)
    torch.testing.assert_close(ends, areas / areas.sum(), rtol=0, atol=0.05)  # points are spread evenly over the faces


def test_axes_front_and_radius_may_be_said(tmp_path: Path) -> None:
    file = box(tmp_path / "box.glb", offset=0)
    as_is = FromFile(file, count=500, fit=1.5, up="raw").make(rng())
    plain = FromFile(file, count=500).make(rng())
    torch.testing.assert_close(plain.means, as_is.means @ frames.into("gltf").float() * (0.7 / 1.5), rtol=1e-4, atol=1e-4)
    turned = FromFile(file, count=500, facing=90.0).make(rng())
    torch.testing.assert_close(turned.means.abs().amax(0)[:2], plain.means.abs().amax(0)[[1, 0]], rtol=0.02, atol=0.02)


def test_textures_and_plain_materials_give_colours(tmp_path: Path) -> None:
    from PIL import Image

    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = [255, 0, 0]  # the upper half
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    square.visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    square.export(tmp_path / "square.glb")
    found = read_surface(tmp_path / "square.glb", 400, rng())
    upper = found.xyz[:, 1] > 0.5
    assert torch.equal(found.rgb[:, 0] > 0.5, upper) and found.rgb[:, 1:].abs().max() == 0
    square.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(baseColorFactor=[0, 255, 0, 255]))
    square.export(tmp_path / "green.glb")
    torch.testing.assert_close(read_surface(tmp_path / "green.glb", 10, rng()).rgb, torch.tensor([[0.0, 1.0, 0.0]]).expand(10, 3))


def test_points_within_a_triangle_are_even() -> None:
    share = torch.rand(20_000, 2, generator=rng()).double().numpy()
    weights = barycentric(share)
    assert (weights >= 0).all() and np.allclose(weights.sum(1), 1) and np.allclose(weights.mean(0), 1 / 3, atol=0.01)
    assert np.allclose((weights > 0.5).mean(0), 0.25, atol=0.02)  # each corner's quarter


def test_splats_and_points_are_scaled_with_their_sizes_and_turned(tmp_path: Path) -> None:
    given = Ball(count=200, colour="random", radius=3.0).make(rng())
    write_ply(tmp_path / "a.ply", given)
    plain, small = FromFile(tmp_path / "a.ply").make(rng()), FromFile(tmp_path / "a.ply", fit=0.5, facing=90.0).make(rng())
    factor = (small.scales / plain.scales).mean()
    torch.testing.assert_close(small.scales, factor * plain.scales)
    assert small.means.norm(dim=1).quantile(0.99).item() == pytest.approx(0.5, abs=0.01)
    spread = lambda g: torch.cdist(g.means, g.means)  # noqa: E731
    torch.testing.assert_close(spread(small), factor * spread(plain), rtol=1e-3, atol=2e-3)
    rows = np.zeros(300, [("x", "f4"), ("y", "f4"), ("z", "f4")])
    for i, name in enumerate("xyz"):
        rows[name] = np.random.default_rng(i).normal(size=300) * (5, 1, 1)[i] + 1e6 * (i == 0)
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(tmp_path / "p.ply"))
    far = FromFile(tmp_path / "p.ply", fit=0.8).make(rng())
    assert far.means.norm(dim=1).quantile(0.99).item() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("name", "data", "words"), [("a.glb", b"glTF junk", "cannot be read as a mesh"), ("a.obj", b"v 0 0 0\n", "has no surface"), ("gone.glb", None, "no such file")])
def test_files_that_are_no_meshes_are_refused(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words):
        FromFile(tmp_path / name).make(rng())


def test_fitting_leaves_a_stray_hundredth_out() -> None:
    points = Ball(count=5000, radius=4.0, scale=0.1).make(rng()).means + 7
    points[:20] = 1000.0
    inside = fitted(points, 0.6)[20:].norm(dim=1)
    assert inside.quantile(0.99).item() == pytest.approx(0.6, abs=0.01) and inside.max() < 0.62


# -- Shap-E -----------------------------------------------------------------------------------------


def crossing_tables() -> tuple[torch.Tensor, torch.Tensor]:
    """Return tables of marching cubes sufficient for a test: for each of the 256 cases, a fan over the edges whose ends differ in sign.

    Corner k has the coordinates (k & 1, k >> 1 & 1, k >> 2 & 1) as diffusers counts them, edges are its own order.
    """
    edges = [
        ((0, 0, 0), (1, 0, 0)), ((0, 1, 0), (1, 1, 0)), ((0, 0, 1), (1, 0, 1)), ((0, 1, 1), (1, 1, 1)),
        ((0, 0, 0), (0, 1, 0)), ((1, 0, 0), (1, 1, 0)), ((0, 0, 1), (0, 1, 1)), ((1, 0, 1), (1, 1, 1)),
        ((0, 0, 0), (0, 0, 1)), ((1, 0, 0), (1, 0, 1)), ((0, 1, 0), (0, 1, 1)), ((1, 1, 0), (1, 1, 1)),
    ]  # fmt: skip
    cases, masks = torch.zeros(256, 5, 3, dtype=torch.long), torch.zeros(256, 5, dtype=torch.bool)
    for case in range(256):
        inside = lambda c, case=case: case >> (c[0] + 2 * c[1] + 4 * c[2]) & 1  # noqa: E731
        cut = [k for k, (a, b) in enumerate(edges) if inside(a) != inside(b)]
        for n, (a, b) in enumerate(list(zip(cut[1:], cut[2:]))[:5]):
            cases[case, n], masks[case, n] = torch.tensor([cut[0], a, b]), True
    return cases, masks


@pytest.fixture(scope="module")
def shap_e(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a random Shap-E, in the layout of the real one."""
    from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEPipeline
    from diffusers.pipelines.shap_e.renderer import ShapERenderer
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("shap-e")
    tokenizer = write_tokenizer(folder / "tokenizer")
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=16, projection_dim=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=16, embedding_dim=16, num_embeddings=32, embedding_proj_dim=16, time_embed_dim=64, num_layers=1,
        clip_embed_dim=32, additional_embeddings=0, time_embed_act_fn="gelu", norm_in_type="layer", encoder_hid_proj_type=None, added_emb_type=None,
    )  # fmt: skip
    renderer = ShapERenderer(param_shapes=((8, 93), (8, 8), (8, 8), (8, 8)), d_latent=16, d_hidden=8, n_output=12)
    renderer.mesh_decoder.cases, renderer.mesh_decoder.masks = crossing_tables()
    scheduler = HeunDiscreteScheduler(beta_schedule="exp", num_train_timesteps=1024, prediction_type="sample", use_karras_sigmas=True, clip_sample=True)
    ShapEPipeline(prior, text, tokenizer, scheduler, renderer).save_pretrained(folder)
    return folder


def test_a_shape_becomes_gaussians_about_the_origin(shap_e: Path) -> None:
    options = FromShape(str(shap_e), "a red ball", count=500, steps=2, grid=12)
    vertices, rgb = shaped(options, rng())
    assert len(vertices) >= 4 and vertices.abs().max() <= 1.2 and (rgb.min() >= 0) and (rgb.max() <= 1)
    g = options.make(rng())
    assert len(g) == 500 and g.means.norm(dim=1).quantile(0.99).item() < 0.75
    again = options.make(rng())
    assert torch.equal(g.means, again.means)
    assert FromShape().of("a cube").prompt == "a cube" and options.of("a cube").prompt == "a red ball"


def test_the_shape_is_in_shap_es_axes_turned_to_ours(shap_e: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its z is up and its -y becomes our +x, the front."""
    options = FromShape(str(shap_e), "a red ball", steps=1, grid=10)
    ours, _ = shaped(options, rng())
    monkeypatch.setattr(frames, "into", lambda up: torch.eye(3, dtype=torch.float64))
    theirs, _ = shaped(options, rng())
    torch.testing.assert_close(ours, torch.stack([-theirs[:, 1], theirs[:, 0], theirs[:, 2]], 1))


@pytest.mark.parametrize(("damage", "words"), [("model_index.json", "model_index.json"), ("prior/diffusion_pytorch_model.safetensors", "prior/diffusion_pytorch_model.safetensors is missing")])
def test_weights_that_are_not_whole_are_told_before_anything_is_loaded(shap_e: Path, tmp_path: Path, damage: str, words: str) -> None:
    import shutil

    folder = shutil.copytree(shap_e, tmp_path / "copy")
    (folder / damage).unlink()
    with pytest.raises(WeightsError, match=words):
        FromShape(str(folder)).preflight()
    with pytest.raises(WeightsError, match="hf download openai/shap-e"):
        FromShape(str(tmp_path / "nowhere")).preflight()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "ShapEImg2ImgPipeline"}), encoding="utf-8")
    with pytest.raises(WeightsError, match="a ShapEImg2ImgPipeline"):
        FromShape(str(folder)).preflight()


def test_a_run_begins_with_a_shape_or_says_what_is_missing(shap_e: Path, here: Path, short_films: None, capsys: pytest.CaptureFixture[str]) -> None:
    from splatdistill.cli import main

    run = ["train", "--prompt", "a red mushroom", "--prior", "tiny", "--init", "shape", "--no-viewer", "--steps", "1", "--out", "run"]
    assert main([*run, "--init.weights", "nowhere/at-all"]) == 3
    assert "--init shape" in capsys.readouterr().err
    assert main([*run, "--init.weights", str(shap_e), "--init.steps", "1", "--init.grid", "10", "--init.count", "60", "--batch", "1"]) == 0
