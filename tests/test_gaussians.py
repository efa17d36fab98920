"""The set of Gaussians as a container, and its conventions."""

from dataclasses import fields, replace

import pytest
import torch
from splats import blobs, trainable

from splatdistill import sh
from splatdistill.gaussians import Gaussians, rotation_matrices

NAMES = [f.name for f in fields(Gaussians)]


def test_indexing_takes_the_same_rows_everywhere(rng: torch.Generator) -> None:
    gaussians = blobs(6, rng, degree=1)
    chosen = torch.tensor([4, 1, 1])
    mask = torch.tensor([True, False, True, False, False, True])
    for index in (chosen, mask, slice(1, 4)):
        part = gaussians[index]
        assert all(torch.equal(getattr(part, name), getattr(gaussians, name)[index]) for name in NAMES)
    assert len(gaussians[mask]) == 3 and len(gaussians[:0]) == 0


@pytest.mark.parametrize("degree", range(4))
def test_degree(degree: int, rng: torch.Generator) -> None:
    assert blobs(2, rng, degree).degree == degree


def test_with_degree_cuts_and_fills(rng: torch.Generator) -> None:
    gaussians = trainable(blobs(3, rng, degree=1))
    more, less = gaussians.with_degree(3), gaussians.with_degree(0)
    assert more.degree == 3 and less.degree == 0
    assert torch.equal(more.with_degree(1).sh, gaussians.sh)
    directions = torch.randn(3, 3, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(sh.evaluate(more.sh, directions), sh.evaluate(gaussians.sh, directions))
    assert torch.equal(less.sh, gaussians.sh[:, :1])
    more.sh.sum().backward()
    assert torch.equal(gaussians.sh.grad, torch.ones_like(gaussians.sh))


def test_rgb_is_what_degree_zero_shows(rng: torch.Generator) -> None:
    gaussians = blobs(5, rng, degree=2)
    directions = torch.randn(5, 3, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(gaussians.rgb, 0.5 + sh.evaluate(gaussians.with_degree(0).sh, directions))


def test_finite_finds_the_broken_ones(rng: torch.Generator) -> None:
    gaussians = blobs(6, rng, degree=1)
    assert gaussians.finite().all()
    for i, name in enumerate(NAMES):
        for bad in (float("nan"), float("inf")):
            values = getattr(gaussians, name).clone()
            values[i].view(-1)[-1] = bad
            assert replace(gaussians, **{name: values}).finite().tolist() == [j != i for j in range(6)]


def test_detach_and_to(rng: torch.Generator) -> None:
    gaussians = trainable(blobs(2, rng))
    assert not any(getattr(gaussians.detach(), name).requires_grad for name in NAMES)
    single = gaussians.to(dtype=torch.float32)
    assert all(getattr(single, name).dtype == torch.float32 for name in NAMES)


def test_rotation_matrices(rng: torch.Generator) -> None:
    """Proper rotations, the same for a quaternion of any length and sign, and the right way round."""
    quats = torch.randn(20, 4, generator=rng, dtype=torch.float64)
    turn = rotation_matrices(quats)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    torch.testing.assert_close(turn.det(), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(rotation_matrices(-3 * quats), turn)
    quarter = rotation_matrices(torch.tensor([0.5**0.5, 0, 0, 0.5**0.5], dtype=torch.float64))  # about +z
    x, y, z = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(quarter @ x, y)
    torch.testing.assert_close(quarter @ z, z)
