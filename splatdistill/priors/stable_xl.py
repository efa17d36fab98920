"""Stable Diffusion XL: two text encoders, a pooled vector, and the sizes of the picture."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from splatdistill.priors import Condition
from splatdistill.priors.families import XL
from splatdistill.priors.parts import Parts
from splatdistill.priors.stable import StableDiffusionPrior


class StableDiffusionXLPrior(StableDiffusionPrior):
    """SDXL (Podell et al., arXiv:2307.01952), frozen.

    Tokens are the last but one hidden states of both CLIP encoders side by side (768 + 1280), pooled is the second's projection.
    The network is also told the original size, the upper left corner and the target size of the picture: its own size, uncropped.
    """

    family = XL
    wants = frozenset({"tokens", "pooled"})

    def __init__(self, parts: Parts, **options: Any):
        super().__init__(parts, **options)
        self.zeros = bool(parts.index.get("force_zeros_for_empty_prompt", True))

    def read(self, prompts: list[str]) -> Condition:
        """Return the condition: tokens and pooled; zeros for the empty prompt where model_index.json says so, as the base
        model was trained.
        """
        outputs = [self._encoded(k, prompts, output_hidden_states=True) for k in range(2)]
        tokens = torch.cat([o.hidden_states[-2] for o in outputs], -1)
        pooled = outputs[1].text_embeds
        if self.zeros:
            said = torch.tensor([bool(p) for p in prompts], device=tokens.device)
            tokens, pooled = tokens * said[:, None, None], pooled * said[:, None]
        return Condition(tokens.to(self.device, self.dtype), pooled.to(self.device, self.dtype))

    def _inputs(self, x: Tensor, condition: Condition) -> dict[str, Any]:
        assert condition.pooled is not None
        sizes: Sequence[int] = (self.image_size, self.image_size, 0, 0, self.image_size, self.image_size)
        added = {"text_embeds": condition.pooled.to(x), "time_ids": x.new_tensor([sizes]).expand(len(x), -1)}
        return {"added_cond_kwargs": added}
