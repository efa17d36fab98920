"""A set of 3D Gaussians in physical values, and its export-independent conventions.

Covariance of Gaussian i: R(q_i) diag(s_i^2) R(q_i)^T. Colour seen along direction d: max(SH(d) + 1/2, 0).
"""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SH_C0 = 0.28209479177387814  # Y_00, the constant band: rgb = 1/2 + SH_C0 * f_dc


def rotation_matrices(quats: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Return R(q / |q|) of quaternions wxyz: columns are the local axes in world coordinates."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


@dataclass(frozen=True)
class Gaussians:
    """n Gaussians, physical values (not logits or logarithms); differentiable if its tensors are."""

    means: Float[Tensor, "n 3"]  # world units
    quats: Float[Tensor, "n 4"]  # wxyz, unit
    scales: Float[Tensor, "n 3"]  # standard deviations along the local axes, > 0
    opacities: Float[Tensor, " n"]  # in [0, 1]
    sh: Float[Tensor, "n k 3"]  # spherical harmonics of the colour, k = (degree + 1)^2

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        return f"Gaussians({len(self)}, degree {self.degree}, {self.means.dtype}, {self.means.device})"

    @property
    def degree(self) -> int:
        """Return the degree of the spherical harmonics, 0 to 3."""
        return round(self.sh.shape[1] ** 0.5) - 1

    @property
    def rgb(self) -> Float[Tensor, "n 3"]:
        """Return the colour (n,3) of the constant band, which is the same from all directions."""
        return 0.5 + SH_C0 * self.sh[:, 0]

    def __getitem__(self, index: Int[Tensor, " m"] | Bool[Tensor, " n"] | slice) -> "Gaussians":
        """Return some of the Gaussians."""
        return Gaussians(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def detach(self) -> "Gaussians":
        """Return the same values without gradient history."""
        return Gaussians(**{f.name: getattr(self, f.name).detach() for f in fields(self)})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Gaussians":
        """Return the same Gaussians on another device or in another precision."""
        return Gaussians(**{f.name: getattr(self, f.name).to(device=device, dtype=dtype) for f in fields(self)})

    def with_degree(self, degree: int) -> "Gaussians":
        """Return the Gaussians with `degree` bands of harmonics, cut off or filled up with zeros."""
        k = (degree + 1) ** 2
        sh = self.sh.new_zeros(len(self), k, 3)
        kept = min(k, self.sh.shape[1])
        sh[:, :kept] = self.sh[:, :kept]
        return replace(self, sh=sh)

    def finite(self) -> Bool[Tensor, " n"]:
        """Mask of the Gaussians that have only finite values."""
        ok = [getattr(self, f.name).flatten(1) if f.name != "opacities" else self.opacities[:, None] for f in fields(self)]
        return torch.cat(ok, 1).isfinite().all(1)
