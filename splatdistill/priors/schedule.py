"""The noise schedule at continuous time, and the grouping of queries: what every prior shares."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from splatdistill.priors import Query


class NoiseSchedule:
    """A variance-preserving schedule, from the table of cumulated alphas that its network was trained with.

    x_t = alpha_t x + sigma_t eps, alpha_t^2 = sigmoid(lambda(t)), sigma_t^2 = sigmoid(-lambda(t)). The log-SNR
    lambda is linear in t between the steps of the table (log(acp / (1 - acp)), Kingma et al., Variational
    Diffusion Models, arXiv:2107.00630), and t = i/T is step i exactly. Times outside of [0, (T-1)/T] take the
    nearest step, so at t = 0 alpha is that of the first step and not 1.
    """

    def __init__(self, alphas_cumprod: Float[Tensor, " steps"]):
        self.alphas_cumprod = alphas_cumprod.double()
        self.log_snr = torch.logit(self.alphas_cumprod)

    @staticmethod
    def scaled_linear(steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> "NoiseSchedule":
        """Stable Diffusion's: sqrt(beta) linear over the steps (Rombach et al., arXiv:2112.10752)."""
        beta = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()
        return NoiseSchedule((1 - beta).cumprod(0))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def to(self, device: torch.device | str) -> "NoiseSchedule":
        """The same schedule on another device."""
        return NoiseSchedule(self.alphas_cumprod.to(device))

    def index(self, t: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The step that a network trained on this table is told: T t to the nearest, at most T-1.

        Negative times are passed on: threestudio's SDI does ask its network at step -99, and time embeddings are
        defined there.
        """
        return (t.double() * len(self)).round().clamp(max=len(self) - 1).long()

    def at(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """alpha_t and sigma_t in float64."""
        place = (t.double() * len(self)).clamp(0, len(self) - 1)
        # i/T in the precision of t comes back as i only up to its round-off: such times mean step i
        nearest = place.round()
        place = torch.where((place - nearest).abs() < len(self) * torch.finfo(t.dtype).eps, nearest, place)
        low = place.floor().long()
        high = (low + 1).clamp(max=len(self) - 1)
        log_snr = torch.where(
            place == low, self.log_snr[low], torch.lerp(self.log_snr[low], self.log_snr[high], place - low)
        )
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

    def like(self, t: Float[Tensor, " b"], dims: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t in dtype, shaped to broadcast against (b, *d) with `dims` dimensions after the batch."""
        alpha, sigma = self.at(t)
        shape = (len(t),) + (1,) * dims
        return alpha.to(dtype).view(shape), sigma.to(dtype).view(shape)


def answer_grouped(
    queries: Sequence[Query], call: Callable[[nn.Module | None, Tensor, Tensor, Tensor, Tensor | None], Tensor]
) -> tuple[Tensor, ...]:
    """Ask each network once: `call(network, x_t, t, text, camera)` on the queries that share it, joined along the
    batch. Answers come back in the order of the queries.
    """
    answers: dict[int, Tensor] = {}
    for network in {id(q.network): q.network for q in queries}.values():
        mine = [(i, q) for i, q in enumerate(queries) if q.network is network]
        x_t, t, text = (torch.cat(parts) for parts in zip(*((q.x_t, q.t, q.text) for _, q in mine)))
        eps = call(network, x_t, t, text, joined_cameras([q for _, q in mine]))
        answers |= dict(zip((i for i, _ in mine), eps.split([len(q.t) for _, q in mine])))
    return tuple(answers[i] for i in range(len(queries)))


def joined_cameras(queries: Sequence[Query]) -> Float[Tensor, "b 4 4"] | None:
    """The cameras of some queries as one batch, zeros where a query has none; None where none has any."""
    if all(q.camera is None for q in queries):
        return None
    return torch.cat([q.x_t.new_zeros(len(q.t), 4, 4) if q.camera is None else q.camera.to(q.x_t) for q in queries])


def normal(shape: Sequence[int], rng: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers from rng, drawn where rng lives, then taken to `like`'s device and precision."""
    return torch.randn(tuple(shape), generator=rng, device=rng.device, dtype=like.dtype).to(like.device)
