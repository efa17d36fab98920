"""The browsers that look on: each has its own camera, its own look, its own splats, and the exact picture that it asks for."""

import gc
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import viser

from splatdistill.cameras import Cameras
from splatdistill.io.text import printable
from splatdistill_viewer.cameras import Frustum, Pose, in_the_way, turntable
from splatdistill_viewer.display import Display
from splatdistill_viewer.guard import Guard
from splatdistill_viewer.lighting import backdrop_image
from splatdistill_viewer.prior_panel import PriorPanel
from splatdistill_viewer.server import BRAND
from splatdistill_viewer.snapshot import Snapshot
from splatdistill_viewer.splats import pose_of, stand, target_of, update
from splatdistill_viewer.tiles import ObjectRow

STILL = 0.3  # seconds without a move after which a camera stands
UNANSWERED = 5.0  # seconds after which a browser that has not said so is taken to have decoded its first exact picture
TURN = 30.0  # degrees a second
GONE = 8  # pages that have gone, a quarter of a MiB each in circles of references, which Python beside a model hardly ever looks for
NARROWEST = 0.4  # width over height, below which a camera steps no farther back


@dataclass(frozen=True)
class ExactPicture:
    """Exact picture for one browser."""

    who: int
    what: Any  # what it shows, to be compared with what is wanted
    image: np.ndarray


@dataclass(frozen=True)
class Crop:
    """Crop box as a page draws it, under the node of its object."""

    name: str
    middle: tuple[float, float, float]
    sides: tuple[float, float, float]


