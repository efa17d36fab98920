"""Pictures through an autoencoder one at a time, where all together would not fit into memory."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BYTES = 95
"""Bytes that AutoencoderKL's encoder keeps for its gradient per pixel and channel of its first block: 2.97 GiB in float32 for 512
x 512 pixels and Stable Diffusion's 128 channels (tests/priors/test_apart.py counts them).
"""
SHARE = 0.7
"""Share of a card's free memory that pictures may take together; networks and splats want some of it too."""


def posterior(vae: Any, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b *d"], Float[Tensor, "b *d"]]:
    """Return mean and standard deviation (b,c,h,w) of the latents of images (b,3,h,w) in [-1, 1]."""
    latents = vae.encode(image).latent_dist
    return latents.mean, latents.std


def posterior_apart(
    encode: Callable[[Tensor], tuple[Tensor, Tensor]], image: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b *d"], Float[Tensor, "b *d"]]:
    """Return the same as `posterior`, image by image with checkpointing: the memory of one image, for half as much time again."""
    pairs = [checkpoint(encode, one, use_reentrant=False, preserve_rng_state=False) for one in image.split(1)]
    mean, std = (torch.cat(parts) for parts in zip(*pairs))
    return mean, std


def crowded(vae: Any, image: Float[Tensor, "b 3 h w"]) -> bool:
    """Return whether encoding images together with their gradient would take more than SHARE of the card's free memory, including
    what torch holds in reserve. Always False on a CPU.
    """
    if not image.is_cuda:
        return False
    kept = torch.cuda.memory_reserved(image.device) - torch.cuda.memory_allocated(image.device)
    return bytes_of(vae, image) > SHARE * (torch.cuda.mem_get_info(image.device)[0] + kept)


def bytes_of(vae: Any, image: Float[Tensor, "b 3 h w"]) -> int:
    """Return the approximate bytes that encoding keeps for the gradient, in float32 or in the weights' half precision."""
    width = next((p.element_size() for p in vae.parameters()), 4)
    return BYTES * int(vae.config.block_out_channels[0]) * image[:, 0].numel() * min(width, 4) // 4
