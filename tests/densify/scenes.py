"""A scene with a used optimizer, in which every row can be told apart."""

import torch

from splatdistill.gaussians import Gaussians
from splatdistill.scene.optim import LearningRates
from splatdistill.scene.splats import PARAMETERS, Splats


def scene(n: int = 12, degree: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0) -> Splats:
    rng = torch.Generator().manual_seed(seed)
    return Splats.from_gaussians(
        Gaussians(
            means=0.4 * torch.randn(n, 3, generator=rng, dtype=dtype),
            quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng, dtype=dtype), dim=1),
            scales=0.02 + 0.1 * torch.rand(n, 3, generator=rng, dtype=dtype),
            opacities=0.1 + 0.8 * torch.rand(n, generator=rng, dtype=dtype),
            sh=torch.randn(n, (degree + 1) ** 2, 3, generator=rng, dtype=dtype),
        )
    )


def used(splats: Splats, steps: int = 3) -> torch.optim.Adam:
    """Return an Adam that has seen some gradients."""
    optimizer = LearningRates().optimizer(splats)
    for i in range(steps):
        push(splats, optimizer, i)
    return optimizer


def push(splats: Splats, optimizer: torch.optim.Optimizer, seed: int, order: torch.Tensor | None = None) -> None:
    """Step along random gradients; `order` says which Gaussian each row is."""
    rng = torch.Generator().manual_seed(seed)
    rows = len(splats) if order is None else int(order.max()) + 1
    for name in PARAMETERS:
        p = getattr(splats, name)
        gradient = torch.randn(rows, *p.shape[1:], generator=rng, dtype=p.dtype)
        p.grad = gradient if order is None else gradient[order]
    optimizer.step()
    optimizer.zero_grad()


def moments(splats: Splats, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return first and second moments of every parameter, checked to be those that the optimizer will use."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    found = {}
    for name in PARAMETERS:
        p = getattr(splats, name)
        assert any(p is q for q in held), f"the optimizer does not hold the scene's {name}"
        for key in ("exp_avg", "exp_avg_sq"):
            found[f"{name}.{key}"] = optimizer.state[p][key]
            assert found[f"{name}.{key}"].shape == p.shape
    assert len(optimizer.state) == len(PARAMETERS), "moments of parameters that are gone"
    return found