@dataclass
class Browser:
    """Open page: its controls, and the objects it shows."""

    client: viser.ClientHandle
    display: Display
    row: ObjectRow  # the splats of its own, one object or several
    moved: float = 0.0
    has: Any = None  # what its exact picture shows
    shown: list[Any] = field(default_factory=list)  # what each object of its own is
    begun: bool = False  # whether its camera has been where all begin
    came: float = 0.0  # when the first exact picture did
    behind: Any = None  # the background of its splats
    cameras: list[Any] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    panel: PriorPanel | None = None

    def wants(self, key: Any, tall: int, moving: int) -> tuple[Cameras, Any] | None:
        """Return the cameras and the key of the exact picture that this browser lacks; None where it has it already.

        tall: most pixels of height; moving: divisor of the height while the camera moves.
        """
        if (pose := pose_of(self.client)) is None:
            return None
        height = min(max(pose.height, 16), tall)
        if time.monotonic() - self.moved < STILL:
            height = max(16, height // moving)
        what = key, pose, height
        return None if what == self.has else (pose.cameras(height), what)

    def draw(self, view: ExactPicture) -> None:
        """Show an exact picture behind the splats; `settle` hides the splats once the browser says that it has decoded it."""
        if self.has is None:
            self.came, self.display.decoded = time.monotonic(), False
        self.client.scene.set_background_image(view.image, format="jpeg", jpeg_quality=90)
        self.has, self.shown, self.behind = view.what, [], None

    def settle(self) -> None:
        """Hide the splats once the browser has decoded an exact picture: before that it would show neither."""
        if self.has is None or not (self.display.decoded or time.monotonic() - self.came > UNANSWERED):
            return
        for handle in (*self.row.handles, self.display.preparing):
            if handle.visible:
                handle.visible = False

    def draw_splats(self, splats: dict[int, Snapshot]) -> None:
        """Show splats, keyed by the object's index, before the background of this browser."""
        with self.client.atomic():
            for k, s in splats.items():
                update(self.row.handles[k], s)
            self.uncover()

    def uncover(self) -> None:
        """Show this browser's splats again, before its background, in place of an exact picture."""
        self.has = None
        for handle in self.row.handles:
            if not handle.visible:
                handle.visible = True
        background = self.display.background
        if background != self.behind:
            self.client.scene.set_background_image(backdrop_image(background), format="png")
            self.behind = background

    def draw_cameras(self, cameras: Sequence[Frustum]) -> None:
        """Draw the frustums of the last batch's cameras, except those between this browser's camera and the object."""
        wanted = cameras if self.display.frustums.value else ()
        while len(self.cameras) > len(wanted):
            self.cameras.pop().remove()
        if not wanted or (pose := pose_of(self.client)) is None:
            return
        for i, c in enumerate(wanted):
            if i == len(self.cameras):
                add = self.client.scene.add_camera_frustum
                self.cameras.append(add(f"/cameras/{i}", c.fov, c.aspect, scale=0.15, thickness=0.006, color=(134, 142, 150)))
            handle, seen = self.cameras[i], not in_the_way(c.position, pose, target_of(self.client))
            if handle.visible != seen:
                handle.visible = seen
            if not np.array_equal(handle.position, c.position):
                handle.wxyz, handle.position, handle.fov = c.wxyz, c.position, c.fov

    def draw_boxes(self, crops: Sequence[Crop]) -> None:
        """Replace the crop boxes on the page."""
        while self.boxes:
            self.boxes.pop().remove()
        for c in crops:
            add = self.client.scene.add_box
            self.boxes.append(add(c.name, dimensions=c.sides, color=BRAND, wireframe=True, position=c.middle))

    def turn(self, degrees: float) -> None:
        """Rotate this browser's camera about the vertical axis through its target, in degrees."""
        if (pose := pose_of(self.client)) is not None:
            stand(self.client, turntable(pose, degrees, target_of(self.client)))

    def step_back(self, first: np.ndarray) -> None:
        """Move the initial camera of a narrow window back, once, until the width of the view equals that of a square window.

        first: the initial position (3,).
        """
        camera = self.client.camera
        if self.begun or not np.allclose(camera.position, first, atol=0.1):
            return
        self.begun = True
        if camera.aspect < 1:
            x, y, z = map(float, first / max(camera.aspect, NARROWEST))
            stand(self.client, (x, y, z))

    def azimuth(self) -> float | None:
        """Return the azimuth of this browser's camera about its target, in radians; None from straight above."""
        if pose_of(self.client) is None:
            return None
        x, y, _ = np.subtract(self.client.camera.position, target_of(self.client))
        return math.atan2(y, x) if math.hypot(x, y) > 1e-3 else None

    def leave(self) -> None:
        """Remove everything that this browser added to its page, so that another viewer can use it."""
        for handle in (*self.row.handles, *self.cameras):
            handle.remove()
        self.client.scene.set_background_image(None)
        if self.panel is not None:
            self.panel.remove()
        self.cameras = []


def note(client: viser.ClientHandle, title: str, text: str) -> None:
    """Show a notification on one page; it closes after 8 seconds plus a second for every 20 characters."""
    client.add_notification(title, printable(" ".join(text.split("\n"))), auto_close_seconds=8.0 + len(text) / 20)


class Browsers:
    """All open pages; closed ones are removed.

    furnish: adds controls and splats to a new page. It runs on viser's thread of that page, not on the thread that renders.
    """

    def __init__(self, server: viser.ViserServer, guard: Guard, furnish: Callable[[viser.ClientHandle], Browser]) -> None:
        self.there: dict[int, Browser] = {}
        self.turned, self.next, self.gone = time.monotonic(), 0, 0
        self.guard, self.lock, self.furnishing = guard, threading.Lock(), threading.Lock()
        self.server, self.furnish, self.ended = server, furnish, False
        server.on_client_connect(lambda client: guard(self.come, client))
        server.on_client_disconnect(lambda client: guard(self.go, client))

    @property
    def any(self) -> bool:
        """Return whether any page is open."""
        return bool(self.there)

    def come(self, client: viser.ClientHandle) -> None:
        """Add controls and splats to a page that has just opened."""
        with self.furnishing:  # a folder of the page can be filled by one thread at a time
            if self.ended:
                return
            try:
                browser = self.furnish(client)
            except Exception:
                if self.here(client):
                    raise
                return  # it went meanwhile, and viser took the folders away that were being filled
        with self.lock:
            self.there[client.client_id] = browser
            if not self.here(client):  # `go` may have been called before
                del self.there[client.client_id]
                return
        client.camera.on_update(lambda _: self.move(client.client_id))
        self.move(client.client_id)

    def here(self, client: viser.ClientHandle) -> bool:
        """Return whether a page is still connected; viser forgets one that goes before it takes its controls away."""
        return client.client_id in self.server.get_clients()

    def go(self, client: viser.ClientHandle) -> None:
        """Remove a page that was closed."""
        with self.lock:
            self.there.pop(client.client_id, None)
            self.gone += 1
            collect = self.gone % GONE == 0
        if collect:
            gc.collect()

    def end(self) -> None:
        """Remove everything from all pages, so that another viewer can use them."""
        with self.furnishing:
            self.ended = True
        for b in self.all():
            b.leave()
        with self.lock:
            self.there.clear()

    def move(self, who: int) -> None:
        """Record that a page's camera moved."""
        if (browser := self.there.get(who)) is not None:
            browser.moved = time.monotonic()
            browser.step_back(np.asarray(self.server.initial_camera.position))

    def all(self) -> list[Browser]:
        """Return the open pages, starting with another one at each call."""
        with self.lock:
            found = list(self.there.values())
        self.next += 1
        k = self.next % len(found) if found else 0
        return found[k:] + found[:k]

    def draw(self, views: list[ExactPicture]) -> None:
        """Show exact pictures, each in its own browser, if that one still wants one."""
        for v in views:
            if (b := self.there.get(v.who)) is not None and b.display.exact is not None:
                b.draw(v)

    def move_on(self) -> None:
        """Advance the turntables, and hide splats that an exact picture replaces."""
        now = time.monotonic()
        degrees, self.turned = TURN * min(now - self.turned, 0.5), now
        for b in self.all():
            b.settle()
            if b.display.turntable.value:
                b.turn(degrees)

    def pose(self, who: int | None) -> Pose | None:
        """Return the camera pose of one browser; None where it is not open or has not sent one."""
        b = self.there.get(-1 if who is None else who)
        return None if b is None else pose_of(b.client)

    def tell(self, title: str, text: str) -> None:
        """Show a notification on every page."""
        for b in self.all():
            note(b.client, title, text)

    def send(self, who: int | None, name: str, content: bytes) -> None:
        """Send a file to one browser, which saves it."""
        if (b := self.there.get(-1 if who is None else who)) is not None:
            b.client.send_file_download(printable(name), content, save_immediately=True)
