"""Spherical harmonics: the basis agrees with gsplat's, is orthonormal, and rotations turn the function."""

import pytest
import torch
from gsplat.cuda._torch_impl import _spherical_harmonics
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill import sh


def _rotation(quat: list[float]) -> torch.Tensor:
    w, x, y, z = torch.nn.functional.normalize(torch.tensor(quat, dtype=torch.float64), dim=0).tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("degree", range(4))
def test_agrees_with_gsplat(degree: int, rng: torch.Generator) -> None:
    coefficients = torch.randn(50, (degree + 1) ** 2, 3, generator=rng, dtype=torch.float64)
    directions = 4 * torch.randn(2, 50, 3, generator=rng, dtype=torch.float64)
    theirs = torch.stack([_spherical_harmonics(degree, d, coefficients) for d in directions])
    torch.testing.assert_close(sh.evaluate(coefficients, directions), theirs, rtol=1e-12, atol=1e-12)


def test_orthonormal() -> None:
    """Against a product rule (Gauss-Legendre in z by equal steps in angle) that the module does not use."""
    n = 16
    z, weights = _gauss_legendre(n)
    angle = 2 * torch.pi * torch.arange(2 * n, dtype=torch.float64) / (2 * n)
    ring = (1 - z * z).sqrt()[:, None]
    points = torch.stack([ring * angle.cos(), ring * angle.sin(), z[:, None].expand(n, 2 * n)], -1).reshape(-1, 3)
    values = sh.basis(3, points)
    gram = (values * (weights * torch.pi / n).repeat_interleave(2 * n)[:, None]).T @ values
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-13)


def _gauss_legendre(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return nodes and weights on [-1, 1] from the Jacobi matrix of the recurrence (Golub and Welsch, 1969)."""
    k = torch.arange(1, n, dtype=torch.float64)
    off = k / (4 * k * k - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, 2 * vectors[0] ** 2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("degree", range(4))
@settings(max_examples=25, deadline=None)
@given(quat=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: sum(v * v for v in q) > 0.01))
def test_rotate_turns_the_function(degree: int, dtype: torch.dtype, tolerance: float, quat: list[float]) -> None:
    generator = torch.Generator().manual_seed(degree)
    turn = _rotation(quat).to(dtype)
    coefficients = torch.rand(20, (degree + 1) ** 2, 3, generator=generator, dtype=dtype) - 0.5
    directions = torch.nn.functional.normalize(torch.randn(3, 20, 3, generator=generator, dtype=dtype), dim=-1)
    turned = sh.evaluate(sh.rotate(coefficients, turn), directions @ turn.T)
    # float32 directions carry their own rounding of a few 1e-7 through degree 3 polynomials, on top of the rotation's
    slack = 3 if dtype == torch.float32 else 1
    torch.testing.assert_close(turned, sh.evaluate(coefficients, directions), rtol=0, atol=slack * tolerance)


def test_rotations_compose_and_invert(rng: torch.Generator) -> None:
    coefficients = torch.randn(8, 16, 3, generator=rng, dtype=torch.float64)
    a, b = _rotation([1, 2, 3, 4]), _rotation([4, -1, 0.5, 2])
    torch.testing.assert_close(sh.rotate(sh.rotate(coefficients, a), b), sh.rotate(coefficients, b @ a))
    torch.testing.assert_close(sh.rotate(sh.rotate(coefficients, a), a.T), coefficients)


def test_gradients(rng: torch.Generator) -> None:
    coefficients = torch.randn(3, 16, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    directions = torch.randn(2, 3, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sh.evaluate, (coefficients, directions))
    turn = _rotation([1, 2, 3, 4])
    assert torch.autograd.gradcheck(lambda c: sh.rotate(c, turn), (coefficients,))


@pytest.mark.parametrize("k", [2, 5, 25])
def test_refuses_incomplete_bands(k: int) -> None:
    with pytest.raises(ValueError, match="1, 4, 9 or 16"):
        sh.evaluate(torch.zeros(1, k, 3), torch.ones(1, 3))
