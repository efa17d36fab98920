"""Autoencoders that only rearrange: patches of pixels become channels, exactly and invertibly.

They take the place of a VAE where the diffusion model works on pixels. Same surface as diffusers'
AutoencoderKL as far as this project uses it, same folder layout (config.json, no weights).
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.weight_files import read_object


class PatchAutoencoder(nn.Module):
    """Space-to-depth autoencoder: (b,3,h,w) in [-1,1] <-> (b, 3 p^2, h/p, w/p); latent channel c p^2 + i p + j holds pixel (i, j)
    of colour c.
    """

    metric: Tensor | None
    """Weight of each channel's square in the square of the pixels, relative to the first channel's; None: all 1."""

    def __init__(self, patch: int = 4, scaling_factor: float = 1.0):
        super().__init__()
        self.patch, self.scaling_factor = patch, scaling_factor
        self.register_buffer("metric", None, persistent=False)

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c lh lw"]:
        """Return the latents of pixels; orthogonal up to the scaling factor, so gradients pass unchanged."""
        return F.pixel_unshuffle(image, self.patch) * self.scaling_factor

    def decode(self, latent: Float[Tensor, "b c lh lw"]) -> Float[Tensor, "b 3 h w"]:
        """Return the pixels of latents, the exact inverse of encode."""
        return F.pixel_shuffle(latent / self.scaling_factor, self.patch)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json; there are no weights."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        config = {"_class_name": "PatchAutoencoder", "patch": self.patch, "scaling_factor": self.scaling_factor}
        (Path(folder) / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "PatchAutoencoder":
        """Read config.json."""
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return cls(int(config["patch"]), float(config["scaling_factor"]))


class WaveletAutoencoder(PatchAutoencoder):
    """Wavelet autoencoder: (b,3,h,w) in [-1,1] <-> (b, 3 p^2, h/p, w/p); one level of Haar's wavelets (Haar, 1910), then patches of p/2.

    Of four neighbouring pixels a b / c d the first quarter of the channels holds the mean, so that it is PatchAutoencoder's
    latent of the halved picture; the others hold (a - b + c - d) g/4, (a + b - c - d) g/4 and (a - b - c + d) g/4, of which
    a picture has
    little: the gain g says at which noise they are decided.
    """

    def __init__(self, patch: int = 8, gain: float = 4.0):
        super().__init__(patch)
        self.gain = gain
        each = 3 * (patch // 2) ** 2
        self.metric = torch.tensor([1.0, *[gain**-2] * 3]).repeat_interleave(each).view(-1, 1, 1)

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c lh lw"]:
        """Return the latents of pixels."""
        rows = torch.stack([image[..., ::2, :] + image[..., 1::2, :], image[..., ::2, :] - image[..., 1::2, :]])
        low, high = rows[..., ::2] + rows[..., 1::2], rows[..., ::2] - rows[..., 1::2]
        bands = [low[0] / 4, high[0] * (self.gain / 4), low[1] * (self.gain / 4), high[1] * (self.gain / 4)]
        return torch.cat([F.pixel_unshuffle(band, self.patch // 2) for band in bands], 1)

    def decode(self, latent: Float[Tensor, "b c lh lw"]) -> Float[Tensor, "b 3 h w"]:
        """Return the pixels of latents, the exact inverse of encode."""
        mean, across, down, both = (F.pixel_shuffle(band, self.patch // 2) for band in latent.chunk(4, 1))
        across, down, both = across / self.gain, down / self.gain, both / self.gain
        a, b, c, d = mean + across + down + both, mean - across + down - both, mean + across - down - both, mean - across - down + both
        return F.pixel_shuffle(torch.stack([a, b, c, d], 2).flatten(1, 2), 2)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json; there are no weights."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        config = {"_class_name": "WaveletAutoencoder", "patch": self.patch, "gain": self.gain}
        (Path(folder) / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "WaveletAutoencoder":
        """Read config.json."""
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return cls(int(config["patch"]), float(config["gain"]))


def read_patches(folder: str | Path) -> PatchAutoencoder | None:
    """Return the autoencoder of this module that a vae folder's config.json names; None where it names another network."""
    kinds = {kind.__name__: kind for kind in (PatchAutoencoder, WaveletAutoencoder)}
    kind = kinds.get(str(read_object(Path(folder) / "config.json").get("_class_name")))
    return kind.from_pretrained(folder) if kind else None
