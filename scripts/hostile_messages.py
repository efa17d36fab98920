"""Hostile inputs for a page: messages of a browser, damaged; messages that no browser sends; requests that must not be let in.

`scripts/fuzz_page.py` sends them.
"""

import contextlib
import dataclasses
import random
import re
from copy import deepcopy
from typing import Any

import msgspec
import viser
from viser import _messages
from websockets.typing import Subprotocol

PROTOCOL = Subprotocol(f"viser-v{viser.__version__}")
CAMERA: dict[str, Any] = {
    "type": "ViewerCameraMessage", "wxyz": [0.5, -0.5, -0.5, 0.5], "position": [2.8, 0.0, 0.0], "fov": 0.733, "near": 0.01, "far": 1000.0,
    "image_height": 480, "image_width": 640, "look_at": [0.0, 0.0, 0.0], "up_direction": [0.0, 0.0, 1.0],
}  # fmt: skip
HARMLESS = (
    "render mode", "background", "light", "particle", "turntable", "training cameras", "view from", "splat scale", "min. opacity", "live",
    "format", "size, pixels", "transparent",
)  # fmt: skip
"""Controls of which any value that they take may be sent: the others' may rightly end a run."""
NUMBERS: list[Any] = [0, -1, 1, 2**31, 2**53, 2**63, -(2**63), 2**64 - 1, 0.0, -0.0, 1e-320, 1e30, 1e308, float("nan"), float("inf"), float("-inf")]
TEXTS: list[Any] = ["", "0", "999", "nan", "true", "\x1b[2J\x1b]0;PWNED\x07", "\u202e\u2028\x00", "<script>alert(1)</script>", "a" * 3000, "a" * 60_000, "\U0001f344" * 500]
THINGS: list[Any] = [None, True, False, [], {}, b"", b"\x00" * 1000, [[]] * 50, [None] * 3, [1.0, 2.0, 3.0], {"a": 1}, {"value": {"value": 1}}, list(range(5000))]


def nested(depth: int, kind: str) -> bytes:
    """Return msgpack of lists or maps in each other."""
    return (b"\x91" if kind == "list" else b"\x81\xa1a") * depth + b"\xc0"


