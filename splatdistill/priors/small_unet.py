"""A small U-Net of its own as the network that learns what renders look like, in place of a low-rank copy of the prior."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.priors import Adapter, Condition, DiffusionPrior
from splatdistill.priors.multiview import NUMBERS
from splatdistill.priors.prediction import Prediction, target, to_eps
from splatdistill.priors.random import sent
from splatdistill.priors.schedule import FlowSchedule

GROUPS = 8
"""Groups of the normalisations, and heads of the attention; the width is a multiple of it."""


class SmallUNet(Adapter):
    """U-Net that begins from nothing, the other score network of ProlificDreamer (Wang et al., arXiv:2305.16213, section 3.2 and
    appendix; its code has it beside LoRA).

    Two levels of `width` and 2 `width` channels, attention to the words and to itself at the lower one, cameras added to the embedded
    time (flattened camera to world, zeros when unknown). It predicts v (arXiv:2202.00512), beside a flow prior its velocity, and its last layer
    is zero at the start: v = 0 is eps = sigma x_t, the right answer for latents that are white noise of variance 1.

    rng: for its first values. UserError where latents are no pictures.
    """

    network: nn.Module

    def __init__(self, prior: DiffusionPrior, width: int, rng: torch.Generator):
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        super().__init__()
        shape, tokens = prior.latent_shape(), prior.embed([""]).tokens
        if len(shape) != 3 or tokens is None:
            raise UserError(f"A U-Net reads pictures, and the prior {prior.name} has latents of shape {shape}; take --guidance.adapter lora")
        self.prior = prior  # not a module, so that its networks are not in this one's state_dict
        self.prediction: Prediction = "flow" if isinstance(prior.noise, FlowSchedule) else "v_prediction"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
            unet = UNet2DConditionModel(
                in_channels=shape[0],
                out_channels=shape[0],
                block_out_channels=(width, 2 * width),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                layers_per_block=1,
                norm_num_groups=GROUPS,
                attention_head_dim=GROUPS,  # the number of heads, in spite of its name
                cross_attention_dim=tokens.shape[-1],
                class_embed_type="projection",
                projection_class_embeddings_input_dim=NUMBERS,
            )
        last: Any = unet.conv_out
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Module.to(unet, prior.device, prior.dtype)  # its own `to` warns of float64

    def _predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the network's own prediction."""
        assert condition.tokens is not None
        camera = x_t.new_zeros(len(x_t), NUMBERS) if condition.camera is None else condition.camera.flatten(1).to(x_t)
        network: Any = self.network
        return network(x_t, sent(1000 * t, x_t.device, x_t.dtype), encoder_hidden_states=condition.tokens.to(x_t), class_labels=camera).sample

    def forward(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b *d"]:
        """Return eps (b, *d)."""
        return to_eps(self.prediction, self._predict(x_t, t, condition), x_t, *self.prior.schedule(t))

    def loss(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"], eps: Float[Tensor, "b *d"], condition: Condition
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of v, or of the velocity beside a flow prior."""
        alpha, sigma = self.prior.schedule(t)
        self.prior.calls += len(x)
        return F.mse_loss(self._predict(alpha * x + sigma * eps, t, condition), target(self.prediction, x, eps, alpha, sigma))
