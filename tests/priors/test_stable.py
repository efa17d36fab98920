"""Random Stable Diffusion folders, loaded and asked as real ones are."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import write_sd_folder
from torch import Tensor, nn
from transformers import CLIPTextModel

from splatdistill.priors import Condition, Query
from splatdistill.priors.parts import Parts
from splatdistill.priors.precision import Precision
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.sampling import sample
from splatdistill.priors.stable import StableDiffusionPrior
from splatdistill.priors.weights import find, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def folders(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one folder of each kind that must load."""
    return {
        "epsilon": folder,
        "v_prediction": write_sd_folder(tmp_path_factory.mktemp("v"), "v_prediction"),
        "fp16": write_sd_folder(tmp_path_factory.mktemp("half"), "v_prediction", "fp16"),
        "patches": write_sd_folder(tmp_path_factory.mktemp("patches"), "v_prediction", patches=True, length=20),
    }


def exact(folder: Path) -> StableDiffusionPrior:
    return StableDiffusionPrior.from_folder(folder, precision="float64")


def question(prior: StableDiffusionPrior, prompts: list[str], t: list[float] | None = None) -> Query:
    x = prior.encode(torch.rand(len(prompts), 3, prior.image_size, prior.image_size))
    times = torch.tensor(t or [0.02 + 0.3 * i for i in range(len(prompts))], dtype=prior.dtype)
    return Query(torch.randn_like(x), times, prior.embed(prompts))


class ForwardCalls:
    """Batch sizes that the UNet was called with."""

    def __init__(self, prior: StableDiffusionPrior):
        self.sizes: list[int] = []
        prior.unet.register_forward_pre_hook(lambda _, args: self.sizes.append(len(args[0])))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "fp16", "patches"])
def test_every_kind_of_folder_loads_and_draws(folders: dict[str, Path], kind: str, rng: torch.Generator) -> None:
    prior = load(find(str(folders[kind])), precision="float32")
    assert (prior.image_size, prior.dtype, prior.name) == (32, torch.float32, str(folders[kind]))
    assert not any(p.requires_grad for m in (prior.unet, prior.vae, *prior.text_encoders) for p in m.parameters())
    images = sample(prior, ["a red ball", "a blue cube, side view"], scale=3.0, steps=3, rng=rng)
    assert images.shape == (2, 3, 32, 32) and images.isfinite().all()
    assert (images[0] - images[1]).abs().mean() > 1e-3
    assert prior.calls == 3 * 4


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_answers_are_the_networks_eps_in_diffusers_terms(folders: dict[str, Path], kind: str) -> None:
    """Against the network's raw output, converted with the scheduler's own table at the integer steps."""
    from diffusers import DDPMScheduler

    prior = exact(folders[kind])
    steps = [20, 500, 999]
    query = question(prior, ["a ball", "a red cube", ""], [s / 1000 for s in steps])
    (eps,) = prior.answer([query])
    with torch.no_grad():
        raw = prior.unet(query.x_t, torch.tensor(steps), query.condition.tokens).sample
    squared = (
        DDPMScheduler.from_pretrained(folders[kind] / "scheduler").alphas_cumprod[steps].double().view(-1, 1, 1, 1)
    )
    expected = raw if kind == "epsilon" else (1 - squared).sqrt() * query.x_t + squared.sqrt() * raw
    torch.testing.assert_close(eps, expected, rtol=0, atol=1e-9)
    alpha, sigma = prior.schedule(query.t)
    torch.testing.assert_close(alpha, squared.sqrt(), rtol=0, atol=1e-12)
    torch.testing.assert_close(sigma, (1 - squared).sqrt(), rtol=0, atol=1e-12)


