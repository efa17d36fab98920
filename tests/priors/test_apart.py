"""Pictures encoded one at a time: the same latents and gradients, for the memory of one."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from helpers import write_sd_folder
from torch import Tensor

from scripts.live_bytes import Live
from splatdistill.priors import Query
from splatdistill.priors.apart import bytes_of, posterior, posterior_apart
from splatdistill.priors.stable import FEW, StableDiffusionPrior
from splatdistill.priors.weights import find, load
from splatdistill.train.begin import begin
from splatdistill.train.config import Train

GIB = 2**30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd_folder(tmp_path_factory.mktemp("sd"))


def priors(folder: Path) -> tuple[StableDiffusionPrior, StableDiffusionPrior]:
    """Return a prior that encodes all images at once, and one that saves memory."""
    pair = [StableDiffusionPrior.from_folder(folder, precision="float64", low_memory=low) for low in (False, True)]
    return pair[0], pair[1]


@pytest.mark.parametrize("sampled", [True, False])
def test_latents_and_gradients_are_the_same(folder: Path, sampled: bool, rng: torch.Generator) -> None:
    pictures = torch.rand(4, 3, 32, 32, generator=rng, dtype=torch.float64)
    asked = torch.randn(4, 4, 8, 8, generator=rng, dtype=torch.float64)
    found = []
    for prior in priors(folder):
        rgb, noise = pictures.clone().requires_grad_(), torch.Generator().manual_seed(3)
        x = prior.encode(rgb, noise if sampled else None)
        (x * asked).sum().backward()
        found.append((x.detach(), rgb.grad, torch.rand(1, generator=noise)))  # and what is drawn next
    for together, apart in zip(*found, strict=True):
        assert together is not None and together.abs().sum() > 0
        torch.testing.assert_close(apart, together, rtol=1e-6, atol=1e-10)


def test_a_gradient_can_be_asked_for_twice(folder: Path, rng: torch.Generator) -> None:
    """SSD's coefficients are found with one backward pass for each baseline."""
    together, apart = priors(folder)
    rgb = torch.rand(2, 3, 32, 32, generator=rng, dtype=torch.float64).requires_grad_()
    x = apart.encode(rgb)
    first, second = (torch.autograd.grad(x[k].sum(), rgb, retain_graph=True)[0] for k in (0, 1))
    (both,) = torch.autograd.grad(together.encode(rgb).sum(), rgb)
    torch.testing.assert_close(first + second, both, rtol=1e-6, atol=1e-10)
    assert not first[1].any() and not second[0].any()


def test_pictures_and_answers_are_the_same_in_pieces(folder: Path, rng: torch.Generator) -> None:
    together, apart = priors(folder)
    x = torch.randn(6, 4, 8, 8, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(apart.decode(x), together.decode(x), rtol=1e-6, atol=1e-10)
        torch.testing.assert_close(apart.encode(apart.decode(x)), together.encode(together.decode(x)), rtol=1e-6, atol=1e-10)
    sizes: list[int] = []
    apart.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    t = torch.full((6,), 0.5, dtype=torch.float64)
    answers = [prior.answer([Query(x, t, prior.embed(["a ball"] * 6))])[0] for prior in (together, apart)]
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-6, atol=1e-10)
    assert sizes == [FEW, 6 - FEW]


def test_the_option_reaches_the_prior(folder: Path) -> None:
    for low in (False, True):
        session = begin(Train(prompt="a red ball", prior=str(folder), low_memory=low, batch=1, steps=2, device="cpu"), find(str(folder)))
        assert isinstance(session.prior, StableDiffusionPrior) and session.prior.low_memory == low
        session.step()
    loaded = load(find(str(folder)), low_memory=True)
    assert isinstance(loaded, StableDiffusionPrior) and next(loaded.text_encoders[0].parameters()).device.type == "cpu"


# Stable Diffusion's own sizes, on the meta device: bytes without numbers


