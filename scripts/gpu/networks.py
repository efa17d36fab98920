"""The networks of Stable Diffusion 2.1 at their own sizes with random weights: time, memory, precision."""

import time
from typing import Any

import torch
from torch import Tensor

from gpu.part import Where
from splatdistill.priors import Condition, Query
from splatdistill.priors.apart import posterior, posterior_apart
from splatdistill.priors.parts import Parts
from splatdistill.priors.schedule import TableSchedule
from splatdistill.priors.stable import StableDiffusionPrior, channels_last
from splatdistill.priors.weights import TINY

UNET_TFLOP, ENCODE_TFLOP = 0.804, 2.27
"""Of one image at 512 x 512 pixels, counted by torch: one call of the UNet, and encoding with its gradient."""
LARGE = {"sample_size": 64, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
SMALL = {"sample_size": 8, "cross_attention_dim": 32, "attention_head_dim": 4, "block_out_channels": (8, 16, 16, 16), "norm_num_groups": 8, "layers_per_block": 1}
DOWN, UP = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4


def unet(where: Where, dtype: torch.dtype, sample: int | None = None) -> Any:
    """Return a random UNet, made on the device."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    torch.manual_seed(0)
    sizes = SMALL if where.small else LARGE
    with torch.device(where.device):
        made: Any = UNet2DConditionModel.from_config(sizes | ({} if sample is None else {"sample_size": sample}))
    return made.to(dtype).eval().requires_grad_(False)


def autoencoder(where: Where) -> Any:
    """Return a random autoencoder in float32."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    widths = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 8} if where.small else {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
    with torch.device(where.device):
        return AutoencoderKL(down_block_types=DOWN, up_block_types=UP, latent_channels=4, **widths).eval().requires_grad_(False)


def text_encoder(where: Where) -> tuple[Any, Any]:
    """Return a random text encoder, and the embedded prior's tokenizer: its words differ, their number does not matter."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    sizes = (32, 64, 2, 4) if where.small else (1024, 4096, 23, 16)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    with torch.device(where.device):
        encoder = CLIPTextModel(CLIPTextConfig(**dict(zip(names, sizes)))).eval().requires_grad_(False)
    return encoder, CLIPTokenizer.from_pretrained(TINY / "tokenizer", local_files_only=True)


def prior(where: Where, sample: int | None = None, low_memory: bool = False) -> StableDiffusionPrior:
    """Return a prior of random networks, as from_folder would build it."""
    encoder, tokenizer = text_encoder(where)
    network, vae = unet(where, torch.float32 if where.small else torch.float16, sample), autoencoder(where)
    if where.device == "cuda":
        network, vae = channels_last(network), channels_last(vae)
    batch = 4 if low_memory else 64
    return StableDiffusionPrior(
        Parts(network, vae, (encoder,), (tokenizer,), TableSchedule.scaled_linear(), "epsilon"), name="random SD 2.1", max_batch=batch, low_memory=low_memory
    )


def question(network: Any, images: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents, times and texts for a UNet."""
    p = next(network.parameters())
    side, width = network.config.sample_size, network.config.cross_attention_dim
    make = lambda *shape: torch.randn(*shape, device=p.device, dtype=p.dtype)  # noqa: E731
    return make(images, 4, side, side), torch.full((images,), 500, device=p.device), make(images, 77, width)


@torch.no_grad()
def asked(network: Any, told: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the answer of one call."""
    x, t, text = told
    return network(x, t, encoder_hidden_states=text).sample


def networks(where: Where) -> dict[str, Any]:
    """Return times of the UNet by number of images and precision, of the autoencoder's ways of encoding, decoding, the text encoder."""
    found: dict[str, Any] = {"unet": {}, "encode": {}}
    low = torch.bfloat16 if where.small else torch.float16
    plain = unet(where, low)
    for order in ("contiguous", "channels_last"):
        network = plain if order == "contiguous" else channels_last(plain)
        for images in (1, 2) if where.small else (1, 2, 4, 8, 16, 20):
            told = question(network, images)
            if order == "channels_last":
                told = (told[0].contiguous(memory_format=torch.channels_last), *told[1:])
            ms = where.timed(lambda network=network, told=told: asked(network, told), 1 if where.small else 8, 2)
            found["unet"][f"{images} {order}"] = {"ms": ms, "TFLOP/s": float("nan") if where.small else images * UNET_TFLOP / ms * 1e3, "peak GiB": where.peak(lambda network=network, told=told: asked(network, told))}
    found["precision"] = precisions(where)
    vae = autoencoder(where)
    for images in (1, 2) if where.small else (1, 2, 4, 8):
        found["encode"] |= {f"{images} {way}": row for way, row in encodings(where, vae, images).items()}
    latents = torch.randn(1, 4, *[vae.config.sample_size // 8 if where.small else 64] * 2, device=where.device)
    with torch.no_grad():
        found["decode ms"] = where.timed(lambda: vae.decode(latents).sample, 1 if where.small else 4)
    encoder, _ = text_encoder(where)
    ids = torch.ones(1, 77, dtype=torch.long, device=where.device)
    with torch.no_grad():
        found["text ms"] = where.timed(lambda: encoder(input_ids=ids), 2)
    return found


def precisions(where: Where) -> dict[str, float]:
    """Return the relative error of one answer in fp16 and bf16 against fp32, same weights."""
    exact = unet(where, torch.float32)
    told = question(exact, 2)
    truth = asked(exact, told)
    errors = {}
    for dtype in (torch.bfloat16,) if where.small else (torch.float16, torch.bfloat16):
        got = asked(unet(where, dtype), (told[0].to(dtype), told[1], told[2].to(dtype))).float()
        errors[str(dtype).removeprefix("torch.")] = ((got - truth).norm() / truth.norm()).item()
    return errors


def encodings(where: Where, vae: Any, images: int) -> dict[str, dict[str, float]]:
    """Return times of encoding with its gradient: as the prior does it, in float32, all in bfloat16, and view by view."""
    side = 16 if where.small else 512
    rgb = torch.rand(images, 3, side, side, device=where.device)
    half = autoencoder(where).to(torch.bfloat16)
    ways = {
        "mixed": lambda x: autocast(where, lambda: posterior(vae, x)),
        "float32": lambda x: posterior(vae, x),
        "bfloat16": lambda x: posterior(half, x.to(torch.bfloat16)),
        "view by view": lambda x: posterior_apart(lambda one: autocast(where, lambda: posterior(vae, one)), x),
    }
    truth = gradient(ways["float32"], rgb)
    rows = {}
    for name, way in ways.items():
        got = gradient(way, rgb)
        rows[name] = {
            "ms": where.timed(lambda way=way: gradient(way, rgb), 1 if where.small else 3),
            "peak GiB": where.peak(lambda way=way: gradient(way, rgb)),
            "gradient's error": ((got - truth).norm() / truth.norm()).item(),
        }
    return rows


def autocast(where: Where, work: Any) -> Any:
    """Return the autocast in which the prior encodes beside a UNet in half precision."""
    with torch.autocast(where.device, torch.bfloat16):
        return work()


def gradient(encode: Any, rgb: Tensor) -> Tensor:
    """Return the pixels' gradient of a fixed functional of the latents' mean."""
    x = rgb.clone().requires_grad_()
    mean = encode(x)[0].float()
    weight = torch.linspace(-1, 1, mean[0].numel(), device=mean.device).view_as(mean[0])
    (mean * weight).sum().backward()
    assert x.grad is not None
    return x.grad


def vsd_gradients(where: Where) -> dict[str, Any]:
    """Return the shares of zeros and of non-finite numbers among the gradients of VSD's adapter, by the factor on its loss."""
    asked_of, found = prior(where), {}
    adapter = asked_of.adapter(4, torch.Generator().manual_seed(0))
    parameters = list(adapter.parameters())
    side = asked_of.unet.config.sample_size
    for batch in (1,) if where.small else (1, 4):
        x, eps = (torch.randn(batch, 4, side, side, device=where.device) for _ in range(2))
        condition = asked_of.embed(["a red mushroom"] * batch)
        for power in (0, 10, 16):
            loss = 2.0**power * adapter.loss(x, torch.full((batch,), 0.5, device=where.device), eps, condition)
            gradients = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)])
            bad = ~gradients.isfinite()
            largest = gradients[~bad].abs().max().item() if (~bad).any() else float("nan")
            found[f"batch {batch}, 2^{power}"] = {"zeros": (gradients == 0).float().mean().item(), "not finite": bad.float().mean().item(), "largest": largest}
    return found


def compiled(where: Where) -> dict[str, Any]:
    """Return times of torch.compile of the UNet: seconds of the first calls, milliseconds after, and whether another batch
    compiles again.
    """
    import torch._dynamo.utils as dynamo

    asked_of = prior(where)
    width = asked_of.unet.config.cross_attention_dim
    side = asked_of.unet.config.sample_size

    def call(images: int) -> None:
        x, t = torch.randn(images, 4, side, side, device=where.device), torch.full((images,), 0.5, device=where.device)
        asked_of.answer([Query(x, t, Condition(torch.zeros(images, 77, width, device=where.device)))])
        where.wait()

    found: dict[str, Any] = {"eager ms": where.timed(lambda: call(4), 1 if where.small else 8, 2)}
    asked_of.unet.compile(**({"backend": "eager"} if where.small else {}))  # a rehearsal of what is traced, without a compiler
    for images in (4, 16):
        began = time.perf_counter()
        call(images)
        found[f"first call of {images}, s"] = time.perf_counter() - began
    found["compiled ms"] = where.timed(lambda: call(4), 1 if where.small else 8, 2)
    found["graphs"] = int(dynamo.counters["stats"]["unique_graphs"])
    return found
