"""An autoencoder that only rearranges: 4x4 pixel patches become channels, exactly and invertibly.

It takes the place of a VAE where the diffusion model works on pixels. Same surface as diffusers'
AutoencoderKL as far as this project uses it, same folder layout (config.json, no weights).
"""

import json
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PatchAutoencoder(nn.Module):
    """(b,3,h,w) in [-1,1] <-> (b, 3 p^2, h/p, w/p): latent channel c p^2 + i p + j holds pixel (i, j) of colour c."""

    def __init__(self, patch: int = 4, scaling_factor: float = 1.0):
        super().__init__()
        self.patch, self.scaling_factor = patch, scaling_factor

    def encode(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c lh lw"]:
        """Pixels to latents; orthogonal up to the scaling factor, so gradients pass unchanged."""
        return F.pixel_unshuffle(image, self.patch) * self.scaling_factor

    def decode(self, latent: Float[Tensor, "b c lh lw"]) -> Float[Tensor, "b 3 h w"]:
        """The exact inverse of encode."""
        return F.pixel_shuffle(latent / self.scaling_factor, self.patch)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json; there are no weights."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        config = {"_class_name": "PatchAutoencoder", "patch": self.patch, "scaling_factor": self.scaling_factor}
        (Path(folder) / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "PatchAutoencoder":
        """Read config.json."""
        config = json.loads((Path(folder) / "config.json").read_text())
        return cls(int(config["patch"]), float(config["scaling_factor"]))
