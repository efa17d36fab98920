"""The type that a UNet calculates in."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float64", "float32", "bfloat16", "float16"]
"""Type that the UNet calculates in. auto: float16 on CUDA (three more bits than bfloat16, and what SD is published in);
bfloat16 on a CPU that multiplies it natively (half the time of float32 at 8 images); float32 elsewhere."""

VaePrecision = Literal["auto", "bfloat16"]
"""Type of the autoencoder. auto: float32, in which weights, normalisations and latents stay while bfloat16 does a card's convolutions.
bfloat16: all of it. With random weights of Stable Diffusion's shape, a picture of 96 pixels on a CPU: latents 1.1 % off float32's, their
gradient 3.2 % (cosine 0.9995), as with bfloat16 convolutions alone."""


def unet_dtype(precision: Precision, device: "torch.device") -> "torch.dtype":
    """Return the type that `precision` means on `device`."""
    import torch

    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.float16
    can = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return torch.bfloat16 if can.get("avx512_bf16") or can.get("amx_bf16") else torch.float32
