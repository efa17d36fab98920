"""Checks of what a page says: where its camera stands, the new value of a control, a command. Everything else is dropped.

viser, which serves the page, takes any message of its protocol from it: uploads of any size, values of any type for any
attribute of a control, a request to share the page with the internet. So each message is read here first, by msgspec into
one of three forms, its value is compared with what the control can hold, and what viser sees is written anew from what was
read. https://viser.studio (viser 1.1) has the protocol: msgpack maps with a "type".
"""

import math
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
import viser
from msgspec import Meta

LONGEST = 64 * 1024  # bytes of a message
TEXT = 2000  # characters of a text
NUMBER = 1e9  # the greatest that is typed where a control has no bounds of its own
FAR = 1e6  # world units, the farthest that a camera stands
PIXELS = 16384  # of a window's side

Vector = tuple[float, float, float]
Side = Annotated[int, Meta(ge=1, le=PIXELS)]


class CameraMessage(msgspec.Struct, tag_field="type", tag="ViewerCameraMessage", forbid_unknown_fields=True):
    """Pose of a page's camera, camera to world, OpenCV axes; world units and radians."""

    wxyz: tuple[float, float, float, float]
    position: Vector
    fov: Annotated[float, Meta(ge=0.01, le=3.1)]
    near: float
    far: float
    image_height: Side
    image_width: Side
    look_at: Vector
    up_direction: Vector

    def sound(self) -> bool:
        """Return whether the pose is valid: finite, a unit quaternion, and a target apart from the position."""
        numbers = (*self.wxyz, *self.position, *self.look_at, *self.up_direction, self.near, self.far)
        if not all(math.isfinite(v) and abs(v) <= FAR for v in numbers):
            return False
        return (
            abs(math.hypot(*self.wxyz) - 1) < 1e-2
            and math.dist(self.position, self.look_at) > 1e-6
            and math.hypot(*self.up_direction) > 1e-6
        )


class Value(msgspec.Struct, forbid_unknown_fields=True):
    """Attribute of a control that a page changes."""

    value: bool | int | float | Annotated[str, Meta(max_length=TEXT)] | Annotated[list[float], Meta(max_length=3)]


class Update(msgspec.Struct, tag_field="type", tag="GuiUpdateMessage", forbid_unknown_fields=True):
    """Message of a control that was used."""

    uuid: Annotated[str, Meta(max_length=64)]
    updates: Value


class Trigger(msgspec.Struct, tag_field="type", tag="CommandTriggerMessage", forbid_unknown_fields=True):
    """Message of a command that was triggered from the palette or by its key."""

    uuid: Annotated[str, Meta(max_length=64)]


READ = msgspec.msgpack.Decoder(CameraMessage | Update | Trigger)
WRITE = msgspec.msgpack.Encoder()


def checked(raw: bytes | str, guis: Iterable[viser.GuiApi], stands: bool) -> CameraMessage | Update | Trigger | None:
    """Return the checked part of a page's message; None for any other message.

    guis: interfaces that hold the page's controls and commands. stands: whether the page has sent its camera, which a real
    page does first.
    """
    if isinstance(raw, str):
        return None
    try:
        said = READ.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return None
    if isinstance(said, CameraMessage):
        return said if said.sound() else None
    if not stands:
        return None
    if isinstance(said, Trigger):
        command = next((c for gui in guis if (c := gui._command_handle_from_uuid.get(said.uuid)) is not None), None)
        return None if command is None or command.disabled else said
    handle = next((h for gui in guis if (h := gui._gui_input_handle_from_uuid.get(said.uuid)) is not None), None)
    value = None if handle is None or getattr(handle, "disabled", True) else fitting(handle, said.updates.value)
    return None if value is None else Update(said.uuid, Value(value))


def fitting(handle: Any, value: Any) -> Any:
    """Return a value in the type of its control; None for one that the control cannot hold."""
    match handle:
        case viser.GuiButtonHandle():
            return True if value is True else None
        case viser.GuiCheckboxHandle():
            return value if isinstance(value, bool) else None
        case viser.GuiButtonGroupHandle() | viser.GuiDropdownHandle():
            return value if isinstance(value, str) and value in handle.options else None
        case viser.GuiTextHandle():
            return one_line(value) if isinstance(value, str) else None
        case viser.GuiSliderHandle() | viser.GuiNumberHandle():
            return number(value, handle.min, handle.max, whole=isinstance(handle.value, int))
        case viser.GuiVector3Handle():
            least, most = handle.min or (None,) * 3, handle.max or (None,) * 3
            given = value if isinstance(value, list) and len(value) == 3 else [None] * 3
            numbers = [number(v, low, high) for v, low, high in zip(given, least, most, strict=True)]
            return None if None in numbers else numbers
    return None  # a control of a kind that our pages do not have


def number(value: Any, least: float | None, most: float | None, whole: bool = False) -> float | int | None:
    """Return a number within bounds, an integer where asked; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    slack = 1e-9 * max(1.0, abs(value))  # a browser adds steps up
    low, high = -NUMBER if least is None else least, NUMBER if most is None else most
    if not low - slack <= value <= high + slack or (whole and value != int(value)):
        return None
    return int(value) if whole else min(max(float(value), float(low)), float(high))


def one_line(text: str) -> str:
    """Return a text without control characters, for a text box of one line."""
    return "".join(c if c >= " " and not "\x7f" <= c <= "\x9f" else " " for c in text)
