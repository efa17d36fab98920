"""Zero-1-to-3 and Stable Zero123 as random folders of the real layout: what the network is told, what is refused, runs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from diffusers import UNet2DConditionModel
from model_folders import write_zero123_folder
from safetensors.torch import load_file
from torch import Tensor
from train.small import config, red_and_blue
from transformers import CLIPVisionModelWithProjection

from splatdistill.cameras import Orbit, orbit
from splatdistill.errors import UserError, WeightsError
from splatdistill.guidance import GUIDANCES, View
from splatdistill.io.images import write_png
from splatdistill.priors import Query, hub
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.weights import find, load
from splatdistill.priors.zero123 import CLIP_MEAN, CLIP_STD, Zero123Prior, pose
from splatdistill.settings.commands import parse_train
from splatdistill.train.config import Background
from splatdistill.train.reference import Reference
from splatdistill.train.session import Session

PICTURE, VIEWS = orbit([20.0], 10.0, 3.0), orbit([20.0, 110.0, 200.0], [10.0, 40.0, -5.0], [3.0, 3.0, 3.5])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_zero123_folder(tmp_path_factory.mktemp("zero") / "zero123")


@pytest.fixture(scope="module")
def prior(folder) -> Zero123Prior:
    loaded = load(str(folder), precision="float64")
    assert isinstance(loaded, Zero123Prior)
    return loaded


@pytest.fixture(scope="module")
def picture() -> Tensor:
    rgba = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(3))
    rgba[:3] *= rgba[3:]
    return rgba


def question(prior: Zero123Prior) -> tuple[Tensor, Tensor]:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.tensor([0.5, 0.3, 0.9], dtype=torch.float64)


@torch.no_grad()
def test_the_network_is_told_picture_and_pose_as_in_threestudio(prior, folder, picture):
    """The published form, written down again on diffusers' and transformers' classes: picture on white, mean latents unscaled, token of
    embedding and (el_0 - el, sin, cos of the turn, difference of distance); zeros for both without it.
    """
    text = Prompts("ignored", picture=picture, picture_camera=PICTURE).conditions(prior, VIEWS, torch.rand(3, 3))
    x, t = question(prior)
    got, blind = prior.answer([Query(x, t, text.positive), Query(x, t, text.negative)])
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").double().eval()
    clip = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").double().eval()
    layer = {k: v.double() for k, v in load_file(folder / "clip_camera_projection" / "diffusion_pytorch_model.safetensors").items()}
    white = (picture[:3] + 1 - picture[3:])[None].double()
    small = torch.nn.functional.interpolate(white, size=(28, 28), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    embedding = clip((small - mean) / std).image_embeds.expand(3, -1)
    elevation, azimuth, distance = (torch.tensor(v).double() for v in ([0.0, -30.0, 15.0], [0.0, 90.0, 180.0], [0.0, 0.0, 0.5]))
    turn = torch.stack([elevation.deg2rad(), azimuth.deg2rad().sin(), azimuth.deg2rad().cos(), distance], 1)
    token = torch.nn.functional.linear(torch.cat([embedding, turn], 1), layer["proj.weight"], layer["proj.bias"])[:, None]
    latents = prior.vae.encode(2 * white - 1).latent_dist.mode().expand(3, -1, -1, -1)
    steps = (1000 * t).round().long()
    torch.testing.assert_close(got, unet(torch.cat([x, latents], 1), steps, token).sample, rtol=0, atol=1e-5)
    torch.testing.assert_close(blind, unet(torch.cat([x, 0 * latents], 1), steps, 0 * token).sample, rtol=0, atol=1e-5)


def test_the_last_number_of_a_stable_pose_is_the_pictures_polar_angle():
    places = VIEWS.camera_to_world, PICTURE.camera_to_world.expand(3, 4, 4)
    stable, plain = pose(*places, stable=True), pose(*places)
    torch.testing.assert_close(stable[:, 3], torch.full((3,), 80.0).deg2rad())
    torch.testing.assert_close(stable[:, :3], plain[:, :3])
    torch.testing.assert_close(plain[0], torch.tensor([0.0, 0.0, 1.0, 0.0]), rtol=0, atol=1e-6)
    assert plain[1, 0] < 0 < plain[2, 0], "higher is a smaller polar angle"


def test_a_folder_says_by_its_index_or_its_name_that_it_is_stable(tmp_path):
    for name, said, stable in (("zero123", {}, False), ("stable-zero123", {}, True), ("stable-not", {"stable_zero123": False}, False), ("z", {"stable_zero123": True}, True)):
        loaded = load(str(write_zero123_folder(tmp_path / name, **said)))
        assert isinstance(loaded, Zero123Prior) and loaded.stable is stable


@torch.no_grad()
def test_another_picture_is_looked_at_anew(prior, picture):
    x, t = question(prior)
    texts = [Prompts("", picture=p, picture_camera=PICTURE).conditions(prior, VIEWS) for p in (picture, picture.flip(1), picture)]
    first, other, again = (prior.answer([Query(x, t, text.positive)])[0] for text in texts)
    assert torch.equal(first, again) and (first - other).abs().max() > 1e-4


@pytest.mark.parametrize("name", [n if n in ("sds", "ism", "vsd") else pytest.param(n, marks=pytest.mark.slow) for n in GUIDANCES])
def test_every_guidance_runs_on_it(name, prior, picture):
    guidance = GUIDANCES[name]()
    memory = guidance.init(prior)
    x = question(prior)[0].requires_grad_()
    text = Prompts("", picture=picture, picture_camera=PICTURE).conditions(prior, VIEWS)
    view = View(x, text, prior, torch.Generator().manual_seed(0))
    try:
        done = guidance(view, memory)
    except UserError as e:
        assert name not in ("sds", "ism", "vsd"), e  # these must not refuse
        pytest.skip(str(e))
    (grad,) = torch.autograd.grad(done.loss, x)
    assert grad.isfinite().all() and grad.abs().max() > 0
    guidance.learn(view, memory)


def photo(path: Path) -> Path:
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 16:48, 16:48] = 1
    write_png(path, torch.cat([torch.full((3, 64, 64), 0.4), alpha]))
    return path


def test_a_run_needs_a_picture_and_no_words(folder, tmp_path):
    prior = load(str(folder))
    with pytest.raises(UserError, match="--from-image"):
        Session(config(), prior)
    c = config(prompt="", steps=2, cameras=Orbit(distance=(3.0, 3.0)), background=Background("white"), image=Reference(path=photo(tmp_path / "a.png"), rgb=1.0))
    session = Session(c, prior)
    assert [session.step().refused for _ in range(2)] == [0, 0]


def test_it_is_added_beside_a_prior_of_words(folder, tmp_path):
    """Magic123's pair: words for one prior, the picture for another."""
    c = config(steps=1, also=(f"sds[scale=3]@{folder}*0.5",), image=Reference(path=photo(tmp_path / "a.png")))
    assert Session(c, red_and_blue()).step().refused == 0


