"""Solids on a grid lose what is too small to be meant, and nothing else; marching cubes then finds what was counted."""

import numpy as np
import pytest

from splatdistill.export import topology
from splatdistill.export.surface import marched
from splatdistill.io.mesh import form

N = 40
X, Y, Z = np.stack(np.meshgrid(*[np.arange(N) - (N - 1) / 2] * 3, indexing="ij"))
RADII = (1.0, 1.5, 2.0, 2.5, 3.0)


def ball(radius: float, x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    return np.sqrt((X - x) ** 2 + (Y - y) ** 2 + (Z - z) ** 2) - radius


def ring(large: float, small: float) -> np.ndarray:
    return np.sqrt((np.sqrt(X**2 + Y**2) - large) ** 2 + Z**2) - small


def rod(radius: float, x: float = 0, y: float = 0) -> np.ndarray:
    return np.sqrt((X - x) ** 2 + (Y - y) ** 2) - radius


def arch() -> np.ndarray:
    """Return a thread of one voxel that leaves a ball and comes back."""
    thread = np.full((N, N, N), 1.0)
    thread[20, 20, 20:37], thread[20, 20:36, 36], thread[20, 35, 20:37], thread[20, 20:36, 20] = -1, -1, -1, -1
    return np.minimum(thread, ball(10))


CASES = {  # field, genus before, genus after, pieces after
    "a ball": (ball(14), 0, 0, 1),
    "a ring": (ring(11, 5), 1, 1, 1),
    "a narrow tunnel": (np.maximum(ball(14), -rod(1.8)), 1, 0, 1),
    "a wide tunnel": (np.maximum(ball(14), -rod(5)), 1, 1, 1),
    "two narrow ones and a wide one": (np.maximum.reduce([ball(16), -rod(4.5), -rod(1.5, 9), -rod(1.5, -9)]), 3, 1, 1),
    "a void": (np.maximum(ball(14), -ball(6)), -1, 0, 1),
    "two balls": (np.minimum(ball(7, x=-10), ball(7, x=10)), 0, 0, 2),
    "a stray": (np.minimum(ball(12), ball(1.5, x=17)), 0, 0, 1),
    "a thread": (arch(), 1, 0, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_too_small_is_mended_and_the_rest_is_kept(case: str) -> None:
    field, before, after, pieces = CASES[case]
    field = field.astype(np.float32)
    assert topology.genus(field < 0) == before
    out = topology.mended(field, RADII, 1.0)
    assert topology.genus(out < 0) == after and topology.pieces(out < 0)[1] == pieces
    vertices, faces = marched(out)
    found = form(vertices[faces])
    assert (found.genus, found.pieces, found.watertight) == (after, pieces, True)
    if case in ("a ball", "a ring", "a wide tunnel", "two balls"):
        assert (out == field).mean() > 0.999  # where voxels touch by an edge alone


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_marching_cubes_finds_what_was_counted(seed: int, share: float) -> None:
    """The surface has, for any noise, the pieces and the genus of the voxels, and is closed."""
    noise = np.random.default_rng(seed).random((9, 10, 11))
    solid = topology.sound(np.pad(noise < share, 9))
    assert not topology.around_contacts(solid)[~solid].any() and solid[9:-9, 9:-9, 9:-9][noise < share].all()
    field = np.where(solid, -np.random.default_rng(seed + 99).random(solid.shape) - 0.01, 0.3).astype(np.float32)
    vertices, faces = marched(field)
    found = form(vertices[faces])
    assert found.watertight and found.genus == topology.genus(solid) and found.pieces == topology.pieces(solid)[1]


def test_dents_and_creases_are_no_tunnels() -> None:
    """A ball does not enter the crease between two balls, nor a narrow pit; neither is filled."""
    for field in (np.minimum(ball(8, x=-7), ball(8, x=7)), np.maximum(ball(14), -np.maximum(rod(1.8), -Z))):
        out = topology.mended(field.astype(np.float32), RADII, 1.0)
        assert ((out < 0) & (field >= 0)).sum() <= 16


def test_the_form_of_known_surfaces() -> None:
    import trimesh

    for mesh, pieces, genus in (
        (trimesh.creation.icosphere(2), 1, 0),
        (trimesh.creation.torus(1.0, 0.3), 1, 1),
        (trimesh.util.concatenate([trimesh.creation.box(), trimesh.creation.torus(1, 0.2).apply_translation([5, 0, 0])]), 2, 1),
    ):
        found = form(np.asarray(mesh.vertices)[mesh.faces])
        assert (found.pieces, found.watertight, found.genus) == (pieces, True, genus)
        assert not form(np.asarray(mesh.vertices)[mesh.faces[1:]]).watertight
