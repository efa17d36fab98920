"""SDXL and SD 3 as random folders: the same conditions and the same calls as diffusers' own pipelines, and runs on them."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline, StableDiffusionXLPipeline
from model_folders import write_sd3_folder, write_xl_folder
from torch import Tensor, nn

from splatdistill.cli import main
from splatdistill.errors import WeightsError
from splatdistill.priors import Query
from splatdistill.priors.layout import problems
from splatdistill.priors.prediction import target
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.priors.weights import find, load

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "xl": write_xl_folder,
    "xl-v": lambda path: write_xl_folder(path, "v_prediction"),
    "3": write_sd3_folder,
}
PROMPTS = ["a red ball", "", "a blue cube, side view"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in FOLDERS.items()}


def exact(folder: Path) -> StableDiffusionPrior:
    prior = load(find(str(folder)), precision="float64")
    assert isinstance(prior, StableDiffusionPrior)
    return prior


def pipeline(name: str, folder: Path) -> Any:
    """Return diffusers' own pipeline, in double precision."""
    without = {"text_encoder_3": None, "tokenizer_3": None} if name == "3" else {}
    kind: Any = StableDiffusion3Pipeline if name == "3" else StableDiffusionXLPipeline
    return kind.from_pretrained(folder, dtype=torch.float64, **without)


def test_texts_are_what_diffusers_pipelines_make_of_them(folders: dict[str, Path]) -> None:
    prior, theirs = exact(folders["xl"]), pipeline("xl", folders["xl"])
    ours = prior.embed(PROMPTS)
    tokens, _, pooled, _ = theirs.encode_prompt(PROMPTS, device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.tokens[[0, 2]], tokens[[0, 2]])
    torch.testing.assert_close(ours.pooled[[0, 2]], pooled[[0, 2]])
    _, negative, _, negative_pooled = theirs.encode_prompt("a", device="cpu", do_classifier_free_guidance=True)
    torch.testing.assert_close(ours.tokens[1:2], negative)  # zeros
    torch.testing.assert_close(ours.pooled[1:2], negative_pooled)
    prior, theirs = exact(folders["3"]), pipeline("3", folders["3"])
    ours = prior.embed(PROMPTS)
    tokens, _, pooled, _ = theirs.encode_prompt(PROMPTS, PROMPTS, PROMPTS, device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(ours.tokens, tokens)
    torch.testing.assert_close(ours.pooled, pooled)
    assert ours.tokens.shape == (3, 77 + 256, 64)


def test_the_empty_prompt_is_read_where_the_folder_does_not_say_zeros(tmp_path: Path) -> None:
    folder = write_xl_folder(tmp_path / "xl")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    (folder / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}), encoding="utf-8")
    assert exact(folder).embed([""]).tokens.abs().sum() > 0