@cache
def vae(dtype: torch.dtype = torch.float32) -> Any:
    with torch.device("meta"):
        made: Any = AutoencoderKL.from_config(
            {
                "down_block_types": ["DownEncoderBlock2D"] * 4,
                "up_block_types": ["UpDecoderBlock2D"] * 4,
                "block_out_channels": [128, 256, 512, 512],
                "layers_per_block": 2,
                "latent_channels": 4,
            }
        )
    return made.to(dtype).eval().requires_grad_(False)


@cache
def encoding(views: int, apart: bool, dtype: torch.dtype = torch.float32) -> int:
    """Return the peak bytes while pictures of 512 pixels are encoded and their gradient is taken."""
    image = torch.empty(views, 3, 512, 512, device="meta", requires_grad=True, dtype=dtype)
    network = vae(dtype)  # whose weights were there before
    with Live() as live:
        mean, std = posterior_apart(lambda one: posterior(network, one), image) if apart else posterior(network, image)
        (mean + std).sum().backward()
    assert image.grad is not None
    return live.peak


def test_one_at_a_time_takes_the_memory_of_one() -> None:
    one, four, apart = encoding(1, False), encoding(4, False), encoding(4, True)
    assert 2.5 * GIB < one < 3.4 * GIB  # a card before Ampere: float32
    assert 3.7 * one < four < 4.1 * one
    assert apart < 1.1 * one


@pytest.mark.parametrize("views", [1, 4])
def test_what_encoding_will_take_is_foretold(views: int) -> None:
    foretold = bytes_of(vae(), torch.empty(views, 3, 512, 512, device="meta"))
    assert 0.8 < foretold / encoding(views, False) < 1.25


def test_all_in_bfloat16_takes_half_and_is_foretold() -> None:
    half = encoding(1, False, torch.bfloat16)
    assert 0.45 < half / encoding(1, False) < 0.56
    assert 0.8 < bytes_of(vae(torch.bfloat16), torch.empty(1, 3, 512, 512, device="meta")) / half < 1.25


def test_bfloat16_encodes_as_well_as_bfloat16_convolutions_do(folder: Path) -> None:
    """All that is lost is lost by the convolutions: with all of it in bfloat16 latents and gradients are no worse than twice as far off."""
    exact, low = (load(find(str(folder)), vae_precision=p) for p in ("auto", "bfloat16"))
    assert isinstance(exact, StableDiffusionPrior) and isinstance(low, StableDiffusionPrior)
    assert low.vae_dtype == torch.bfloat16 and low.unet.dtype == exact.unet.dtype
    image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def errors(encode: Callable[[Tensor], Tensor]) -> list[float]:
        truth, got = (both(e, image) for e in (exact.encode, encode))
        return [((g - t).norm() / t.norm()).item() for g, t in zip(got, truth)]

    def mixed(rgb: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            mean, _ = posterior(exact.vae, 2 * rgb - 1)
        return mean.float() * exact.vae.config.scaling_factor

    (latent, gradient), (latent_mixed, gradient_mixed) = errors(low.encode), errors(mixed)
    assert 0 < latent < max(2 * latent_mixed, 0.01) and 0 < gradient < max(2 * gradient_mixed, 0.02)
    assert low.encode(image).dtype == low.decode(low.encode(image)).dtype == torch.float32


def both(encode: Callable[[Tensor], Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents, and the pixels' gradient of their squares."""
    x = image.clone().requires_grad_()
    latents = encode(x).float()
    latents.square().sum().backward()
    assert x.grad is not None
    return latents.detach(), x.grad


def test_options_of_the_network_reach_it(folder: Path) -> None:
    config = Train(prompt="a red ball", prior=str(folder), max_batch=3, vae_precision="bfloat16", device="cpu")
    prior = begin(config, find(str(folder))).prior
    assert isinstance(prior, StableDiffusionPrior) and prior.max_batch == 3 and prior.vae_dtype == torch.bfloat16
