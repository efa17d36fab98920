"""A network that tells noisy renders from noisy pictures of the prior, as one of SSD's baselines."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.errors import UserError
from splatdistill.guidance.noising import diffuse
from splatdistill.guidance.types import View
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.random import sent

WIDTH = 32
RATE = 1e-3


class Discriminator(nn.Module):
    """Classifier of noisy latents (b,c,h,w) at noise level t: how much likelier, as a logit, they come from a picture of the prior than
    from a render (Goodfellow et al., "Generative Adversarial Nets", arXiv:1406.2661; on noisy latents at all levels as in
    Diffusion-GAN, arXiv:2206.02262). Smooth, as Stein's identity wants it.
    """

    def __init__(self, prior: DiffusionPrior, rng: torch.Generator):
        super().__init__()
        shape = prior.latent_shape()
        if len(shape) != 3:
            raise UserError(f"The baseline discriminator reads pictures, and the prior {prior.name} has latents of shape {shape}; take other --guidance.baselines")
        self.prior = prior  # not a module
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
            self.first = nn.Conv2d(shape[0] + 1, WIDTH, 3, padding=1)
            self.second = nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1)
            self.last = nn.Linear(2 * WIDTH, 1)
        self.to(prior.device, prior.dtype)

    def forward(self, x_t: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the logit of "a picture of the prior"."""
        level = sent(self.prior.noise.log_snr_at(t.cpu()) / 10, x_t.device, x_t.dtype)
        told = level.view(-1, 1, 1, 1).expand(-1, 1, *x_t.shape[2:])
        h = F.silu(self.second(F.silu(self.first(torch.cat([x_t, told], 1)))))
        return self.last(h.mean((2, 3)))[:, 0]

    def loss(self, view: View, pictures: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy on a batch of renders and one of pictures, each with noise of its own at t."""
        render, picture = (self(diffuse(view, t, x=x).x_t, t) for x in (view.x.detach(), pictures))
        return (F.softplus(render) + F.softplus(-picture)).mean()
