"""The browsers that look on: their cameras, and the exact picture that each has."""

import gc
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import viser

from splatdistill.cameras import Cameras
from splatdistill.io.text import printable
from splatdistill_viewer.cameras import Pose, turntable
from splatdistill_viewer.guard import Guard
from splatdistill_viewer.splats import pose_of

STILL = 0.3  # seconds without a move after which a camera stands
TURN = 30.0  # degrees a second
GONE = 8  # pages that have gone, a quarter of a MiB each in circles of references, which Python beside a model hardly ever looks for


@dataclass(frozen=True)
class View:
    """An exact picture for one browser."""

    who: int
    what: Any  # what it shows, to be compared with what is wanted
    image: np.ndarray


@dataclass
class Browser:
    """One page that is open."""

    client: viser.ClientHandle
    moved: float = 0.0
    has: Any = None  # what its picture shows


def note(client: viser.ClientHandle, title: str, text: str) -> None:
    """Show a note in one page that goes away by itself, later if there is more to read."""
    client.add_notification(title, printable(text), auto_close_seconds=8.0 + len(text) / 20)


class Browsers:
    """All pages that are open. Those that have gone are forgotten."""

    def __init__(self, server: viser.ViserServer, guard: Guard) -> None:
        self.there: dict[int, Browser] = {}
        self.ever, self.turned, self.next, self.gone = False, time.monotonic(), 0, 0
        self.guard, self.lock = guard, threading.Lock()
        server.on_client_connect(lambda client: guard(self.come, client))
        server.on_client_disconnect(lambda client: guard(self.go, client))

    @property
    def any(self) -> bool:
        """Return whether someone looks on."""
        return bool(self.there)

    def come(self, client: viser.ClientHandle) -> None:
        """Take note of a page that was opened."""
        self.ever = True
        with self.lock:
            self.there[client.client_id] = Browser(client)
        client.camera.on_update(lambda _: self.move(client.client_id))

    def go(self, client: viser.ClientHandle) -> None:
        """Forget a page that was closed."""
        with self.lock:
            self.there.pop(client.client_id, None)
            self.gone += 1
            collect = self.gone % GONE == 0
        if collect:
            gc.collect()

    def move(self, who: int) -> None:
        """Take note of a camera that moved."""
        if (browser := self.there.get(who)) is not None:
            browser.moved = time.monotonic()

    def all(self) -> list[Browser]:
        """Return those that are there now, beginning with another one each time."""
        with self.lock:
            found = list(self.there.values())
        self.next += 1
        k = self.next % len(found) if found else 0
        return found[k:] + found[:k]

    def wanting(self, key: Any, tall: int, moving: int) -> Iterator[tuple[int, Cameras, Any]]:
        """Yield who lacks a picture of this: the browser, its camera on the right grid of pixels, what the picture will show."""
        for b in self.all():
            if (pose := pose_of(b.client)) is None:
                continue
            height = min(max(pose.height, 16), tall)
            if time.monotonic() - b.moved < STILL:
                height = max(16, height // moving)
            what = key, pose, height
            if what != b.has:
                yield b.client.client_id, pose.cameras(height), what

    def draw(self, views: list[View]) -> None:
        """Draw pictures behind everything, each in its own browser."""
        for v in views:
            if (b := self.there.get(v.who)) is not None:
                b.client.scene.set_background_image(v.image, format="jpeg", jpeg_quality=90)
                b.has = v.what

    def clear(self) -> None:
        """Take the pictures away."""
        for b in self.all():
            b.client.scene.set_background_image(None)
            b.has = None

    def turn(self) -> None:
        """Move all cameras around what they look at, by the clock."""
        now = time.monotonic()
        degrees, self.turned = TURN * min(now - self.turned, 0.5), now
        for b in self.all():
            if (pose := pose_of(b.client)) is not None:
                x, y, z = map(float, b.client.camera.look_at)
                with b.client.atomic():
                    b.client.camera.position = turntable(pose, degrees, (x, y, z))
                    b.client.camera.look_at = (x, y, z)

    def pose(self, who: int | None) -> Pose | None:
        """Return where one browser looks from."""
        b = self.there.get(-1 if who is None else who)
        return None if b is None else pose_of(b.client)

    def azimuth(self) -> float | None:
        """Return from which side the camera that moved last looks at its target, in radians; None without one, and from straight above."""
        last = max(self.all(), key=lambda b: b.moved, default=None)
        if last is None or pose_of(last.client) is None:
            return None
        x, y, _ = np.subtract(last.client.camera.position, last.client.camera.look_at)
        return math.atan2(y, x) if math.hypot(x, y) > 1e-3 else None

    def tell(self, title: str, text: str) -> None:
        """Show a note that goes away by itself on every page."""
        for b in self.all():
            note(b.client, title, text)

    def send(self, who: int | None, name: str, content: bytes) -> None:
        """Give one browser a file to save."""
        if (b := self.there.get(-1 if who is None else who)) is not None:
            b.client.send_file_download(printable(name), content, save_immediately=True)
