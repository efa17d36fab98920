"""Stable Diffusion 3: a transformer that predicts the velocity of a rectified flow."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from splatdistill.priors import Condition
from splatdistill.priors.families import SD3
from splatdistill.priors.random import sent
from splatdistill.priors.stable import StableDiffusionPrior

T5_LENGTH = 256
"""Tokens of the third text encoder's part."""


class StableDiffusion3Prior(StableDiffusionPrior):
    """SD 3 and 3.5 (Esser et al., arXiv:2403.03206), frozen: x_t = (1 - t) x + t eps, and the network answers eps - x.

    Tokens are the last but one hidden states of both CLIP encoders side by side, filled up with zeros to the transformer's
    width; pooled is both projections. The third encoder, T5-XXL with 4.7 billion parameters, is left out and its tokens are
    zeros, for which the model was trained (section 5.3.1 there).
    """

    family = SD3
    wants = frozenset({"tokens", "pooled"})

    def read(self, prompts: list[str]) -> Condition:
        """Return the condition: tokens (77 + 256 of them) and pooled."""
        outputs = [self._encoded(k, prompts, output_hidden_states=True) for k in range(2)]
        tokens = torch.cat([o.hidden_states[-2] for o in outputs], -1)
        tokens = F.pad(tokens, (0, int(self.unet.config.joint_attention_dim) - tokens.shape[-1], 0, T5_LENGTH))
        pooled = torch.cat([o.text_embeds for o in outputs], -1)
        return Condition(tokens.to(self.device, self.dtype), pooled.to(self.device, self.dtype))

    def predict(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition, unet: Callable) -> Float[Tensor, "b *d"]:
        """Return the velocity that `unet`, the transformer or a wrapper of it, predicts."""
        assert condition.tokens is not None and condition.pooled is not None
        told: dict[str, Any] = {"encoder_hidden_states": condition.tokens.to(self.precision), "pooled_projections": condition.pooled.to(self.precision)}
        step = sent(self.noise.timestep(t), self.device, self.dtype)
        return unet(hidden_states=x_t.to(self.precision), timestep=step, **told).sample.to(self.dtype)
