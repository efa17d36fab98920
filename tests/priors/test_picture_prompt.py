"""A picture as a fifth frame: the network sees it clean, at time 0 and without camera, and is asked as often as is counted."""

import json
from pathlib import Path

import pytest
import torch
from helpers import write_sd_folder
from priors.original_mvdream import OriginalUNet
from safetensors.torch import save_file
from train.small import config

from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES, View
from splatdistill.io.images import write_png
from splatdistill.priors import Query
from splatdistill.priors.multiview import camera_numbers
from splatdistill.priors.mvdream import write_folder
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.priors.weights import WORLD, load
from splatdistill.train.reference import Reference
from splatdistill.train.session import Session

CAMERAS = orbit([10.0, 100.0, 190.0, 280.0] * 2, 20.0)


@pytest.fixture(scope="module")
def original() -> OriginalUNet:
    torch.manual_seed(5)
    return OriginalUNet().double().eval()


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("imagedream")
    save_file({k: v.float().contiguous() for k, v in original.state_dict().items()}, place / "mv.safetensors")
    out = write_folder(place / "mv.safetensors", write_sd_folder(place / "sd"), place / "out")
    index = json.loads((out / "model_index.json").read_text(encoding="utf-8"))
    (out / "model_index.json").write_text(json.dumps(index | {"picture_prompt": True}), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def prior(folder) -> StableDiffusionPrior:
    loaded = load(str(folder), precision="float64", views=4)
    assert isinstance(loaded, StableDiffusionPrior) and loaded.takes_picture
    return loaded


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """Return premultiplied colours and opacity."""
    rgba = torch.rand(4, 64, 64, generator=torch.Generator().manual_seed(3))
    rgba[:3] *= rgba[3:]
    return rgba


def question(prior: StableDiffusionPrior) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(8, *prior.encode(torch.zeros(1, 3, prior.image_size, prior.image_size)).shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return x, torch.tensor([0.5] * 4 + [0.3] * 4, dtype=torch.float64)


def test_the_network_sees_the_picture_clean_at_time_0_without_camera_and_each_set_over_its_own_background(prior, original, picture):
    behind = torch.tensor([[0.1, 0.4, 0.9]] * 4 + [[1.0, 1.0, 1.0]] * 4)
    text = Prompts("a red ball", words=None, picture=picture).conditions(prior, CAMERAS, behind)
    x, t = question(prior)
    (got,) = prior.answer([Query(x, t, text.positive)])
    small = torch.nn.functional.interpolate(picture[None].double(), size=(prior.image_size,) * 2, mode="bilinear", antialias=True, align_corners=False)
    shown = torch.cat([small[:, :3] + (1 - small[:, 3:]) * colour.double().view(1, 3, 1, 1) for colour in behind[[0, 4]]])
    with torch.no_grad():
        clean = prior.encode(shown)
        frames = [torch.cat([clean[k : k + 1], x[4 * k : 4 * k + 4]]) for k in range(2)]
        steps = [torch.cat([torch.zeros(1).double(), 1000 * t[4 * k : 4 * k + 4]]) for k in range(2)]
        numbers = camera_numbers(CAMERAS).double()
        cameras = [torch.cat([torch.zeros(1, 16).double(), numbers[4 * k : 4 * k + 4]]) for k in range(2)]
        wanted = [original(f, s, text.positive.tokens[:5], c, 5)[1:] for f, s, c in zip(frames, steps, cameras)]
    torch.testing.assert_close(got, torch.cat(wanted), rtol=0, atol=1e-5)
    (blind,) = prior.answer([Query(x, t, text.null)])
    assert (got - blind).abs().max() > 1e-3, "the picture changes nothing"


def test_the_picture_is_dropped_from_the_negative_branch_unless_it_is_kept_there(prior, picture):
    for kept in (False, True):
        text = Prompts("a red ball", "a blue ball", picture=picture, picture_kept=kept).conditions(prior, CAMERAS)
        assert text.positive.image is not None and text.plain.image is not None and text.null.image is None
        assert (text.negative.image is not None) is kept and len(text[4:]) == 4
    words = Prompts("a red ball").conditions(prior, CAMERAS)
    assert all(c.image is None for c in (words.positive, words.negative, words.null, words.plain))


def test_a_question_with_the_picture_counts_a_frame_more_in_each_set(prior, picture):
    text = Prompts("", picture=picture).conditions(prior, CAMERAS)
    assert text.texts == ("",) * 8, "view words without a prompt"
    x, t = question(prior)
    before = prior.calls
    answers = prior.answer([Query(x, t, text.positive), Query(x, t, text.negative)])
    assert prior.calls - before == 10 + 8
    alone = [prior.answer([Query(x, t, c)])[0] for c in (text.positive, text.negative)]
    for a, b in zip(answers, alone):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_a_batch_that_is_cut_answers_the_same(folder, prior, picture):
    few = load(str(folder), precision="float64", views=4, max_batch=4)
    text = Prompts("a red ball", picture=picture).conditions(prior, CAMERAS)
    x, t = question(prior)
    torch.testing.assert_close(few.answer([Query(x, t, text.positive)])[0], prior.answer([Query(x, t, text.positive)])[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [n if n in ("sds", "ism", "vsd") else pytest.param(n, marks=pytest.mark.slow) for n in GUIDANCES])
def test_every_guidance_runs_on_sets_with_a_picture(name, prior, picture):
    guidance = GUIDANCES[name]()
    memory = guidance.init(prior)
    x = question(prior)[0].float().double().requires_grad_()
    text = Prompts("a red ball", picture=picture).conditions(prior, CAMERAS)
    view = View(x, text, prior, torch.Generator().manual_seed(0), render=None)
    try:
        done = guidance(view, memory)
    except UserError as e:
        assert name not in ("sds", "ism", "vsd"), e  # these must not refuse
        pytest.skip(str(e))
    (grad,) = torch.autograd.grad(done.loss, x)
    assert grad.isfinite().all() and grad.abs().max() > 0
    guidance.learn(view, memory)


@pytest.mark.skipif(not (WORLD / "model_index.json").is_file(), reason="the embedded weights are not in this checkout")
def test_the_embedded_prior_takes_a_picture_where_it_sees_sets():
    assert load("world", views=4).takes_picture and not load("world").takes_picture and not load("tiny").takes_picture


def test_a_run_without_words_learns_from_the_picture_alone(folder, picture, tmp_path):
    write_png(tmp_path / "a.png", torch.cat([picture[:3] / picture[3:].clamp(min=1e-3), picture[3:]]).clamp(0, 1))
    c = config(prompt="", prior_views=4, batch=1, steps=2, image=Reference(path=tmp_path / "a.png", rgb=1.0))
    session = Session(c, load(str(folder), views=4))
    for _ in range(2):
        assert session.step().refused == 0
