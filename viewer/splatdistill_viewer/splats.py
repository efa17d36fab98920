"""Splats on a page, and where a browser looks at them from."""

import viser

from splatdistill_viewer.cameras import Pose
from splatdistill_viewer.snapshot import Snapshot

WIDEST = 8.0  # width over height of an exact picture: a window may be a strip


def pose_of(client: viser.ClientHandle) -> Pose | None:
    """Return where a browser looks from; None before it has said so."""
    c = client.camera
    try:
        w, x, y, z = map(float, c.wxyz)
        px, py, pz = map(float, c.position)
        return Pose((w, x, y, z), (px, py, pz), float(c.fov), min(max(float(c.aspect), 1 / WIDEST), WIDEST), int(c.image_height))
    except AssertionError:  # viser's way of saying that nothing has come yet
        return None


def show(
    server: viser.ViserServer, name: str, s: Snapshot, visible: bool = True, at: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> viser.GaussianSplatHandle:
    """Put splats on a page; the handle takes later snapshots by `update`."""
    return server.scene.add_gaussian_splats(name, s.centers, s.covariances, s.rgbs, s.opacities, visible=visible, position=at)


def update(handle: viser.GaussianSplatHandle, s: Snapshot) -> None:
    """Put other splats in place of those that a handle shows."""
    handle.set_gaussians(s.centers, s.covariances, s.rgbs, s.opacities)
