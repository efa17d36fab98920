"""Zero-1-to-3 and Stable Zero123: views of the object in a picture, from cameras that are told relative to the picture's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.priors import Condition
from splatdistill.priors.families import ZERO123
from splatdistill.priors.parts import Parts
from splatdistill.priors.random import sent
from splatdistill.priors.stable import StableDiffusionPrior

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on (Radford et al., arXiv:2103.00020)."""


class Zero123Prior(StableDiffusionPrior):
    """Zero-1-to-3 (Liu et al., arXiv:2303.11328) and Stable Zero123, frozen.

    The UNet reads a view's latents beside those of the picture, the mean of its posterior without the scaling factor, and one
    token: a linear layer of the picture's CLIP embedding and the pose (see `pose`). Without a picture both are zeros, as the training dropped
    them; words are not read. In Stable Zero123 the last number of the pose is the picture's polar angle: a folder is one where its
    model_index.json says `"stable_zero123": true`, or else where its name has "stable" in it.
    """

    family = ZERO123
    wants = frozenset({"tokens", "camera"})

    def __init__(self, parts: Parts, *, name: str = "", **options: Any):
        super().__init__(parts, name=name, **options)
        self.image_encoder, self.projection = (network.eval().requires_grad_(False) for network in parts.others)
        self.stable = bool(parts.index.get("stable_zero123", "stable" in Path(name).name.lower()))
        self.takes_picture = self.needs_picture = True
        self.perp_neg = False
        self._seen: tuple[Tensor, Tensor, Tensor] | None = None

    def read(self, prompts: list[str]) -> Condition:
        """Return the condition without picture, zeros, whatever the words."""
        return Condition(torch.zeros(len(prompts), 1, self.projection.proj.out_features, device=self.device, dtype=self.dtype))

    def predict(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition, unet: Callable) -> Float[Tensor, "b *d"]:
        """Return the prediction of `unet`, the base network or a wrapper of it, in its own terms."""
        assert condition.tokens is not None
        tokens, latents = condition.tokens, torch.zeros_like(x_t)
        if condition.image is not None:
            if condition.camera is None or condition.image_camera is None:
                raise UserError(f"the prior {self.name} wants the cameras of the view and of the picture")
            embedding, latents = self._looked_at(condition.image)
            tokens = self.projection(embedding, pose(condition.camera, condition.image_camera, self.stable).to(embedding))
        x = torch.cat([x_t, latents.to(x_t)], 1).to(self.precision)
        if self.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        return unet(x, sent(self.noise.timestep(t), self.device), encoder_hidden_states=tokens.to(self.precision)).sample.to(self.dtype)

    @torch.no_grad()
    def _looked_at(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, Tensor]:
        """Return CLIP embeddings and latents of pictures; of one that all are, or that was the last, they are kept."""
        one = image[:1] if bool((image == image[:1]).all()) else image
        if self._seen is None or self._seen[0].shape != one.shape or not torch.equal(self._seen[0], one):
            side = self.image_encoder.config.image_size
            mean, std = (one.new_tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
            small = F.interpolate(one, size=(side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
            embedding = self.image_encoder(((small - mean) / std).to(next(self.image_encoder.parameters()))).image_embeds
            self._seen = one, embedding.to(self.dtype), self._posterior(2 * one - 1)[0].to(self.dtype)
        _, embedding, latents = self._seen
        return embedding.expand(len(image), -1), latents.expand(len(image), -1, -1, -1)


def pose(camera: Float[Tensor, "b 4 4"], picture: Float[Tensor, "b 4 4"], stable: bool = False) -> Float[Tensor, "b 4"]:
    """Return a view's camera relative to the picture's, both camera to world around the origin: polar angle, sine and cosine of the
    azimuth, distance; stable: the picture's polar angle in place of the distance. Angles in radians, the polar one from the up axis, as in
    threestudio's guidances of both.
    """
    (polar, azimuth, distance), (polar_0, azimuth_0, distance_0) = (around(c[:, :3, 3]) for c in (camera, picture))
    turn = azimuth - azimuth_0
    return torch.stack([polar - polar_0, turn.sin(), turn.cos(), polar_0 if stable else distance - distance_0], 1)


def around(position: Float[Tensor, "b 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return polar angle from the up axis, azimuth and distance of positions."""
    x, y, z = position.unbind(1)
    return torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x), position.norm(dim=1)
