"""Densification as sampling: "3D Gaussian Splatting as Markov Chain Monte Carlo" (arXiv:2404.09591).

Gaussians that have become transparent are put where opaque ones are, the count grows by a few per cent at a time, and
noise makes transparent ones explore. When a Gaussian of opacity o and standard deviations s becomes N equal ones at
the same place, they take (eq. 9 and its derivation)

    o' = 1 - (1 - o)^(1/N)
    s' = s o / sum_{i=1}^{N} sum_{k=0}^{i-1} C(i-1, k) (-1)^k o'^(k+1) / sqrt(k + 1)

so that the N together look like the one did: the same opacity in the centre, the same integral of it along a line.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from splatdistill import checks
from splatdistill.densify.base import CountChange, Densifier, DensifyState, due
from splatdistill.densify.ops import Rows, forget, overwrite, resize, rows
from splatdistill.gaussians import rotation_matrices
from splatdistill.priors.random import sent
from splatdistill.scene import optim
from splatdistill.scene.splats import PARAMETERS, Splats

MOST = 51  # copies of one Gaussian that the formula is evaluated for; as in the authors' code, more count as these
GATE_SHARPNESS = 100.0  # the paper's k
OPAQUE = 1 - 1e-6


@dataclass(frozen=True)
class Relocate(Densifier):
    """Move transparent Gaussians to opaque ones, grow, and explore by noise (3DGS-MCMC)."""

    every: int = 100
    """Steps between updates."""
    since: float = 0.02
    """Progress in [0, 1] at which updates begin."""
    until: float = 0.8
    """Progress in [0, 1] at which updates end; the noise goes on, and fades with the learning rate."""
    min_opacity: float = 0.005
    """Gaussians less opaque than this are relocated."""
    growth: float = 0.05
    """Share by which the count grows per update, up to max_gaussians; 0 keeps it."""
    noise: float = 5e5
    """Noise on the means, times their learning rate, times the covariance; 0 switches it off."""
    gate: float = 0.005
    """Opacity around which noise fades: it acts on Gaussians below (the authors' code; the paper's text has 0.995)."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.at_least(self, 1, "every")
        checks.within(self, 0, 1, "since", "until", "min_opacity", "gate")
        checks.at_least(self, 0, "growth", "noise")

    @torch.no_grad()
    def after_step(
        self, state: DensifyState, scene: Splats, optimizer: torch.optim.Optimizer, rng: torch.Generator
    ) -> None:
        """Move means by mu += noise * rate * sigmoid(-100 (o - gate)) * Sigma eta, eta ~ N(0, 1): stochastic gradient Langevin
        dynamics, on Gaussians that show little.
        """
        if self.noise == 0:
            return
        rate = optim.group(optimizer, "means")["lr"]
        eta = sent(torch.randn(scene.means.shape, generator=rng), scene.means.device, scene.means.dtype)
        gated = torch.sigmoid(-GATE_SHARPNESS * (scene.logits.sigmoid() - self.gate))
        rotation, variance = rotation_matrices(scene.quats), (2 * scene.log_scales).exp()
        spread = rotation @ (variance * (rotation.mT @ eta[..., None])[..., 0])[..., None]
        scene.means += self.noise * rate * gated[:, None] * spread[..., 0]

    @torch.no_grad()
    def update(
        self,
        state: DensifyState,
        scene: Splats,
        optimizer: torch.optim.Optimizer,
        step: int,
        progress: float,
        rng: torch.Generator,
        max_gaussians: int,
    ) -> CountChange:
        if not due(step, progress, self.every, self.since, self.until):
            return CountChange()
        moved = self._relocate(scene, optimizer, rng)
        room = max(0, min(max_gaussians - len(scene), math.ceil(self.growth * len(scene))))
        return CountChange(added=self._grow(state, scene, optimizer, room, rng), moved=moved)

    def _relocate(self, scene: Splats, optimizer: torch.optim.Optimizer, rng: torch.Generator) -> int:
        """Make dead Gaussians copies of living ones, drawn in proportion to opacity."""
        dead = self._dead(scene)
        places = dead.nonzero()[:, 0]
        if len(places) in (0, len(scene)):
            return 0
        sources = self._draw(scene, ~dead, len(places), rng)
        copies = self._share(scene, optimizer, sources)
        overwrite(scene, optimizer, places, copies)
        return len(places)

    def _grow(
        self, state: DensifyState, scene: Splats, optimizer: torch.optim.Optimizer, count: int, rng: torch.Generator
    ) -> int:
        """Make more than one of some Gaussians, drawn in proportion to opacity."""
        alive = ~self._dead(scene)
        if count == 0 or not alive.any():
            return 0
        copies = self._share(scene, optimizer, self._draw(scene, alive, count, rng))
        everyone = torch.arange(len(scene), device=scene.means.device)
        state.follow(resize(scene, optimizer, everyone, copies))
        return count

    def _dead(self, scene: Splats) -> Bool[Tensor, " n"]:
        return scene.logits.sigmoid() < self.min_opacity

    def _draw(self, scene: Splats, alive: Bool[Tensor, " n"], count: int, rng: torch.Generator) -> Int[Tensor, " m"]:
        weights = torch.where(alive, scene.logits.sigmoid(), 0).cpu()
        return torch.multinomial(weights, count, replacement=True, generator=rng).to(scene.means.device)

    def _share(self, scene: Splats, optimizer: torch.optim.Optimizer, sources: Int[Tensor, " m"]) -> Rows:
        """Shrink and fade each source as one of the Gaussians it becomes; the others, one per entry of `sources`."""
        unique, counts = sources.unique(return_counts=True)
        opacities, scales = shared(
            scene.logits[unique].sigmoid(), scene.log_scales[unique].exp(), counts + 1, self.min_opacity
        )
        scene.logits[unique] = torch.logit(opacities)
        scene.log_scales[unique] = scales.log()
        forget(scene, optimizer, unique, PARAMETERS)
        return rows(scene, sources)


@torch.no_grad()
def shared(
    opacities: Float[Tensor, " m"], scales: Float[Tensor, "m 3"], copies: Int[Tensor, " m"], min_opacity: float = 0.0
) -> tuple[Float[Tensor, " m"], Float[Tensor, "m 3"]]:
    """Return opacity and standard deviations of each of the `copies` Gaussians that together look like one.

    By sum_{i=k+1}^{N} C(i-1, k) = C(N, k+1) the double sum above is sum_{k=0}^{N-1} C(N, k+1) (-1)^k o'^(k+1)
    / sqrt(k+1), evaluated in float64. Opacities do not fall below min_opacity, or the copies would be dead at once.
    """
    n = copies.clamp(max=MOST)
    o = opacities.double().clamp(max=OPAQUE)
    new = -torch.expm1(torch.log1p(-o) / n)
    powers = new[:, None] ** torch.arange(1, MOST + 1, device=new.device, dtype=torch.float64)
    total = (_coefficients().to(new.device)[n] * powers).sum(1)
    factor = (o / total).to(scales)
    return new.clamp(min_opacity, OPAQUE).to(opacities), scales * factor[:, None]


@cache
def _coefficients() -> Float[Tensor, "most_and_one most"]:
    """Return row N, column k: C(N, k+1) (-1)^k / sqrt(k+1)."""
    table = torch.zeros(MOST + 1, MOST, dtype=torch.float64)
    for n in range(1, MOST + 1):
        for k in range(n):
            table[n, k] = math.comb(n, k + 1) * (-1) ** k / math.sqrt(k + 1)
    return table
