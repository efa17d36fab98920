"""Bytes of a card that a step of each recipe for Stable Diffusion takes, counted on the meta device at the networks' own sizes.

Counted: weights, the UNet's images, encoding and its gradient, in float32 as on cards before Ampere. Assumed, since no card was
there to measure: 1 GiB for CUDA's context, the rasteriser and libraries, a tenth for what the allocator cannot use, attention that
keeps no matrix, 0.6 GiB of work space for the UNet's kernels, and 1.5 GiB for SSD's depth network.
"""

from functools import cache
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from guidance.worlds import mixture, view
from priors.test_apart import GIB, encoding, vae
from transformers import CLIPTextConfig, CLIPTextModel

from scripts.live_bytes import Live
from splatdistill.priors.apart import SHARE, bytes_of
from splatdistill.priors.prompts import Prompts
from splatdistill.priors.stable import FEW
from splatdistill.settings.commands import CHOICES, parse_train
from splatdistill.train.config import Train

BESIDES, SLACK, DEPTH, WORK = 1.0 * GIB, 1.1, 1.5 * GIB, 0.6 * GIB
SPLAT = 14 * 4 * 4  # numbers of a splat without bands, each with its gradient and two moments
CARD = {8: 8e9, 12: 12e9, 24: 24e9}


@cache
def unet() -> Any:
    with torch.device("meta"):  # of SD 2.1-base
        sizes = {"sample_size": 64, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
        made: Any = UNet2DConditionModel.from_config(sizes)
    return made.half().eval().requires_grad_(False)


@cache
def weights() -> tuple[int, int, int]:
    """Return bytes of the UNet in half precision, and of the autoencoder and the text encoder in float32."""
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16))
    unet_, vae_, text_ = (sum(p.numel() * p.element_size() for p in m.parameters()) for m in (unet(), vae(), text))
    return unet_, vae_, text_


def unmixed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **rest: Any) -> torch.Tensor:
    """Return attention's result in shape alone: a fused kernel keeps nothing else."""
    return q + v.mean(-2, keepdim=True)


@cache
def network(images: int, gradient: bool = False) -> int:
    """Return the peak bytes while the UNet computes a number of images; with a gradient, as for an adapter."""
    x = torch.empty(images, 4, 64, 64, device="meta", dtype=torch.float16, requires_grad=gradient)
    text = torch.empty(images, 77, 1024, device="meta", dtype=torch.float16)
    asked = unet()  # whose weights were there before
    with pytest.MonkeyPatch.context() as patch, Live() as live, torch.set_grad_enabled(gradient):
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", unmixed)
        out = asked(x, torch.empty(images, device="meta"), encoder_hidden_states=text).sample
        if gradient:
            out.sum().backward()
    return live.peak


@cache
def decoding() -> int:
    """Return the peak bytes while one picture is decoded and its gradient is taken, as for SSD's depth."""
    x = torch.empty(1, 4, 64, 64, device="meta", requires_grad=True)
    decoder = vae()
    with Live() as live:
        decoder.decode(x).sample.sum().backward()
    return live.peak


@cache
def recipe(name: str) -> Train:
    return parse_train(["--guidance", name, "--prompt", "a ball"], lambda source: "sd").config


@cache
def images(name: str) -> int:
    """Return the most images that a recipe asks for at once."""
    c, prior = recipe(name), mixture()
    if name == "ssd":  # whose depth network is not there: the pair
        return 2 * c.batch
    sizes, answer = [], prior.answer

    def counted(queries: Any) -> Any:
        sizes.append(sum(len(q.x_t) for q in queries))
        return answer(queries)

    prior.answer = counted
    text = Prompts("ball", negative="cube", perp_neg=c.perp_neg == "on")
    c.guidance(view(prior, c.batch, prompts=text), c.guidance.init(prior))
    return max(sizes)


def taken(name: str, card: float, low_memory: bool) -> float:
    """Return the bytes of a card that a step takes."""
    c = recipe(name)
    unet_, vae_, text_ = weights()
    resident = unet_ + vae_ + (0 if low_memory else text_) + c.max_gaussians * SPLAT
    free = card - BESIDES - resident
    foretold = bytes_of(vae(), torch.empty(c.batch, 3, 512, 512, device="meta"))
    apart = low_memory or foretold > SHARE * free  # what `crowded` finds on that card
    asked = WORK + network(min(images(name), FEW) if low_memory else images(name))
    if name == "ssd":
        asked = max(asked, decoding() + DEPTH)
    most = max(asked, encoding(c.batch, True)) if apart else encoding(c.batch, False) + asked
    if name == "vsd":  # learns when the splats have moved
        most = max(most, WORK + network(c.batch, gradient=True))
    return SLACK * (resident + most) + BESIDES


def test_what_is_counted_is_what_was_counted_before() -> None:
    """On random weights of these sizes: 1.61, 0.31 and 1.27 GiB of weights; from two images to eight 0.38 GiB more."""
    assert [round(size / GIB, 2) for size in weights()] == [1.61, 0.31, 1.27]
    assert (network(8) - network(2)) / GIB == pytest.approx(0.38, abs=0.02)


@pytest.mark.parametrize("name", CHOICES[0].names)
def test_every_recipe_fits_twelve_gigabytes(name: str) -> None:
    """SSD, which also decodes with a gradient, only when memory is spared."""
    assert taken(name, CARD[12], low_memory=name == "ssd") < CARD[12]


@pytest.mark.parametrize("name", ["sds", "sdi"])
def test_spared_memory_fits_eight_gigabytes(name: str) -> None:
    assert taken(name, CARD[8], low_memory=True) < CARD[8] < taken(name, CARD[8], low_memory=False)  # as it is, it does not


@pytest.mark.parametrize("name", CHOICES[0].names)
def test_every_recipe_fits_twenty_four_gigabytes(name: str) -> None:
    assert taken(name, CARD[24], low_memory=False) < CARD[24]


def test_four_views_go_together_where_there_is_room_and_only_there() -> None:
    together = SLACK * (sum(weights()) + encoding(4, False)) + BESIDES
    assert CARD[12] < together < taken("sds", CARD[24], low_memory=False)
    assert taken("sds", CARD[12], low_memory=False) < together / 1.5
