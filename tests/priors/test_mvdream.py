"""MVDream's weights under their original names, random ones: converted, loaded as any folder, and equal to the network's own definition."""

import json
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from helpers import write_sd_folder
from priors.original_mvdream import OriginalUNet
from safetensors.torch import load_file, save_file
from train.small import config

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES, SDS, View
from splatdistill.priors import Query
from splatdistill.priors.multiview import camera_numbers, pose_numbers
from splatdistill.priors.mvdream import write_folder
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.priors.weights import load
from splatdistill.settings.commands import parse_train
from splatdistill.train.session import Session


@pytest.fixture(scope="module")
def original() -> OriginalUNet:
    torch.manual_seed(5)
    return OriginalUNet().double().eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("base") / "sd")


def written(original: OriginalUNet, path: Path, prefix: str) -> Path:
    """Write the UNet's tensors as a published file; the original file also has those of the other networks. Return its path."""
    tensors = {prefix + k: v.float().contiguous() for k, v in original.state_dict().items()}
    if prefix:
        tensors |= {"first_stage_model.encoder.conv_in.weight": torch.zeros(1), "betas": torch.zeros(3)}
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module", params=["model.diffusion_model.", ""], ids=["original", "diffusers"])
def folder(request, original, base, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("mv")
    return write_folder(written(original, place / "mvdream.safetensors", request.param), base, place / "out", azimuth=90.0)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_the_loaded_network_is_the_original_definition(folder, original, views):
    prior = load(str(folder), precision="float64", views=4)
    g = torch.Generator().manual_seed(1)
    x, text = torch.randn(4, 4, 8, 8, generator=g).double(), torch.randn(4, 7, 32, generator=g).double()
    camera, t = camera_numbers(orbit([0.0, 90.0, 180.0, 270.0], 15.0)).double(), torch.full((4,), 371.0).double()
    assert isinstance(prior, StableDiffusionPrior)
    with torch.no_grad():
        wanted = original(x, t, text, camera, views)
        got = prior.unet(x, t, encoder_hidden_states=text, class_labels=camera, cross_attention_kwargs={"views": views}).sample
    assert wanted.std() > 0.05
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_the_prior_tells_the_network_the_cameras_turned_by_its_own_azimuth(folder, original):
    prior = load(str(folder), precision="float64", views=4)
    cameras, turned = orbit([10.0, 100.0, 190.0, 280.0], 20.0), orbit([100.0, 190.0, 280.0, 10.0], 20.0)
    text = Prompts("a red ball", words=None).conditions(prior, cameras)
    x, t = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.full((4,), 0.5, dtype=torch.float64)
    (got,) = prior.answer([Query(x, t, text.positive)])
    with torch.no_grad():
        wanted = original(x, 1000 * t, text.positive.tokens, camera_numbers(turned).double(), 4)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    assert isinstance(prior, StableDiffusionPrior) and prior.azimuth == 90.0 and prior.image_size == 128 and prior.licence == "creativeml-openrail-m"


def test_a_turn_of_the_azimuth_is_another_camera():
    for azimuth in (-120.0, 30.0, 90.0):
        got = pose_numbers(orbit([15.0, 200.0], [10.0, 40.0]).camera_to_world, azimuth)
        torch.testing.assert_close(got, camera_numbers(orbit([15.0 + azimuth, 200.0 + azimuth], [10.0, 40.0])), rtol=0, atol=1e-5)
    assert not pose_numbers(torch.zeros(1, 4, 4), 90.0).any()


def test_a_run_sees_sets_of_four(folder):
    session = Session(config(SDS(scale=2.0), prompt="a red ball", prior_views=4, batch=1), load(str(folder), views=4))
    done = session.step()
    assert session.last is not None and len(session.last.view.x) == 4 and done.grad_norm > 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.pop("camera_embed.0.weight"), "no camera_embed.0.weight"),
        (lambda t: t.pop("middle_block.1.transformer_blocks.0.attn1.to_q.weight"), "is nothing there"),
        (lambda t: t.update({"out.2.weight": torch.zeros(8, 16, 3, 3)}), "conv_out.weight"),
        (lambda t: t.update({"more.weight": torch.zeros(1)}), "have no place"),
    ],
)
def test_other_weights_are_refused_in_words(change, why, original, base, tmp_path):
    tensors = load_file(written(original, tmp_path / "a.safetensors", ""))
    change(tensors)
    save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match=why):
        write_folder(tmp_path / "b.safetensors", base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_and_folders_that_will_not_do(base, tmp_path):
    (tmp_path / "a.pt").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UserError, match="a pickle"):
        write_folder(tmp_path / "a.pt", base, tmp_path / "out")
    with pytest.raises(UserError, match="no folder of Stable Diffusion"):
        write_folder(tmp_path / "a.pt", tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="is there already"):
        write_folder(tmp_path / "a.pt", base, tmp_path)


@pytest.mark.parametrize("said", ["left", True, 1e9])
def test_an_azimuth_that_is_none_is_refused(said, original, base, tmp_path):
    out = write_folder(written(original, tmp_path / "a.safetensors", ""), base, tmp_path / "out")
    index = json.loads((out / "model_index.json").read_text(encoding="utf-8"))
    (out / "model_index.json").write_text(json.dumps(index | {"camera_azimuth": said}), encoding="utf-8")
    with pytest.raises(UserError, match="camera_azimuth"):
        load(str(out), views=4)


@pytest.mark.parametrize("name", GUIDANCES)
def test_every_guidance_runs_on_sets(name, folder):
    """With the adapter of VSD and the inversion of SDI: a view's gradient depends on the others of its set, and on no other set."""
    prior, guidance = load(str(folder), precision="float64", views=4), GUIDANCES[name]()
    cameras = orbit([0.0, 90.0, 180.0, 270.0, 30.0, 120.0, 210.0, 300.0], 15.0)
    text = Prompts("a red ball", "blue", words=None).conditions(prior, cameras)
    start = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def residual(moved: int | None) -> torch.Tensor:
        x = start.clone()
        if moved is not None:
            x[moved] += 1.0
        memory = guidance.init(prior)
        view = View(x.requires_grad_(), text, prior, torch.Generator().manual_seed(1), 0.6)
        if name == "vsd":  # an adapter that has learned something
            guidance.learn(view, memory)
        return guidance(view, memory).residual

    still, moved = residual(None), residual(1)
    changed = (moved - still).flatten(1).abs().amax(1)
    assert still.isfinite().all() and (changed[:4] > 1e-9).all()
    if name != "vsd":  # whose adapter learned from all
        assert (changed[4:] < 1e-9).all()


def test_its_recipe_is_its_sources(folder):
    source = ROOT / "configs" / "extra" / "mvdream.yaml"
    parsed = parse_train(["--config", str(source), "--prompt", "a red ball"], lambda source: "sd").config
    assert (parsed.prior_views, parsed.guidance.scale, parsed.guidance.weight, parsed.guidance.recon_rescale) == (4, 50.0, "sigma_alpha", 0.5)
    for progress, ends in ((0.0, (0.98, 0.98)), (0.4, (0.5, 0.74)), (0.8, (0.02, 0.5)), (1.0, (0.02, 0.5))):
        assert parsed.guidance.times.ends(progress) == pytest.approx(ends)
    assert parsed.guidance.times.switch is None and not parsed.view_dependent and parsed.perp_neg == "off"
    times = parsed.guidance.times.draw(8, 0.5, torch.Generator().manual_seed(0), 4)
    assert times.unique().numel() == 1
