"""Controls made from configuration classes: every field that a person may change is a control, and a change is a Command."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import viser

from splatdistill.settings.documentation import documentation
from splatdistill.train.commands import SetField, Value
from splatdistill_viewer.messages import NUMBER

SETTLE = 0.4  # seconds that a control must rest: 1, 12 and 12.5 are one change to 12.5


class Pending:
    """Values that a person is still changing; each becomes one command once it has not changed for `settle` seconds."""

    def __init__(self, put: Callable[[Any], None], clock: Callable[[], float] = time.monotonic, settle: float = SETTLE) -> None:
        self.put, self.clock, self.settle = put, clock, settle
        self.changes: dict[str, tuple[Value | None, float]] = {}
        self.lock = threading.Lock()

    def change(self, path: str, value: Value | None) -> None:
        """Record a new value of a control."""
        with self.lock:
            self.changes.pop(path, None)
            self.changes[path] = value, self.clock()

    def flush(self) -> None:
        """Put a command for each value that has not changed for `settle` seconds."""
        if not self.changes:
            return
        now = self.clock()
        with self.lock:
            rested = {path: value for path, (value, when) in self.changes.items() if now - when >= self.settle}
            for path in rested:
                del self.changes[path]
        for path, value in rested.items():
            self.put(SetField(path, value))


def add_fields(
    gui: viser.GuiApi, part: Any, path: str, pending: Pending, only: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Add a control for each field of a dataclass, keyed by its dotted path; nested dataclasses become folders. Fields that
    are no single value are left out.
    """
    handles: dict[str, Any] = {}
    hints = get_type_hints(type(part))
    docs = documentation(type(part))
    for f in fields(part):
        value, here = getattr(part, f.name), f"{path}.{f.name}" if path else f.name
        if f.name in without or (only and f.name not in only):
            continue
        if is_dataclass(value):
            with gui.add_folder(f.name, expand_by_default=False):
                handles |= add_fields(gui, value, here, pending)
            continue
        if (handle := control(gui, f.name.replace("_", " "), value, hints[f.name], docs.get(f.name))) is None:
            continue
        follow(handle, here, read_optional if optional(hints[f.name]) else type(value), pending)
        handles[here] = handle
    return handles


def control(gui: viser.GuiApi, label: str, value: Any, hint: Any, doc: str | None) -> Any:
    """Add a control for one value; None for a type that has no control."""
    if get_origin(hint) is Literal:
        return gui.add_dropdown(label, tuple(map(str, get_args(hint))), initial_value=str(value), hint=doc)
    if optional(hint):
        return gui.add_text(label, shown("", value), hint=f"{doc or ''} Empty: none.".strip())
    match value:
        case bool():
            return gui.add_checkbox(label, value, hint=doc)
        case int():
            return gui.add_number(label, value, step=1, hint=doc)
        case float() if math.isfinite(value):
            return gui.add_number(label, value, step=fine(value), hint=doc)
        case str():
            return gui.add_text(label, value, hint=doc)
    return None


def optional(hint: Any) -> bool:
    """Return whether a field is an optional number."""
    return hint in (int | None, float | None)


def read_optional(text: str) -> Value | None:
    """Return the number that was typed, None for an empty text; any other text unchanged, for the run to refuse."""
    try:
        number = float(text)
    except ValueError:
        return text.strip() or None
    if not abs(number) <= NUMBER:
        return text.strip()
    return int(number) if number.is_integer() else number


def shown(now: Any, value: Value | None) -> Any:
    """Return a value in the type of the control that shows `now`."""
    return value if not isinstance(now, str) else "" if value is None else str(value)


def follow(handle: Any, path: str, read: Callable[[Any], Value | None], pending: Pending) -> None:
    """Add a person's changes of a control to the pending ones; changes made by the program are ignored."""

    @handle.on_update
    def _(event: viser.GuiEvent) -> None:
        if event.client is not None:
            pending.change(path, read(event.target.value))


def fine(value: float) -> float:
    """Return the step of a number's control: at most a hundredth of the number, a power of ten."""
    return 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 0.001