class AsVelocity(nn.Module):
    """Same function as an eps network, stated as v = (eps - sigma x_t) / alpha."""

    def __init__(self, prior: StableDiffusionPrior):
        super().__init__()
        self.unet, self.noise = prior.unet, prior.noise

    def forward(self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> SimpleNamespace:
        alpha, sigma = self.noise.broadcast(t.double() / 1000, 3, x.dtype)
        return SimpleNamespace(sample=(self.unet(x, t, encoder_hidden_states).sample - sigma * x) / alpha)


def test_one_function_gives_one_answer_as_eps_and_as_v(folder: Path) -> None:
    prior = exact(folder)
    parts = Parts(AsVelocity(prior), prior.vae, prior.text_encoders, prior.tokenizers, prior.noise, "v_prediction")
    as_v = StableDiffusionPrior(parts, image_size=prior.image_size)
    query = question(prior, ["a ball", "a cube", "", "a"], [0.0, 0.123, 0.5, 0.98])
    torch.testing.assert_close(as_v.answer([query]), prior.answer([query]), rtol=0, atol=1e-9)


def test_queries_share_one_call_and_keep_their_order(folder: Path) -> None:
    prior = exact(folder)
    a, b, c = question(prior, ["a ball", ""]), question(prior, ["a red cube"]), question(prior, ["", "a mushroom"])
    alone = [prior.answer([q])[0] for q in (a, b, c)]
    forward, before = ForwardCalls(prior), prior.calls
    together = prior.answer([a, b, c])
    assert forward.sizes == [5] and prior.calls - before == 5
    torch.testing.assert_close(together, tuple(alone), rtol=0, atol=1e-10)
    prior.max_batch = 2
    torch.testing.assert_close(prior.answer([a, b, c]), together, rtol=0, atol=1e-10)
    assert forward.sizes == [5, 2, 2, 1]


def test_adapters_answer_for_themselves(folder: Path) -> None:
    class Shifted(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
            assert condition.camera is None
            return prior.eps(x_t, t, condition) + 1

    prior, adapter = exact(folder), Shifted()
    query = question(prior, ["a ball", ""])
    adapted, plain = prior.answer([Query(query.x_t, query.t, query.condition, adapter), query])
    torch.testing.assert_close(adapted, plain + 1)
    assert prior.calls == 4


def test_gradients_pass_the_encoder_and_never_the_unet(folder: Path) -> None:
    prior = exact(folder)
    rgb = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    x = prior.encode(rgb)
    (eps,) = prior.answer([Query(x, torch.tensor([0.5], dtype=torch.float64), prior.embed(["a ball"]))])
    assert not eps.requires_grad
    cotangent = torch.randn_like(x)
    (gradient,) = torch.autograd.grad((cotangent * x).sum(), rgb)
    direction = torch.randn_like(rgb)
    with torch.no_grad():
        ahead, behind = (prior.encode(rgb + h * direction) for h in (1e-5, -1e-5))
    slope = (cotangent * (ahead - behind)).sum() / 2e-5
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(prior.decode(x).shape, rgb.shape)


def test_the_posterior_is_sampled_with_a_generator_and_scaled(folder: Path) -> None:
    prior = exact(folder)
    rgb = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    posterior = prior.vae.encode(2 * rgb - 1).latent_dist
    torch.testing.assert_close(prior.encode(rgb), 0.18215 * posterior.mean)
    x = torch.cat([prior.encode(rgb, torch.Generator().manual_seed(s)) for s in range(200)])
    again = prior.encode(rgb, torch.Generator().manual_seed(0))
    assert torch.equal(again[0], x[0])
    z = (x / 0.18215 - posterior.mean) / posterior.std
    assert z.mean().item() == pytest.approx(0, abs=0.02) and z.std().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(
        prior.decode(0.18215 * posterior.mean), (prior.vae.decode(posterior.mean).sample + 1) / 2
    )


def test_patches_are_latents_without_a_spread(folders: dict[str, Path], rng: torch.Generator) -> None:
    prior = load(str(folders["patches"]), precision="float32")
    rgb = torch.rand(2, 3, 32, 32)
    assert torch.equal(prior.encode(rgb, rng), prior.encode(rgb))
    torch.testing.assert_close(prior.decode(prior.encode(rgb)), rgb)


def test_half_precision_files_hold_the_same_weights(folders: dict[str, Path]) -> None:
    full, half = exact(folders["v_prediction"]), exact(folders["fp16"])
    query = question(full, ["a ball", ""])
    torch.testing.assert_close(half.embed(["a ball"]).tokens, full.embed(["a ball"]).tokens, rtol=0, atol=5e-3)
    torch.testing.assert_close(half.answer([query]), full.answer([query]), rtol=0, atol=5e-3)
    assert not torch.equal(half.answer([query])[0], full.answer([query])[0])


@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_the_unet_may_run_in_low_precision(folder: Path, precision: Precision, close: float) -> None:
    reference, prior = exact(folder), StableDiffusionPrior.from_folder(folder, precision=precision)
    query = question(reference, ["a ball", "a cube"])
    (eps,) = prior.answer([Query(query.x_t.float(), query.t.float(), Condition(query.condition.tokens.float()))])
    assert prior.precision == getattr(torch, precision) and eps.dtype == torch.float32
    torch.testing.assert_close(eps.double(), reference.answer([query])[0], rtol=0, atol=close)


def test_text_is_what_the_encoder_says_and_is_embedded_once(folder: Path) -> None:
    prior = exact(folder)
    seen: list[int] = []
    prior.text_encoders[0].register_forward_pre_hook(lambda _m, _a, kw: seen.append(len(kw["input_ids"])), with_kwargs=True)
    embedded = prior.embed(["a ball", "", "a ball"]).tokens
    assert embedded.shape == (3, 77, 32) and torch.equal(embedded[0], embedded[2])
    prior.embed(["", "a ball", "a cube"])
    assert seen == [2, 1]
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder").double()
    ids = prior.tokenizers[0](["a ball"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(embedded[:1], encoder(ids).last_hidden_state)


def test_a_prompt_that_is_too_long_is_said_to_be_cut(folder: Path) -> None:
    prior = exact(folder)
    with pytest.warns(UserWarning, match=r"has 79 tokens.* reads 77.*'cube a'"):
        cut = prior.embed(["a " * 75 + "cube a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fits = prior.embed(["a " * 75])
    assert torch.equal(cut.tokens, fits.tokens)  # it is cut there, and nowhere else


def test_scheduler_files_without_a_prediction_type_mean_eps(folder: Path, tmp_path: Path) -> None:
    from splatdistill.priors.networks import read_schedule

    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    del config["prediction_type"]
    (tmp_path / "scheduler_config.json").write_text(json.dumps({**config, "steps_offset": 1, "skip_prk_steps": True}), encoding="utf-8")
    assert read_schedule(tmp_path / "scheduler_config.json")[1] == "epsilon"


def test_conditions_of_a_real_prior_differ_by_view(folder: Path) -> None:
    from splatdistill.cameras import orbit

    c = Prompts("a red ball").conditions(exact(folder), orbit([0.0, 180.0]))
    positive, plain = c.positive.tokens, c.plain.tokens
    assert positive.shape == (2, 77, 32)
    assert not torch.allclose(positive[0], positive[1]) and torch.equal(plain[0], plain[1])
