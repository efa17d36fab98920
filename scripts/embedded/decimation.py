"""Fewer triangles for the packed world: decimation that keeps materials and textures, and openness; for scripts/pack_world.py."""

import fast_simplification
import numpy as np
import pyfqmr
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from embedded.furniture import Model
from splatdistill.cameras import Cameras, orbit
from splatdistill.toybox.triangles import CornerMesh, rasterise

SAMPLES = 80_000  # points of the original surface that materials and textures are read at
BARYCENTRIC = np.array([[i, j, 6 - i - j] for i in range(1, 6) for j in range(1, 6 - i)]) / 6.0  # inside a face


def welded(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (v, 3) different places and (faces, 3) their numbers; faces without area are kept."""
    places, faces = np.unique(np.round(corners.reshape(-1, 3), 5), axis=0, return_inverse=True)
    return places, faces.reshape(-1, 3)


def cleaned(model: Model) -> Model:
    """Return the model without faces of no area, and without those that repeat the corners of another."""
    _, faces = welded(model.corners)
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    _, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
    kept = np.zeros(len(faces), bool)
    kept[first] = True
    kept &= proper
    return Model(model.corners[kept], model.uv[kept], model.material[kept], model.paints)


def decimated(model: Model, count: int) -> Model:
    """Return the model with at most about `count` faces, by quadric errors (Garland and Heckbert, 1997).

    The surface is cut along the borders of materials and of the textures' maps, and those borders are kept: what is painted
    stays where it was. Where they alone leave too many faces, only the materials' are kept, or none and the whole is welded.
    """
    if len(model.corners) <= count:
        return model
    for border in (charts(model), model.material):
        cut = np.concatenate([model.corners, np.broadcast_to(border[:, None, None], (*model.corners.shape[:2], 1))], 2)
        corners = simplified(cut, count)
        if len(corners) <= count:
            break
    else:
        places, faces = welded(model.corners)
        places, faces = fast_simplification.simplify(places.astype(np.float32), faces.astype(np.int32), target_count=count, agg=4.0)[:2]
        corners = places[faces].astype(float)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    kept = np.sort(np.argsort(-area)[:count])  # what no collapse removes is small: screws, buttons, seams
    corners = corners[kept[area[kept] > 1e-8]]
    material, uv = carried_over(model, corners)
    return Model(corners, uv, material, model.paints)


def simplified(corners: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` faces (f,3,3) of corners (n,3,4), which are joined where all four numbers agree; open borders stay."""
    keys, faces = np.unique(np.round(corners.reshape(-1, 4), 5), axis=0, return_inverse=True)
    worker = pyfqmr.Simplify()
    worker.setMesh(keys[:, :3].astype(float), faces.reshape(-1, 3).astype(np.int32))
    worker.simplify_mesh(target_count=count, aggressiveness=5, preserve_border=True, verbose=False)
    places, faces, _ = worker.getMesh()
    return places[faces]


def carried_over(model: Model, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the material of each new face, and its texture coordinates.

    Points in a new face look up the nearest points of the old surface that face the same way. The most frequent piece of the
    texture's map wins; the coordinates at the corners are the least-squares fit to those of its points.
    """
    rng = np.random.default_rng(0)
    flat = np.cross(model.corners[:, 1] - model.corners[:, 0], model.corners[:, 2] - model.corners[:, 0])
    area = np.linalg.norm(flat, axis=1)
    unit = flat / np.maximum(area, 1e-12)[:, None]
    chosen = np.concatenate([rng.choice(len(area), SAMPLES, p=area / area.sum()), np.arange(len(area))])
    weights = rng.dirichlet((1.0, 1.0, 1.0), len(chosen))
    where = (model.corners[chosen] * weights[..., None]).sum(1)
    tree = cKDTree(np.concatenate([where, 0.03 * unit[chosen]], 1))
    new = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    new /= np.maximum(np.linalg.norm(new, axis=1, keepdims=True), 1e-12)
    points = np.einsum("pc,fcd->fpd", BARYCENTRIC, corners)
    asked = np.concatenate([points, np.broadcast_to(0.03 * new[:, None], points.shape)], 2)
    found = tree.query(asked.reshape(-1, 6))[1].reshape(len(corners), -1)
    piece = charts(model)[chosen][found]
    most = np.array([np.bincount(row).argmax() for row in piece])
    material = np.zeros(len(corners), int)
    uv = np.zeros((len(corners), 3, 2))
    at = (model.uv[chosen] * weights[..., None]).sum(1)[found]
    for f in range(len(corners)):
        mine = piece[f] == most[f]
        material[f] = model.material[chosen[found[f, mine.argmax()]]]
        if model.paints[material[f]].texture is None:
            continue
        b, target = BARYCENTRIC[mine], at[f, mine]
        middle = target.mean(0)
        uv[f] = middle + np.linalg.solve(b.T @ b + 1e-3 * np.eye(3), b.T @ (target - middle))
    return material, uv


def charts(model: Model) -> np.ndarray:
    """Return the number of the connected piece, in space and on the texture, of each face (faces,)."""
    key = np.concatenate([np.round(model.corners, 4), np.round(model.uv, 4), np.broadcast_to(model.material[:, None, None], (*model.uv.shape[:2], 1))], 2)
    _, node = np.unique(key.reshape(-1, key.shape[-1]), axis=0, return_inverse=True)
    node = node.reshape(-1)
    face = np.repeat(np.arange(len(model.corners)), 3)
    graph = coo_array((np.ones(len(face)), (face, len(model.corners) + node)), shape=(len(model.corners) + node.max() + 1,) * 2)
    return connected_components(graph, directed=False)[1][: len(model.corners)]


def openness(places: np.ndarray, corners: np.ndarray, directions: int = 64, size: int = 192) -> np.ndarray:
    """Return the visible share of the hemisphere of each place (v,), in [0, 1]: its ambient light.

    From each direction of a Fibonacci sphere the depth of what is nearest is drawn. Half of all directions are behind a closed
    surface, so twice the visible share counts.
    """
    i = np.arange(directions)
    elevation, azimuth = np.degrees(np.arcsin(1 - (2 * i + 1) / directions)), i * 137.50776405 % 360
    cameras = orbit(azimuth.tolist(), elevation.tolist(), 20.0, 6.0, size)
    f = np.float32
    blank = CornerMesh(corners.astype(f), np.ones(corners.shape, f), np.zeros((*corners.shape[:2], 2), f), np.ones(corners.shape[:2], f),
                 np.zeros(len(corners), np.int32), np.array([[1, 1, 1, -1, 0, 0]], f), np.zeros((1, 3), np.uint8))  # fmt: skip
    seen = np.zeros(len(places))
    for k in range(directions):
        camera: Cameras = cameras[k : k + 1]
        depth = rasterise([blank], camera, samples=1, threads=1).depth[0, 0].numpy()
        depth = np.where(depth > 0, depth, np.inf)
        pose, focal = camera.world_to_camera[0].double().numpy(), float(camera.intrinsics[0, 0, 0])
        x, y, z = (places @ pose[:3, :3].T + pose[:3, 3]).T
        col, row = (np.clip((focal * v / z + size / 2).astype(int), 0, size - 1) for v in (x, y))
        seen += z < depth[row, col] + 0.04
    return np.clip(2 * seen / directions, 0, 1)
