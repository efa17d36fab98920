"""Visitor of a page, and what must hold of the page whatever is sent to it by others: for scripts/fuzz_page.py."""

import contextlib
import dataclasses
import random
import re
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import zstandard
from hostile_messages import CAMERA, PROTOCOL
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

PATIENCE = 120.0  # seconds for an answer on a busy machine
MORE = 400  # MiB that a process may grow by


class Failed(Exception):
    """Error for a page, run or terminal in a wrong state."""


def decoded(raw: bytes) -> list[dict[str, Any]]:
    """Return the messages of one frame of the server."""
    whole, packed = struct.unpack("<QQ", raw[:16])
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(raw[16 : 16 + packed], max_output_size=whole))["messages"]


class Visitor:
    """Well-behaved browser that reads everything and records controls and step. A context."""

    def __init__(self, address: str) -> None:
        self.controls: dict[str, dict[str, Any]] = {}
        self.values: dict[str, Any] = {}
        self.step = -1
        self.socket = connect(address.replace("http", "ws", 1), subprotocols=[PROTOCOL], max_size=None, compression=None, open_timeout=PATIENCE)
        self.socket.send(msgspec.msgpack.encode(CAMERA))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self.reader.join(10)

    def read(self) -> None:
        """Record messages until the connection ends."""
        with contextlib.suppress(WebSocketException):
            for raw in self.socket:
                assert isinstance(raw, bytes)
                for message in decoded(raw):
                    self.note(message)

    def note(self, message: dict[str, Any]) -> None:
        """Record a control, a value, or the step of a message."""
        if message["type"].startswith("Gui") and "props" in message:
            self.controls[message["uuid"]] = message
        elif message["type"] == "GuiUpdateMessage":
            self.values[message["uuid"]] = message["updates"].get("value")
        elif message["type"] == "GuiRemoveMessage":
            self.controls.pop(message["uuid"], None)
        changed = message.get("updates") or message.get("props") or {}
        said = changed.get("content") or changed.get("_markdown")  # of HTML, of Markdown
        if isinstance(said, str) and (found := re.search(r"step (\d+) of", said)):
            self.step = int(found[1])

    def find(self, label: str) -> str:
        """Return the uuid of the control with this label."""
        until(lambda: any(c["props"].get("label") == label for c in list(self.controls.values())), f"the control {label!r}")
        return next(u for u, c in list(self.controls.items()) if c["props"].get("label") == label)

    def set(self, uuid: str, value: Any) -> None:
        """Use a control."""
        self.socket.send(msgspec.msgpack.encode({"type": "GuiUpdateMessage", "uuid": uuid, "updates": {"value": value}}))


def until(condition: Callable[[], Any], what: str, do: Callable[[], object] = lambda: None) -> None:
    """Wait for something, doing something meanwhile; Failed if it does not come."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"waited {PATIENCE:.0f} s for {what}")
        do()
        time.sleep(0.02)


@dataclasses.dataclass
class Target:
    """Page under test. memory: bytes of its process; terminal: what was printed; button: the label of one of its buttons, the
    last to come; runs: whether it shows a run, which must go on; shared: the label of a control that all browsers show alike,
    a number or a text.
    """

    address: str
    memory: Callable[[], int]
    terminal: Callable[[], str]
    button: str = "Save a checkpoint"
    runs: bool = True
    shared: str = "prune below opacity"
    steps: int = 0  # that the run had done at the last look
    least: int = 0

    def look(self) -> None:
        """Raise Failed unless the page answers, the run goes on, memory is bounded and the terminal is clean."""
        try:
            self.use()
        except OSError as error:
            raise Failed(f"the page is gone ({error}); the terminal ends with: {self.terminal()[-2000:]}") from error
        said = self.terminal()
        if found := re.search(r"Traceback|\(viser\)|[Ee]xception|viewer failed|never retrieved|[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", said):
            raise Failed(f"in the terminal: {said[max(0, found.start() - 500) : found.end() + 1500]}")
        memory = self.memory()
        self.least = self.least or memory
        if memory > self.least + MORE * 2**20:
            raise Failed(f"memory grew from {self.least / 2**20:.0f} to {memory / 2**20:.0f} MiB")

    def use(self) -> None:
        """Use the page as two visitors would: a value set by one is seen by the other, and the run makes a step."""
        with Visitor(self.address) as one, Visitor(self.address) as other:
            shared, number = one.find(self.shared), round(random.uniform(0.05, 0.45), 2)
            text = isinstance(one.controls[shared].get("value"), str)
            value = f"a teapot and {number} of a mug" if text else number
            other.find(self.shared)
            until(lambda: other.values.get(shared) == value, "an answer of the page", lambda: (one.set(shared, value), time.sleep(0.3)))
            if self.runs:
                group = one.find("run")
                one.set(group, "Continue")
                until(lambda: other.step >= 0, "the step in the page")
                before = other.step
                until(lambda: other.step > before, "a step of the run", lambda: (one.set(group, "Continue"), time.sleep(0.3)))
                self.steps = other.step
            one.set(shared, "" if text else 0.0)