class Hostile:
    """Maker of hostile inputs. controls: those of the page."""

    def __init__(self, rng: random.Random, controls: dict[str, dict[str, Any]]) -> None:
        self.rng, self.controls = rng, controls
        # what a browser sends for each control
        self.good = [CAMERA, *({"type": "GuiUpdateMessage", "uuid": u, "updates": {"value": c.get("value", True)}} for u, c in controls.items())]
        kinds = sorted(_messages.Message.get_subclasses(), key=lambda k: k.__name__)
        self.others = [{"type": k.__name__, **dict.fromkeys(k.__dataclass_fields__)} for k in kinds if dataclasses.is_dataclass(k)]  # type: ignore[attr-defined]

    def value(self) -> Any:
        """Return something that hardly fits."""
        return deepcopy(self.rng.choice(self.rng.choice([NUMBERS, TEXTS, THINGS, [self.rng.uniform(-10, 10), self.rng.randint(-1000, 1000)]])))

    def damaged(self, message: dict[str, Any]) -> dict[Any, Any]:
        """Return the message with one to three faults in its structure."""
        made = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
        for _ in range(self.rng.randint(1, 3)):
            place, keys = made, list(made)
            while keys:
                key = self.rng.choice(keys)
                if isinstance(place[key], (dict, list)) and place[key] and self.rng.random() < 0.6:
                    place = place[key]
                    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                    continue
                match self.rng.choice(["value", "value", "value", "drop", "more", "handle"]):
                    case "drop":
                        del place[key]
                    case "more" if isinstance(place, dict):
                        place[self.rng.choice(["update_cb", "removed", "uuid", "sync_cb", "props", "", "a" * 500, 7])] = self.value()
                    case "more" if isinstance(place, list):
                        place.append(self.value())
                    case "handle" if "uuid" in made:
                        made["uuid"] = self.rng.choice([*self.controls, "root", "nobody", "a" * 65, None, 3])
                    case _:
                        place[key] = self.value()
                break
        return made

    def message(self) -> tuple[str, bytes | str]:
        """Return the kind of a message, and its bytes."""
        kind = self.rng.choice(["structure"] * 6 + ["protocol", "bytes", "bytes", "nesting", "text", "long", "good"])
        message = self.rng.choice(self.good)
        match kind:
            case "structure":
                message = self.damaged(message)
            case "protocol":
                message = {k: v if k == "type" else self.value() for k, v in self.rng.choice(self.others).items()}
                if "uuid" in message or "source_component_uuid" in message:
                    message["uuid" if "uuid" in message else "source_component_uuid"] = self.rng.choice(list(self.controls))
            case "nesting":
                depth = self.rng.choice([10, 100, 5000, 60_000])
                body = nested(depth if self.rng.random() < 0.5 else depth // 3, self.rng.choice(["list", "map"]))
                return kind, body if self.rng.random() < 0.5 else b"\x82\xa4type\xb0GuiUpdateMessage\xa7updates" + body
            case "text":
                return kind, self.rng.choice(["", "hello", '{"type": "GuiUpdateMessage"}', "\x00\x1b[31m", "a" * 10_000])
            case "long":
                return kind, bytes(self.rng.choice([0, 1, 64 * 1024, 64 * 1024 + 1, 300_000]))
        if self.rightly_ends(message):
            return self.message()
        raw = msgspec.msgpack.encode(message)
        if kind == "bytes":
            for _ in range(self.rng.randint(1, 4)):
                at = self.rng.randrange(max(len(raw), 1))
                noise = self.rng.choice([b"\xff", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff", b"\xcb\x7f\xf8\0\0\0\0\0\0", self.rng.randbytes(4)])
                raw = self.rng.choice([raw[:at], raw[:at] + noise + raw[at + len(noise) :], raw[:at] + noise + raw[at:], raw[:at] + raw[at : at + 40] * 20 + raw[at:]])
            with contextlib.suppress(ValueError, RecursionError):  # msgspec's errors are ValueErrors
                now = msgspec.msgpack.decode(raw)
                if isinstance(now, dict) and self.rightly_ends(now):
                    return self.message()
        return kind, raw

    def rightly_ends(self, message: dict[Any, Any]) -> bool:
        """Return whether a person may send it and it may end the run: a value of the right kind for a control that steers."""
        if message.get("type") != "GuiUpdateMessage" or not isinstance(message.get("updates"), dict) or not isinstance(message.get("uuid"), str):
            return False
        control, value = self.controls.get(message["uuid"]), message["updates"].get("value")
        if control is None or control["props"].get("label") in HARMLESS:
            return False
        if control["type"] == "GuiButtonGroupMessage":
            return value == "Stop"
        if control["type"] == "GuiButtonMessage":
            return control["props"]["label"] in ("Prune now", "Densify now", "Export", "Film of the run (replay.html)", "Refine this one")
        if control["type"] == "GuiTextMessage":  # a number or none, or a prompt that nobody takes over without its button
            return isinstance(value, str) and re.fullmatch(r"\s*[-+.\de_]*\s*", value) is not None
        return type(value) is type(control.get("value")) or (isinstance(value, (int, float)) and isinstance(control.get("value"), (int, float)))

    def request(self, address: str) -> tuple[str, bytes]:
        """Return a request that must not be let in, or is no request at all."""
        name, _, query = address.removeprefix("http://").partition("/")
        token = query.removeprefix("?token=")
        path, host, origin, more = f"/{query}", name, f"http://{name}", ""
        match self.rng.choice(["path", "host", "origin", "version", "cookie", "noise", "many"]):
            case "path":
                path = self.rng.choice(["/", "/?token=", f"/?token={token[:-1]}", "/?token=%00", f"/?token={token}&websocket=ws://evil.example", "/" + "a" * 9000, f"//{token}"])
            case "host":
                host = self.rng.choice(["evil.example", "", f"{name}.evil.example", "127.0.0.1", "[::1", f"{name}\r\nHost: evil.example"])
            case "origin":
                origin = self.rng.choice(["null", "http://evil.example", f"http://{name}.evil.example", "http://127.0.0.1:1", "file://", f"{origin}\r\nOrigin: {origin}"])
            case "version":
                more = f"Sec-WebSocket-Protocol: {self.rng.choice(['viser-v0.0', 'viser-v', 'x', PROTOCOL + ', y', '[red]'])}\r\n"
            case "cookie":
                path, more = "/", f"Cookie: {self.rng.choice(['splatdistill-1=x', ';;;=', 'a' * 3000, f'splatdistill-{name[-4:]}={token[::-1]}'])}\r\n"
            case "many":
                more = "X-A: b\r\n" * 500
            case _:
                return "noise", self.rng.choice([b"\x00" * 300, b"\x16\x03\x01\x02\x00", self.rng.randbytes(200), b"GET / HTTP/1.1\r\nHost", b"POST / HTTP/1.1\r\n\r\n", b"\r\n" * 99])
        lines = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}"
        return "request", f"{lines}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