@pytest.mark.parametrize("name", ["zero123", "stable-zero123"])
def test_the_recipes_say_what_threestudio_does(name):
    file = ROOT / "configs" / "extra" / f"{name}.yaml"
    c = parse_train(["--config", str(file), "--image.path", "x.png"], lambda source: "sd").config
    stable = name != "zero123"
    assert (c.steps, c.guidance.scale, c.guidance_weight, c.background.kind) == (600, 3.0, 0.1, "white")
    assert c.guidance.times.t_max == (0.98 if stable else 0.85) and c.guidance.times.t_min_end == (0.3 if stable else 0.2)
    assert c.image.weights(0.0) == (500.0, 50.0) and c.image.weights(1.0) == ((1000.0 if stable else 500.0), 50.0)
    assert c.cameras.elevation == (-10.0, 80.0) and c.cameras.distance[0] == c.cameras.distance[1]


def test_parts_that_do_not_fit_are_refused_before_anything_is_loaded(folder, tmp_path):
    changes = {
        "channels": ("unet", {"in_channels": 4}, "reads 4 channels; expected 8"),
        "width": ("clip_camera_projection", {"embedding_dim": 32}, "width"),
        "pose": ("clip_camera_projection", {"additional_embeddings": 5}, "expected 4, of a pose"),
        "encoder": ("image_encoder", {"model_type": "siglip"}, "expected CLIP's"),
        "side": ("image_encoder", {"image_size": "big"}, "expected 224"),
    }
    for name, (part, change, said) in changes.items():
        broken = tmp_path / name
        shutil.copytree(folder, broken)
        file = broken / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change), encoding="utf-8")
        with pytest.raises(WeightsError, match=said):
            find(str(broken))
    missing = tmp_path / "missing"
    shutil.copytree(folder, missing)
    (missing / "clip_camera_projection" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="clip_camera_projection"):
        find(str(missing))
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    weights = pickled / "image_encoder" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(WeightsError, match="pickle"):
        find(str(pickled))


def test_the_hubs_layout_is_not_refused_by_its_name_and_zero123plus_is():
    assert not hub.other_model("ashawkey/zero123-xl-diffusers") and not hub.other_model("ashawkey/stable-zero123-diffusers")
    assert hub.other_model("sudo-ai/zero123plus-v1.1")
