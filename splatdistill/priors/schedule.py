"""Noise schedules at continuous time: alpha_t and sigma_t of x_t = alpha_t x + sigma_t eps."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Schedule(ABC):
    """Noise schedule: alpha_t and sigma_t for t in [0, 1], both above 0 and with no assumption on their sum; alpha falls, sigma rises."""

    @abstractmethod
    def at(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return alpha_t and sigma_t in float64."""

    @abstractmethod
    def timestep(self, t: Float[Tensor, " b"]) -> Tensor:
        """Return the time (b,) in the units of the network."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Schedule":
        """Return the same schedule on another device."""

    def broadcast(self, t: Float[Tensor, " b"], dims: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return alpha_t and sigma_t in dtype, shaped to broadcast against (b, *d) with `dims` dimensions after the batch."""
        alpha, sigma = self.at(t)
        shape = (len(t),) + (1,) * dims
        return alpha.to(dtype).view(shape), sigma.to(dtype).view(shape)

    def log_snr_at(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return lambda(t) = 2 log(alpha_t / sigma_t) in float64 (Kingma et al., arXiv:2107.00630)."""
        alpha, sigma = self.at(t)
        return 2 * (alpha.log() - sigma.log())

    @staticmethod
    def added(alpha_s: Tensor, sigma_s: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        """Return the variance of the noise that is added from time s to t > s:

            x_t | x_s ~ N((alpha_t / alpha_s) x_s, sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2).
        """
        return sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2


class FlowSchedule(Schedule):
    """Rectified flow (Liu et al., "Flow Straight and Fast", arXiv:2209.03003; Lipman et al., arXiv:2210.02747):
    alpha_t = 1 - t, sigma_t = t.

    Times are kept within [margin, 1 - margin], where both are above 0: at t = 1 nothing of x is left to divide by.
    """

    def __init__(self, margin: float = 0.001):
        self.margin = margin

    def to(self, device: torch.device | str) -> "FlowSchedule":
        """Return this schedule, which holds no tensors."""
        return self

    def timestep(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return 1000 t, as in SD 3 and Flux."""
        return 1000 * t

    def at(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return 1 - t and t in float64."""
        t = t.double().clamp(self.margin, 1 - self.margin)
        return 1 - t, t


LEAST = 2.0**-24
"""alpha^2 at the last step of a schedule that ends without any signal, as in diffusers' Euler schedulers: it is divided by."""


class TableSchedule(Schedule):
    """Variance-preserving schedule, from the table of cumulated alphas that its network was trained with.

    x_t = alpha_t x + sigma_t eps, alpha_t^2 = sigmoid(lambda(t)), sigma_t^2 = sigmoid(-lambda(t)). The log-SNR
    lambda is linear in t between the steps of the table (log(acp / (1 - acp)), Kingma et al., Variational
    Diffusion Models, arXiv:2107.00630), and t = i/T is step i exactly. Times outside of [0, (T-1)/T] take the
    nearest step, so at t = 0 alpha is that of the first step and not 1.
    """

    def __init__(self, alphas_cumprod: Float[Tensor, " steps"]):
        self.alphas_cumprod = alphas_cumprod.double().clamp(min=LEAST)
        self.log_snr = torch.logit(self.alphas_cumprod)

    @staticmethod
    def scaled_linear(steps: int = 1000, first: float = 0.00085, last: float = 0.012) -> "TableSchedule":
        """Return Stable Diffusion's schedule: sqrt(beta) linear over the steps (Rombach et al., arXiv:2112.10752)."""
        beta = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()
        return TableSchedule((1 - beta).cumprod(0))

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def to(self, device: torch.device | str) -> "TableSchedule":
        """Return the same schedule on another device."""
        return TableSchedule(self.alphas_cumprod.to(device))

    def timestep(self, t: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Return the step of the network's table: T t to the nearest, at most T-1.

        Negative times are passed on: threestudio's SDI does ask its network at step -99, and time embeddings are
        defined there.
        """
        return (t.double() * len(self)).round().clamp(max=len(self) - 1).long()

    def at(self, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Return alpha_t and sigma_t in float64."""
        log_snr = self.log_snr_at(t)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()

    def log_snr_at(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return lambda(t) in float64."""
        place = (t.double() * len(self)).clamp(0, len(self) - 1)
        # i/T in the precision of t comes back as i only up to its round-off: such times mean step i
        nearest = place.round()
        place = torch.where((place - nearest).abs() < len(self) * torch.finfo(t.dtype).eps, nearest, place)
        low = place.floor().long()
        high = (low + 1).clamp(max=len(self) - 1)
        return torch.where(place == low, self.log_snr[low], torch.lerp(self.log_snr[low], self.log_snr[high], place - low))

    @staticmethod
    def added(alpha_s: Tensor, sigma_s: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        """Return 1 - alpha_t^2 / alpha_s^2, which the general formula is where alpha^2 + sigma^2 = 1, without its cancellation."""
        return 1 - alpha_t**2 / alpha_s**2
