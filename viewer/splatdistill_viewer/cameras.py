"""The browser's cameras and ours. Both look along +z with y down; the browser's pose is camera to world, as wxyz."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from splatdistill.cameras import Cameras
from splatdistill.gaussians import rotation_matrices


@dataclass(frozen=True)
class Pose:
    """Camera of a browser."""

    wxyz: tuple[float, float, float, float]
    position: tuple[float, float, float]
    fov: float  # vertical, radians
    aspect: float  # width over height
    height: int  # pixels

    def cameras(self, height: int) -> Cameras:
        """Return this pose as one camera, `height` pixels high."""
        width = max(1, round(self.aspect * height))
        rotation = rotation_matrices(torch.tensor([self.wxyz], dtype=torch.float64)).mT
        world_to_camera = torch.eye(4, dtype=torch.float64)[None].clone()
        world_to_camera[:, :3, :3] = rotation
        world_to_camera[:, :3, 3] = -(rotation @ torch.tensor(self.position, dtype=torch.float64))
        focal = 0.5 * height / math.tan(0.5 * self.fov)
        intrinsics = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]], dtype=torch.float64)
        return Cameras(world_to_camera.float(), intrinsics.float(), width, height)


@dataclass(frozen=True)
class Frustum:
    """Camera as the page draws it."""

    wxyz: np.ndarray
    position: np.ndarray
    fov: float  # vertical, radians
    aspect: float


def frustums(cameras: Cameras) -> list[Frustum]:
    """Return the training cameras as frustums to be drawn on the page."""
    c = cameras.to("cpu", torch.float64)
    turns = c.world_to_camera[:, :3, :3].mT
    fov = torch.deg2rad(c.vertical_fov).tolist()
    return [
        Frustum(quaternion(turn.numpy()), p.numpy(), f, c.width / c.height) for turn, p, f in zip(turns, c.position, fov)
    ]


def in_the_way(position: np.ndarray, eye: Pose, target: tuple[float, float, float], room: float = 0.25) -> bool:
    """Return whether a camera drawn at this position would stand between the eye and its target: within the eye's view cone,
    widened by `room` world units, and no farther than the target; or so near the eye that it fills the view.
    """
    rotation = rotation_matrices(torch.tensor([eye.wxyz], dtype=torch.float64))[0].numpy()
    x, y, depth = rotation.T @ (np.asarray(position, np.float64) - eye.position)
    if math.dist(position, eye.position) < 2 * room:
        return True
    if not 0 < depth < math.dist(eye.position, target):
        return False
    tall = math.tan(0.5 * eye.fov) * depth
    return bool(abs(y) < tall + room and abs(x) < eye.aspect * tall + room)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return the quaternion wxyz of a rotation matrix (3,3): the eigenvector of the largest eigenvalue of Bar-Itzhack's 4x4 matrix
    ("New Method for Extracting the Quaternion from a Rotation Matrix", 2000), which has no special cases.
    """
    r = rotation
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0]],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1]],
            [r[1, 0] - r[0, 1], r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    return np.linalg.eigh(k)[1][:, -1]


def turntable(pose: Pose, degrees: float, look_at: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return the position of a pose after a rotation about the vertical axis through `look_at`."""
    a, (x, y, z) = math.radians(degrees), np.subtract(pose.position, look_at)
    turned = (x * math.cos(a) - y * math.sin(a), x * math.sin(a) + y * math.cos(a), z)
    moved = np.add(turned, look_at)
    return float(moved[0]), float(moved[1]), float(moved[2])
