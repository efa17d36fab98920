"""Splats on a page, and where a browser looks at them from."""

import math

import viser

from splatdistill_viewer.cameras import Pose
from splatdistill_viewer.snapshot import Snapshot

WIDEST = 8.0  # width over height of an exact picture: a window may be a strip


def pose_of(client: viser.ClientHandle) -> Pose | None:
    """Return the camera pose of a browser; None before it has sent one."""
    c = client.camera
    try:
        w, x, y, z = map(float, c.wxyz)
        px, py, pz = map(float, c.position)
        return Pose((w, x, y, z), (px, py, pz), float(c.fov), min(max(float(c.aspect), 1 / WIDEST), WIDEST), int(c.image_height))
    except AssertionError:  # viser's way of saying that nothing has come yet
        return None


def target_of(client: viser.ClientHandle) -> tuple[float, float, float]:
    """Return the point that a browser's camera looks at, in world units."""
    x, y, z = map(float, client.camera.look_at)
    return x, y, z


def stand(client: viser.ClientHandle, position: tuple[float, float, float]) -> None:
    """Move a browser's camera; its target stays."""
    target = target_of(client)
    with client.atomic():
        client.camera.position = position
        client.camera.look_at = target


def look_from(client: viser.ClientHandle, azimuth: float, elevation: float) -> None:
    """Move a browser's camera around its target, at the same distance; angles in degrees."""
    if (pose := pose_of(client)) is None:
        return
    target, a, e = target_of(client), math.radians(azimuth), math.radians(elevation)
    far, way = math.dist(pose.position, target), (math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e))
    x, y, z = (p + far * w for p, w in zip(target, way))
    stand(client, (x, y, z))


def show(
    scene: viser.SceneApi, name: str, s: Snapshot, visible: bool = True, at: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> viser.GaussianSplatHandle:
    """Add splats to one page or to all; the handle takes later snapshots by `update`."""
    return scene.add_gaussian_splats(name, s.centers, s.covariances, s.rgbs, s.opacities, visible=visible, position=at)


def update(handle: viser.GaussianSplatHandle, s: Snapshot) -> None:
    """Replace the splats of a handle."""
    handle.set_gaussians(s.centers, s.covariances, s.rgbs, s.opacities)
