"""The server behind a page: on this machine only, at the first free port."""

import contextlib
import getpass
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rich
import viser

from splatdistill_viewer.cameras import Pose
from splatdistill_viewer.snapshot import Snapshot

HOST = "127.0.0.1"
START = (2.6, -1.3, 1.2)  # where a browser first stands: before the object's front, a little to its right and above
FOV = 42.0  # degrees
PANEL, BRAND = 360, (178, 34, 52)  # pixels; red, green, blue
QUIET = threading.Lock()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """What viser says of itself by rich.print, from a thread of its own too, is not said. sys.stdout stays where it is:
    a run prints while a page opens or ends, and two threads that exchange it at once would leave it exchanged.
    """
    console = rich.get_console()
    with QUIET:
        before, console.quiet = console.quiet, True
        try:
            yield
        finally:
            console.quiet = before


def open_server(port: int = 8080, label: str | None = None) -> viser.ViserServer:
    """A server with our world: z up, looking at the front. A port that is taken moves on to the next."""
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")  # a page may go at any moment
    with quietly():  # it prints a box of its own
        server = viser.ViserServer(host=HOST, port=port, label=label, verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="large", brand_color=BRAND)
    lay_out(server)
    server.initial_camera.fov = np.radians(FOV)
    return server


def lay_out(server: viser.ViserServer) -> None:
    """An empty page: the controls beside the splats, not over them, and everybody before the object's front."""
    server.gui.reset()
    server.scene.reset()
    server.gui.main_panel.dock_right()
    server.gui.main_panel.set_width(PANEL)
    server.scene.set_up_direction("+z")
    for camera in (server.initial_camera, *(c.camera for c in server.get_clients().values())):
        camera.position, camera.look_at = START, (0.0, 0.0, 0.0)


def end(server: viser.ViserServer) -> None:
    """Close a server and its pages."""
    with quietly():
        server.stop()


def addresses(port: int) -> tuple[str, str]:
    """Where the page is on this machine, and the line to type on another one."""
    try:
        who = f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        who = f"USER@{socket.gethostname()}"
    return f"http://{HOST}:{port}", f"ssh -L {port}:{HOST}:{port} {who}"


def pose_of(client: viser.ClientHandle) -> Pose | None:
    """Where a browser looks from; None before it has said so."""
    c = client.camera
    try:
        return Pose(tuple(map(float, c.wxyz)), tuple(map(float, c.position)), float(c.fov), float(c.aspect), int(c.image_height))
    except AssertionError:  # viser's way of saying that nothing has come yet
        return None


def show(server: viser.ViserServer, name: str, s: Snapshot, visible: bool = True, at: tuple[float, float, float] = (0.0, 0.0, 0.0)):
    """Splats on a page; the handle takes later snapshots by `update`."""
    return server.scene.add_gaussian_splats(name, s.centers, s.covariances, s.rgbs, s.opacities, visible=visible, position=at)


def update(handle: viser.GaussianSplatHandle, s: Snapshot) -> None:
    """Other splats in place of those that a handle shows."""
    handle.set_gaussians(s.centers, s.covariances, s.rgbs, s.opacities)


class Guard:
    """Lets nothing but a person's wish to stop through: the first error of the viewer switches it off and is told once."""

    def __init__(self, report: Callable[[str], None], trace: Path | None = None) -> None:
        self.report, self.trace = report, trace
        self.off = False
        self.on_off: list[Callable[[], None]] = []

    def __call__(self, do: Callable[..., None], *args: object) -> None:
        """Call it, unless the viewer is off."""
        if self.off:
            return
        try:
            do(*args)
        except Exception as e:  # whatever it is, the run is not to suffer from it
            self.fail(e)

    def fail(self, e: Exception) -> None:
        """Switch the viewer off, once."""
        if self.off:
            return
        self.off = True
        with contextlib.suppress(Exception):
            where = ""
            if self.trace is not None:
                self.trace.write_text("".join(traceback.format_exception(e)))
                where = f" ({self.trace} has the traceback)"
            self.report(f"the viewer failed and is switched off; the run goes on: {type(e).__name__}: {e}{where}")
        for do in self.on_off:
            with contextlib.suppress(Exception):
                do()
