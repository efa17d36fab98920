"""One scene as free parameters: logarithms and logits, so that every value is admissible."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from splatdistill.gaussians import Gaussians
from splatdistill.scene import Scene

ParameterName = Literal["means", "quats", "log_scales", "logits", "sh_dc", "sh_rest"]
PARAMETERS: tuple[ParameterName, ...] = get_args(ParameterName)
OPACITY_MARGIN = 1e-6  # opacities are kept this far from 0 and 1, where the logit is infinite


class Splats(Scene):
    """Gaussians of one object, as a module. Leaves, in the order of PARAMETERS, all with n rows:

    means (n,3) world units; quats (n,4) wxyz of any length, normalised on read; log_scales (n,3) = ln(scales);
    logits (n) = ln(o / (1 - o)) of the opacities; sh_dc (n,1,3) and sh_rest (n,k-1,3): the constant band and
    the others, apart because they learn at different rates.
    """

    means: nn.Parameter
    quats: nn.Parameter
    log_scales: nn.Parameter
    logits: nn.Parameter
    sh_dc: nn.Parameter
    sh_rest: nn.Parameter

    def __init__(self, values: Mapping[ParameterName, Tensor]) -> None:
        """Initialise with raw parameter values, as `named_parameters` or a saved state gives them; copied bit by bit."""
        super().__init__()
        if set(values) != set(PARAMETERS):
            raise ValueError(f"splats need exactly {', '.join(PARAMETERS)}; got {', '.join(sorted(values))}")
        if len(counts := {len(v) for v in values.values()}) != 1:
            raise ValueError(f"every parameter needs one row per Gaussian; got {sorted(counts)} rows")
        for name in PARAMETERS:
            setattr(self, name, nn.Parameter(values[name].detach().clone()))

    @classmethod
    def from_gaussians(cls, gaussians: Gaussians) -> "Splats":
        """Return parameters whose physical values are these (opacities at least OPACITY_MARGIN away from 0 and 1)."""
        return cls(
            {
                "means": gaussians.means,
                "quats": gaussians.quats,
                "log_scales": gaussians.scales.log(),
                "logits": torch.logit(gaussians.opacities, eps=OPACITY_MARGIN),
                "sh_dc": gaussians.sh[:, :1],
                "sh_rest": gaussians.sh[:, 1:],
            }
        )

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        """Return the degree of the spherical harmonics, 0 to 3."""
        return round((1 + self.sh_rest.shape[1]) ** 0.5) - 1

    def forward(self, prompts: Sequence[str] = ()) -> Gaussians:
        """Return physical values; the prompts are of no concern to a scene of one object."""
        return Gaussians(
            means=self.means,
            quats=nn.functional.normalize(self.quats, dim=-1),
            scales=self.log_scales.exp(),
            opacities=self.logits.sigmoid(),
            sh=torch.cat([self.sh_dc, self.sh_rest], 1),
        )
