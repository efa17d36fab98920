"""Surgery on splats and their Adam state together: nothing may keep looking at a row that has moved.

Whatever an optimizer remembers per element (its moments) moves with the Gaussian; what is new or was overwritten
begins with zeros. Step counts are per parameter and stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from splatdistill.scene import optim
from splatdistill.scene.splats import PARAMETERS, ParameterName, Splats

Rows = Mapping[ParameterName, Tensor]  # raw parameter values of some Gaussians


@dataclass(frozen=True)
class Surgery:
    """Record of a change of rows: those at `kept` come first, in that order, then `added` new ones."""

    kept: Int[Tensor, " k"]
    added: int


@torch.no_grad()
def rows(scene: Splats, index: Int[Tensor, " m"]) -> dict[ParameterName, Tensor]:
    """Return a copy of the raw parameters of some Gaussians, in the order of `index`, which may repeat."""
    return {name: getattr(scene, name)[index].clone() for name in PARAMETERS}


@torch.no_grad()
def resize(
    scene: Splats, optimizer: torch.optim.Optimizer, kept: Int[Tensor, " k"], children: Rows | None = None
) -> Surgery:
    """Keep these Gaussians, in this order, and append the children. The scene gets new parameters."""
    added = 0 if children is None else len(children["means"])
    for name in PARAMETERS:
        group = optim.group(optimizer, name)
        old = optim.parameter(optimizer, name)
        tail = old[:0] if children is None else children[name].to(old)
        new = nn.Parameter(torch.cat([old[kept], tail]))
        if old in optimizer.state:
            memory = optimizer.state.pop(old)
            optimizer.state[new] = {
                key: torch.cat([value[kept], torch.zeros_like(tail)]) if _per_element(value, old) else value
                for key, value in memory.items()
            }
        group["params"] = [new]
        setattr(scene, name, new)
    return Surgery(kept, added)


@torch.no_grad()
def overwrite(scene: Splats, optimizer: torch.optim.Optimizer, index: Int[Tensor, " m"], values: Rows) -> None:
    """Replace some Gaussians by others, and reset the optimizer's moments of those."""
    for name in PARAMETERS:
        p = getattr(scene, name)
        p[index] = values[name].to(p)
    forget(scene, optimizer, index, PARAMETERS)


@torch.no_grad()
def forget(
    scene: Splats, optimizer: torch.optim.Optimizer, index: Int[Tensor, " m"], names: tuple[ParameterName, ...]
) -> None:
    """Zero the optimizer's moments of these parameters of some Gaussians."""
    for name in names:
        p = getattr(scene, name)
        for value in optimizer.state.get(p, {}).values():
            if _per_element(value, p):
                value[index] = 0


def _per_element(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape == parameter.shape
