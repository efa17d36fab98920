"""Someone who looks on without a browser: speaks the page's own protocol, stands somewhere, clicks and types."""

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import viser
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

FRONT = ((0.5, -0.5, -0.5, 0.5), (2.8, 0.0, 0.0))
"""Pose of a camera on +x that looks at the origin with z up: right is +y, down -z, forward -x."""


class Looker:
    """Page, opened by the address that a terminal prints, open while the context lasts. Everything that comes is read and thrown away."""

    def __init__(self, address: str, height: int = 40, width: int = 60) -> None:
        self.url, self.size, self.bytes = address.replace("http://", "ws://"), (height, width), 0

    def __enter__(self) -> "Looker":
        self.socket = connect(self.url, subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None)  # type: ignore[list-item]
        self.stand(*FRONT)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self.reader.join()

    def _read(self) -> None:
        try:
            for message in self.socket:
                self.bytes += len(message)
        except ConnectionClosed:
            pass

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message to the server."""
        self.socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def stand(self, wxyz: tuple[float, ...], position: tuple[float, ...], fov: float = 0.75) -> None:
        """Move the camera."""
        height, width = self.size
        self.send(
            "ViewerCameraMessage", wxyz=wxyz, position=position, fov=fov, near=0.01, far=100.0, image_height=height,
            image_width=width, look_at=(0.0, 0.0, 0.0), up_direction=(0.0, 0.0, 1.0),
        )  # fmt: skip

    def set(self, handle: Any, value: Any) -> None:
        """Use a control."""
        self.send("GuiUpdateMessage", uuid=handle._impl.uuid, updates={"value": value})

    def click(self, handle: Any) -> None:
        """Press a button."""
        self.set(handle, True)


def browser_of(page: Any) -> Any:
    """Return the viewer's Browser of the one open page."""
    (browser,) = page.browsers.there.values()
    return browser


def until(condition: Callable[[], Any], do: Callable[[], object] = lambda: None, seconds: float = 120.0) -> None:
    """Wait for something, doing something meanwhile; an AssertionError if it never comes."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        do()
        time.sleep(0.01)
