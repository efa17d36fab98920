"""Mixtures of Gaussians as diffusion priors: every score in closed form, so that answers are true.

With p(x | text) = sum_k w_k N(m_k, C_k), the noisy latents x_t = alpha x + sigma eps are distributed as
sum_k w_k N(alpha m_k, alpha^2 C_k + sigma^2 I), and eps(x_t) = -sigma grad log p_t(x_t).
"""

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatdistill.cameras import VIEW_WORDS
from splatdistill.errors import UserError
from splatdistill.priors import Adapter, Condition, DiffusionPrior, Query, Schedule
from splatdistill.priors.batching import answer_grouped
from splatdistill.priors.random import normal
from splatdistill.priors.schedule import TableSchedule


class GaussianMixturePrior(DiffusionPrior):
    """Mixture of Gaussians over latents (*d), with weights of the k components for each prompt.

    means: (k, *d). covariances: variances (k,), diagonals (k, *d), or full matrices (k, n, n) over the flattened
    latents. prompts: weights (k,) of each prompt, normalised here; "" is all components alike unless given. A
    prompt with a view word that is not listed is looked up without the word. Latents are gain rgb + offset.
    Calculates in the precision of the means, which should be float64.
    """

    def __init__(
        self,
        means: Float[Tensor, "k *d"],
        covariances: Float[Tensor, "k *c"],
        prompts: Mapping[str, Sequence[float]],
        *,
        schedule: Schedule | None = None,
        gain: float = 1.0,
        offset: float = 0.0,
    ):
        count, self.shape = len(means), means.shape[1:]
        self.device, self.dtype, self.name, self.licence = means.device, means.dtype, "mixture", "none needed"
        self.image_size = means.shape[-1]
        self.gain, self.offset = gain, offset
        self.noise = (schedule or TableSchedule.scaled_linear()).to(self.device)
        self.means = means.flatten(1)
        n = self.means.shape[1]
        # a full covariance becomes variances along its own axes; the others have the axes of the latents
        self.axes: Tensor | None = None
        if covariances.shape == (count,):
            self.variances = covariances[:, None].expand(count, n)
        elif covariances.shape == means.shape:
            self.variances = covariances.flatten(1)
        elif covariances.shape == (count, n, n):
            self.variances, self.axes = torch.linalg.eigh(covariances)
        else:
            raise UserError(
                f"Covariances of shape {tuple(covariances.shape)} do not fit means of shape {tuple(means.shape)}. "
                f"Expected ({count},), {tuple(means.shape)} or ({count}, {n}, {n})."
            )
        if not (self.variances > 0).all():
            raise UserError("A covariance of the mixture is not positive definite. Expected positive variances.")
        weights = {"": [1.0] * count, **prompts}
        for prompt, w in weights.items():
            if len(w) != count or min(w) < 0 or sum(w) <= 0:
                raise UserError(
                    f"The prompt {prompt!r} has weights {list(w)}. Expected {count}, none negative, not all zero."
                )
        table = {p: torch.tensor(w, dtype=self.dtype, device=self.device) for p, w in weights.items()}
        self.log_weights = {p: (w / w.sum()).log() for p, w in table.items()}

    # -- the distribution -----------------------------------------------------------------------------

    def log_prob(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"] | None, condition: Condition
    ) -> Float[Tensor, " b"]:
        """Return log p_t(x | condition) of the noisy latents, or of the clean ones where t is None; differentiable in x."""
        return self._joint(x, t, condition)[0].logsumexp(1)

    def draw(self, prompt: str, count: int, rng: torch.Generator) -> Float[Tensor, "count *d"]:
        """Return clean latents drawn from the mixture of a prompt."""
        weights = log_weights(self.embed([prompt]))[0].exp()
        k = torch.multinomial(weights.to(rng.device), count, replacement=True, generator=rng).to(self.device)
        offset = self.variances[k].sqrt() * normal((count, self.means.shape[1]), rng, self.means)
        if self.axes is not None:
            offset = (self.axes[k] @ offset[..., None])[..., 0]
        return (self.means[k] + offset).unflatten(1, self.shape)

    def _joint(self, x: Tensor, t: Tensor | None, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """Return for each component log w_k N(x) (b,k); distance to its mean (b,k,n) and variance there, in its own axes."""
        one = torch.ones(1, dtype=self.dtype, device=self.device)
        alpha, sigma = (one, 0 * one) if t is None else (v.to(self.dtype) for v in self.noise.at(t.to(self.device)))
        distance = x.flatten(1)[:, None] - alpha[:, None, None] * self.means
        if self.axes is not None:
            distance = torch.einsum("bkn,knm->bkm", distance, self.axes)
        variance = (alpha**2)[:, None, None] * self.variances + (sigma**2)[:, None, None]
        log_density = -0.5 * (distance**2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
        return log_density + log_weights(condition), distance, variance

    # -- the prior ------------------------------------------------------------------------------------

    def embed(self, prompts: Sequence[str]) -> Condition:
        """Return the log-weights of the components, as one token (b,1,k). Raises UserError for an unknown prompt."""
        return Condition(torch.stack([self.log_weights[self._listed(p)] for p in prompts])[:, None])

    def _listed(self, prompt: str) -> str:
        bare = next((prompt.removesuffix(f", {w} view") for w in VIEW_WORDS if prompt.endswith(f", {w} view")), prompt)
        for candidate in (prompt, bare):
            if candidate in self.log_weights:
                return candidate
        raise UserError(
            f"This mixture does not know the prompt {prompt!r}. It knows: {', '.join(map(repr, self.log_weights))}."
        )

    def latent_shape(self) -> tuple[int, ...]:
        """Return the shape of the means."""
        return tuple(self.shape)

    def encode(self, rgb: Float[Tensor, "b *d"], rng: torch.Generator | None = None) -> Float[Tensor, "b *d"]:
        """Return gain rgb + offset. There is no posterior to sample, so rng has no effect."""
        return self.gain * rgb.to(self.device, self.dtype) + self.offset

    def decode(self, x: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
        """Return (x - offset) / gain, the inverse of encode."""
        return (x - self.offset) / self.gain

    def schedule(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b *one"], Float[Tensor, "b *one"]]:
        """Return alpha_t and sigma_t, shaped to broadcast against the latents."""
        return self.noise.broadcast(t.to(self.device), len(self.shape), self.dtype)

    @torch.no_grad()
    def answer(self, queries: Sequence[Query]) -> tuple[Float[Tensor, "b *d"], ...]:
        """Return the exact eps of every query; an adapter (query.network) is called as network(x_t, t, condition)."""
        return answer_grouped(queries, self._call)

    def adapter(self, rank: int, rng: torch.Generator, exact_start: bool = True) -> "MixtureAdapter":
        """Return another mixture, which begins as this one; rank and rng are for networks."""
        return MixtureAdapter(self)

    def _call(self, network: nn.Module | None, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        self.calls += len(x_t)
        return (network or self.eps)(x_t, t, condition)

    def eps(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b *d"]:
        """Return -sigma grad log p_t = sigma sum_k p(k | x_t) (alpha^2 C_k + sigma^2)^-1 (x_t - alpha m_k); uncounted."""
        log_joint, distance, variance = self._joint(x_t, t, condition)
        pull = distance / variance
        if self.axes is not None:
            pull = torch.einsum("bkm,knm->bkn", pull, self.axes)
        pull = (log_joint.softmax(1)[..., None] * pull).sum(1).view_as(x_t)
        return self.schedule(t)[1] * pull


class MixtureAdapter(Adapter):
    """Adapter of a mixture, in closed form; it begins as its prior. Component k of a prompt becomes

        softmax(log w + a)_k N(m_k + u_k + L_k camera, C_k exp(s_k)),

    variances scaled along the axes of C_k; a, u, L and s are learned, zero at the start.
    """

    def __init__(self, prior: GaussianMixturePrior):
        super().__init__()
        self.prior = prior  # not a module
        k, n = prior.means.shape
        self.log_weights, self.shift, self.log_spread, self.camera = (
            nn.Parameter(prior.means.new_zeros(shape)) for shape in ((k,), (k, n), (k, n), (k, n, 16))
        )

    def mixture(self, camera: Float[Tensor, "b 4 4"] | None = None) -> GaussianMixturePrior:
        """Return the present mixture as a prior with gradient history, without the weights of the prompts, which `prompt` returns."""
        now = copy.copy(self.prior)
        now.means, now.variances = self.prior.means + self.shift, self.prior.variances * self.log_spread.exp()
        if camera is not None:  # the means then differ from image to image
            now.means = now.means + (self.camera @ camera.flatten(1).to(self.camera).T).permute(2, 0, 1)
        return now

    def prompt(self, condition: Condition) -> Condition:
        """Return the present log-weights for a condition of the prior."""
        assert condition.tokens is not None
        return Condition((condition.tokens + self.log_weights).log_softmax(-1))

    def forward(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b *d"]:
        """Return the exact eps of the present mixture."""
        return self.mixture(condition.camera).eps(x_t, t, self.prompt(condition))

    def loss(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"], eps: Float[Tensor, "b *d"], condition: Condition
    ) -> Float[Tensor, ""]:
        """Return mean |eps_hat(x_t) - eps|^2."""
        alpha, sigma = self.prior.schedule(t)
        self.prior.calls += len(x)
        return (self(alpha * x + sigma * eps, t, condition) - eps).square().mean()


def log_weights(condition: Condition) -> Float[Tensor, "b k"]:
    """Return the log-weights of the components, the one token of a mixture's condition."""
    assert condition.tokens is not None
    return condition.tokens[:, 0]
