"""Real spherical harmonics of degree 0 to 3: the colour of a Gaussian by viewing direction.

Basis and signs are those of the 3DGS family (Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013, with the
Condon-Shortley phase), so that coefficients go to and from .ply files unchanged: index l^2 + l + m holds Y_lm.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

MAX_DEGREE = 3


def degree_of(sh: Float[Tensor, "n k 3"]) -> int:
    """Return the degree of coefficients with k = (degree + 1)^2 bands; ValueError if k is none of 1, 4, 9, 16."""
    degree = math.isqrt(sh.shape[1]) - 1
    if not 0 <= degree <= MAX_DEGREE or (degree + 1) ** 2 != sh.shape[1]:
        raise ValueError(f"spherical harmonics have 1, 4, 9 or 16 coefficients per colour, got {sh.shape[1]}")
    return degree


def basis(degree: int, directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch k"]:
    """Return Y_lm of unit directions for l <= degree, orthonormal over the sphere; k = (degree + 1)^2."""
    x, y, z = directions.unbind(-1)
    y00 = torch.full_like(x, 0.2820947917738781)
    if degree == 0:
        return y00[..., None]
    bands = [y00, -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    xx, yy, zz = x * x, y * y, z * z
    if degree >= 2:
        bands += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.9461746957575601 * zz - 0.31539156525252005,
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        bands += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * zz - 1),
            0.3731763325901154 * z * (5 * zz - 3),
            -0.4570457994644658 * x * (5 * zz - 1),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return torch.stack(bands, -1)


def evaluate(sh: Float[Tensor, "n k 3"], directions: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
    """Return sum_lm sh_lm Y_lm(d / |d|), without the 1/2 that makes it a colour; differentiable in both.

    directions: from the camera towards the Gaussian, of any length.
    """
    values = basis(degree_of(sh), normalize(directions, dim=-1))
    return torch.einsum("...nk,nkc->...nc", values, sh)


def _sphere_rule() -> tuple[Float[Tensor, "p 3"], Float[Tensor, " p"]]:
    """Return nodes and weights of Lebedev's rule of 26 points, exact for polynomials up to degree 7 over the sphere."""
    cube = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 3)
    nonzero = cube.abs().sum(1).long()  # 1: face centres, 2: edge centres, 3: corners, 0: the middle
    weights = 4 * math.pi * torch.tensor([0, 1 / 21, 4 / 105, 9 / 280], dtype=torch.float64)[nonzero]
    keep = nonzero > 0
    return normalize(cube[keep], dim=1), weights[keep]


def rotate(sh: Float[Tensor, "n k 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "n k 3"]:
    """Return the coefficients of the rotated function: evaluate(rotate(sh, R), R d) == evaluate(sh, d); R orthogonal.

    Rotations mix coefficients within a band by D_mk = integral of Y_m(R d) Y_k(d) over the sphere. That is a
    polynomial of degree 2 l <= 6, which the quadrature rule sums exactly.
    """
    degree = degree_of(sh)
    points, weights = _sphere_rule()
    here = basis(degree, points)
    there = basis(degree, points @ rotation.detach().to("cpu", torch.float64).T)
    mixing = (there * weights[:, None]).T @ here
    band = torch.arange(degree + 1).repeat_interleave(2 * torch.arange(degree + 1) + 1)
    mixing = mixing * (band[:, None] == band[None, :])  # different bands are orthogonal: exact zeros
    return torch.einsum("jk,nkc->njc", mixing.to(sh), sh)
