"""Small sets of Gaussians for tests."""

from dataclasses import fields

import torch

from splatdistill.gaussians import SH_C0, Gaussians


def blobs(n: int, rng: torch.Generator, degree: int = 0, dtype: torch.dtype = torch.float64) -> Gaussians:
    """Return translucent blobs around the origin."""

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=rng, dtype=dtype)

    return Gaussians(
        means=uniform(-0.6, 0.6, n, 3),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng, dtype=dtype), dim=1),
        scales=uniform(0.1, 0.4, n, 3),
        opacities=uniform(0.2, 0.7, n),
        sh=0.3 * torch.randn(n, (degree + 1) ** 2, 3, generator=rng, dtype=dtype),
    )


def ball(mean: list[float], scale: float, opacity: float, rgb: list[float]) -> Gaussians:
    """Return a single round Gaussian, float64."""
    return Gaussians(
        means=torch.tensor([mean], dtype=torch.float64),
        quats=torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64),
        scales=torch.full((1, 3), scale, dtype=torch.float64),
        opacities=torch.tensor([opacity], dtype=torch.float64),
        sh=((torch.tensor([rgb], dtype=torch.float64) - 0.5) / SH_C0)[:, None],
    )


def join(*parts: Gaussians) -> Gaussians:
    """Return several sets as one, in order."""
    return Gaussians(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Gaussians)})


def trainable(gaussians: Gaussians) -> Gaussians:
    """Return the same values as leaves that require gradients."""
    values = {f.name: getattr(gaussians, f.name).detach().clone() for f in fields(Gaussians)}
    return Gaussians(**{name: value.requires_grad_() for name, value in values.items()})