def test_the_network_is_told_what_diffusers_pipelines_tell_it(folders: dict[str, Path]) -> None:
    """eps of the closed form from one call of the pipelines' network, with their own time ids, at two times."""
    for name in ("xl", "3"):
        prior, theirs = exact(folders[name]), pipeline(name, folders[name])
        x_t, t = torch.randn(3, 4 if name == "xl" else 16, 8, 8, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        condition = prior.embed(PROMPTS)
        (eps,) = prior.answer([Query(x_t, t, condition)])
        with torch.no_grad():
            if name == "xl":
                sizes = theirs._get_add_time_ids((32, 32), (0, 0), (32, 32), torch.float64, 24).expand(3, -1)
                added = {"text_embeds": condition.pooled, "time_ids": sizes}
                told = theirs.unet(x_t, 1000 * t, encoder_hidden_states=condition.tokens, added_cond_kwargs=added).sample
            else:
                u = theirs.transformer(x_t, timestep=1000 * t, encoder_hidden_states=condition.tokens, pooled_projections=condition.pooled).sample
                told = x_t + (1 - t).view(-1, 1, 1, 1) * u  # x_t = (1 - t) x + t eps and u = eps - x
        torch.testing.assert_close(eps, told, rtol=1e-9, atol=1e-9)


class Right(nn.Module):
    """Network that predicts what is right for known latents and noise, in the terms of its family."""

    def __init__(self, prior: StableDiffusionPrior, x: Tensor, eps: Tensor, t: Tensor):
        super().__init__()
        self.answer, self.anchor = target(prior.prediction, x, eps, *prior.schedule(t)), nn.Parameter(torch.zeros(1))

    def forward(self, *_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(sample=self.answer)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_parametrisation_gives_the_noise_that_was_added(folders: dict[str, Path], name: str) -> None:
    prior = exact(folders[name])
    t = torch.tensor([0.02, 0.4, 0.98], dtype=torch.float64)
    x = prior.encode(torch.rand(3, 3, 32, 32))
    eps = torch.randn_like(x)
    alpha, sigma = prior.schedule(t)
    right = Right(prior, x, eps, t)
    told = prior.to_eps(prior.predict(alpha * x + sigma * eps, t, prior.embed(PROMPTS), right), alpha * x + sigma * eps, t)
    torch.testing.assert_close(told, eps, rtol=1e-9, atol=1e-9)
    if name == "3":
        torch.testing.assert_close(alpha.flatten(), 1 - t)
        torch.testing.assert_close(sigma.flatten(), t)


@pytest.mark.parametrize("name", ["xl", "3"])
def test_latents_are_shifted_and_scaled_as_their_autoencoder_says(folders: dict[str, Path], name: str) -> None:
    prior, image = exact(folders[name]), torch.rand(1, 3, 32, 32, dtype=torch.float64)
    mean = prior.vae.encode(2 * image - 1).latent_dist.mean
    shift, scale = (0.0609, 1.5305) if name == "3" else (0.0, 0.13025)
    torch.testing.assert_close(prior.encode(image), (mean - shift) * scale)
    torch.testing.assert_close(prior.decode((mean - shift) * scale), (prior.vae.decode(mean).sample + 1) / 2)


@pytest.mark.parametrize("name", ["xl", "3"])
def test_an_adapter_begins_as_the_network_and_learns(folders: dict[str, Path], name: str, rng: torch.Generator) -> None:
    prior = exact(folders[name])
    adapter = prior.adapter(2, rng)
    x = prior.encode(torch.rand(2, 3, 32, 32))
    t, condition = torch.tensor([0.3, 0.7], dtype=torch.float64), prior.embed(PROMPTS[:2])
    adapted, plain = prior.answer([Query(x, t, condition, adapter), Query(x, t, condition)])
    torch.testing.assert_close(adapted, plain, rtol=0, atol=1e-12)
    eps, optimiser = torch.randn_like(x), torch.optim.Adam(adapter.parameters(), 0.01)
    losses = []
    for _ in range(8):
        loss = adapter.loss(x, t, eps, condition)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert torch.equal(prior.answer([Query(x, t, condition)])[0], plain)


@pytest.mark.parametrize(("name", "method"), [("xl", "sds"), ("3", "sdi")])
def test_runs_from_the_command_line(folders: dict[str, Path], name: str, method: str, here: Path, short_films: None) -> None:
    small = ["--batch", "1", "--init.count", "60", "--densify", "fixed", "--no-viewer", "--perp-neg", "on"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = main(["train", "--prompt", "a red ball", "--prior", str(folders[name]), "--guidance", method, "--steps", "2", "--out", "run", *small])
    assert status == 0
    log = [json.loads(line) for line in Path("run/log.jsonl").read_text(encoding="utf-8").splitlines()]
    norms = [line["grad_norm"] for line in log if "grad_norm" in line]
    assert (Path("run") / "splats.ply").exists() and all(0 < n < float("inf") for n in norms)


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "Turbo": ("xl", lambda f: edit(f / "scheduler/scheduler_config.json", _class_name="EulerAncestralDiscreteScheduler", timestep_spacing="trailing"), "as SD-Turbo"),
    "LCM": ("xl", lambda f: edit(f / "unet/config.json", time_cond_proj_dim=256), "the guidance scale as an input"),
    "Playground": ("xl", lambda f: edit(f / "vae/config.json", latents_mean=[0.0] * 4), "latents_mean"),
    "no sizes": ("xl", lambda f: edit(f / "unet/config.json", addition_embed_type=None), "expected text_time"),
    "inpainting": ("xl", lambda f: edit(f / "unet/config.json", in_channels=9), "reads 9 channels"),
    "another pooled vector": ("xl", lambda f: edit(f / "text_encoder_2/config.json", projection_dim=32), "projection_class_embeddings_input_dim is 72; expected 80"),
    "the picture's pipeline": ("xl", lambda f: edit(f / "model_index.json", _class_name="StableDiffusionXLImg2ImgPipeline"), "StableDiffusionXLImg2ImgPipeline"),
    "no second tokenizer": ("xl", lambda f: [p.unlink() for p in (f / "tokenizer_2").iterdir()], "tokenizer_2/vocab.json is missing"),
    "code of its own": ("3", lambda f: edit(f / "transformer/config.json", auto_map={"AutoModel": "evil.Evil"}), "code of its own"),
    "betas": ("3", lambda f: edit(f / "scheduler/scheduler_config.json", _class_name="DDIMScheduler"), "expected FlowMatchEulerDiscrete"),
    "other widths": ("3", lambda f: edit(f / "transformer/config.json", pooled_projection_dim=64), "a pooled text of width 64 and the text encoders make 48"),
    "a Flux": ("3", lambda f: edit(f / "transformer/config.json", _class_name="FluxTransformer2DModel"), "expected SD3Transformer2DModel"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_relatives_that_cannot_be_used_are_refused_by_their_configurations(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    name, damage, words = BROKEN[kind]
    folder = shutil.copytree(folders[name], tmp_path / "copy")
    assert problems(folder) == ()
    damage(folder)
    with pytest.raises(WeightsError) as caught:
        find(str(folder))
    assert words in str(caught.value) and str(caught.value).count("\n") == 1


def test_a_model_of_another_class_is_refused_before_its_weights_are_downloaded(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path], tmp_path: Path) -> None:
    """Its id says nothing; the configurations come first and are enough."""
    import huggingface_hub

    folder = shutil.copytree(folders["xl"], tmp_path / "models", ignore=shutil.ignore_patterns("*.safetensors"))
    edit(folder / "unet/config.json", time_cond_proj_dim=256)
    asked: list[list[str]] = []

    def snapshot_download(repo: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(WeightsError, match="not downloaded: it holds the UNet wants the guidance scale"):
        find("someone/plainly-named", download=True)
    assert asked == [["*.json", "*.txt"]]


def test_perp_neg_blends_pooled_vectors_too(folders: dict[str, Path]) -> None:
    from splatdistill.cameras import orbit

    conditions = Prompts("a red ball", perp_neg=True).conditions(exact(folders["xl"]), orbit([0.0, 45.0]))
    assert conditions.perp is not None and conditions.positive.pooled.shape == conditions.perp.first.pooled.shape == (2, 24)
