"""A network that a guidance trains beside the splats, as a module whose state_dict holds the optimizer too."""

from typing import Generic, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.priors import DiffusionPrior, weights
from splatdistill.priors.precision import Precision

GROWTH = 2000  # updates in a row after which the loss scale is doubled


Network = TypeVar("Network", bound=nn.Module)


class Learning(nn.Module, Generic[Network]):
    """Trained network and its AdamW (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", arXiv:1711.05101).

    The moments are buffers that the optimizer writes to, so that state_dict and load_state_dict carry all of it.
    Stays on the device of its network.

    The loss is scaled up before gradients are taken and they are scaled back, so that those inside of a network of low
    precision do not vanish: by a factor of the caller's times a dynamic one as in torch.amp.GradScaler, halved at every update
    that overflows and doubled after GROWTH that did not (Micikevicius et al., "Mixed Precision Training", arXiv:1710.03740,
    section 3.2). Both are exact in float32 where the caller's is a power of two.
    """

    network: Network
    refused: Tensor  # updates not made because a gradient was not finite
    scale: Tensor  # the dynamic factor
    since: Tensor  # updates made since it changed

    def __init__(
        self, network: Network, rate: float, betas: tuple[float, float], eps: float, weight_decay: float
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("refused", torch.zeros((), dtype=torch.long))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("since", torch.zeros((), dtype=torch.long))
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=betas, eps=eps, weight_decay=weight_decay)
        for i, p in enumerate(network.parameters()):  # as AdamW itself would at its first step
            self.register_buffer(f"step_{i}", torch.zeros(()))
            self.register_buffer(f"mean_{i}", torch.zeros_like(p))
            self.register_buffer(f"square_{i}", torch.zeros_like(p))
            moments = {"step": f"step_{i}", "exp_avg": f"mean_{i}", "exp_avg_sq": f"square_{i}"}
            self.optimizer.state[p] = {k: self.get_buffer(v) for k, v in moments.items()}

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        """Load what was saved; earlier versions had no dynamic scale."""
        state_dict.setdefault(f"{prefix}scale", torch.ones(()))
        state_dict.setdefault(f"{prefix}since", torch.zeros((), dtype=torch.long))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def update(self, loss: Float[Tensor, ""], rate: float, factor: float = 1.0) -> bool:
        """Take one step down the loss, refused and counted where a gradient is not finite; return whether it was made.

        factor: the caller's share of the loss scale.
        """
        factor = factor * float(self.scale)
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(factor * loss, parameters, allow_unused=True, materialize_grads=True)
        if not torch.stack([g.sum() for g in gradients]).isfinite().all():
            self.refused += 1
            self.scale.mul_(0.5)
            self.since.zero_()
            return False
        self.since += 1
        if int(self.since) >= GROWTH:
            self.scale.mul_(2.0)
            self.since.zero_()
        for p, g in zip(parameters, gradients):
            p.grad = g / factor
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return True


def another(prior: DiffusionPrior, source: str) -> DiffusionPrior:
    """Return the prior that is adapted in place of the run's own; UserError where it reads other texts or latents."""
    precision = str(getattr(prior, "precision", prior.dtype)).removeprefix("torch.")
    owner = weights.load(weights.find(source), str(prior.device), cast(Precision, precision), views=prior.views)
    for what, of in (("text embeddings", lambda p: p.embed([""]).tokens.shape[-1]), ("latents", lambda p: p.latent_shape()[0])):
        if (mine := of(prior)) != (its := of(owner)):
            raise UserError(f"--guidance.adapter-prior {source} reads {what} of {its} channels, and the prior {prior.name} has {mine}; expected a relative of the prior")
    return owner
