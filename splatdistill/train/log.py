"""The log of a run, one JSON object a line: read back, and the commands that it holds. Importing this loads no torch."""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from splatdistill.errors import UserError, reason
from splatdistill.renamed import GONE, path_now
from splatdistill.train.commands import Choose, Command, Continue, Densify, Once, Pause, Prune, Save, SetField, Stop, Value

Line = dict[str, Any]
COMMANDS: dict[str, type] = {k.__name__: k for k in (Stop, Save, SetField, Choose, Densify, Prune, Pause, Continue, Once)}
SKIPPED = (Save, Pause, Continue, Once)  # they change nothing that a step sees
NEEDED: dict[str, dict[str, type]] = {
    "StepDone": {"step": int},
    "AmortisedStep": {"step": int},
    "Saved": {"step": int},
    "Applied": {"step": int, "command": dict},
    "Refused": {"step": int, "command": dict},
    "Resumed": {"step": int},
    "PhaseBegun": {"step": int, "phase": str},
    "Ended": {"step": int, "how": str},
}
"""Events by name, with the fields that each must have."""
MAY: dict[str, type] = {"steps": int, "refused": int, "timing": dict, "calls": int, "peak_memory": int}
"""Fields that are read where they are; versions differ in them."""
NO_EVENT = (ValueError, KeyError, TypeError, RecursionError, OverflowError)
"""Errors that `event_of` raises for a line that is no event."""


@dataclass(frozen=True)
class Given:
    """Command, and the attempted step (taken or refused, from 0) before which it took effect."""

    attempt: int
    command: Command


def read_log(path: Path) -> list[Line]:
    """Return the events of a log. A last line that was cut off is left out; UserError for any other that is none, by its number."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as e:
        raise UserError(f"could not read {path}: {reason(e)}; expected the log.jsonl of a run") from e
    events = []
    for k, line in enumerate(lines):
        last = k == len(lines) - 1
        if last and not line:
            break
        try:
            events.append(event_of(line))
        except NO_EVENT as e:
            if last:
                break
            shown = line[:60].decode("utf-8", "backslashreplace")
            raise UserError(f"line {k + 1} of {path} is not what a run writes ({reason(e)}): {shown!r}; if it was added by hand or by another program, take that line out, and try again") from None
    return events


def mend(path: Path) -> None:
    """Remove a last line that was cut off, and end one that lacks only its end, so that another can follow."""
    if not path.is_file():
        return
    data = path.read_bytes()
    last = data.rpartition(b"\n")[2]
    if not last:
        return
    try:
        event_of(last)
        whole = True
    except NO_EVENT:
        whole = False
    try:
        with path.open("r+b") as log:
            if whole:
                log.seek(0, 2)
                log.write(b"\n")
            else:
                log.truncate(len(data) - len(last))
    except OSError as e:
        raise UserError(f"could not mend the last line of {path}: {reason(e)}") from e


def event_of(line: bytes) -> Line:
    """Return a line as an event; ValueError for anything else."""
    event = json.loads(line.decode("utf-8"))
    if not isinstance(event, dict) or event.get("event") not in NEEDED:
        raise ValueError("no event")
    for name, kind in {**NEEDED[event["event"]], **{k: v for k, v in MAY.items() if k in event}}.items():
        value = event.get(name)
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise ValueError(f"no {name}")
    if "command" in event:
        command_of(event["command"])
    if not all(type(v) in (int, float) and math.isfinite(v) for v in event.get("timing", {}).values()):
        raise ValueError("costs that are no numbers")
    return event


def command_of(plain: dict[str, Any]) -> Command:
    """Return the command that a log wrote; ValueError for anything else."""
    kind = COMMANDS.get(str(plain.get("name")))
    values = {k: v for k, v in plain.items() if k != "name"}
    if kind is None:
        raise ValueError(f"no command {str(plain.get('name'))[:40]!r}")
    needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if not needed <= values.keys() <= {f.name for f in dataclasses.fields(kind)}:
        raise ValueError(f"{kind.__name__} has other fields")
    if kind is Choose:
        part = f"{values['part']}."
        there = [(str(name), value) for name, value in values.get("fields", ()) if values["kind"] not in GONE.get(part + str(name), ())]
        values["fields"] = tuple((path_now(part + name).removeprefix(part), value) for name, value in there)
    if isinstance(values.get("path"), str):
        values["path"] = path_now(values["path"])
    checks = {
        "path": lambda v: isinstance(v, str),
        "kind": lambda v: isinstance(v, str),
        "part": lambda v: v in ("guidance", "densify"),
        "value": lambda v: isinstance(v, Value | None),
        "min_opacity": lambda v: type(v) in (int, float),
        "fields": lambda v: all(isinstance(value, Value | None) for _, value in v),
    }
    if wrong := [k for k, v in values.items() if not checks[k](v)]:
        raise ValueError(f"{wrong[0]} of {kind.__name__} is of another type")
    return kind(**values)


def commands_of(events: Iterable[Line], step: int | None = None) -> list[Given]:
    """Return the commands behind the splats that a run ended with, or behind the checkpoint of a step.

    What a run did after the checkpoint that it was resumed from is not part of them. A checkpoint whose line is missing
    (the process was killed before it) is taken to be what the log's end then was, or as after the step.
    """
    given: list[Given] = []
    saved: dict[int, tuple[list[Given], int]] = {}  # step -> what led to its newest checkpoint
    reached: dict[int, tuple[list[Given], int]] = {}  # step -> what led to it
    attempt = now = 0

    def led_to(step: int) -> tuple[list[Given], int]:
        commands, at = saved.get(step) or ((given, attempt) if step == now else reached.get(step, ([], attempt)))
        return [g for g in commands if not isinstance(g.command, Stop)], at

    for line in events:
        match line["event"]:
            case "StepDone":
                attempt, now = line["step"] + line.get("refused", 0), line["step"]
                reached[now] = list(given), attempt
            case "Saved":
                saved[line["step"]] = list(given), attempt
            case "Resumed":
                (given, attempt), now = led_to(line["step"]), line["step"]
            case "Applied":
                command = command_of(line["command"])
                if not isinstance(command, SKIPPED):
                    given.append(Given(attempt, command))
    return given if step is None else led_to(step)[0]


def lost_steps(events: Iterable[Line]) -> str:
    """Return the steps behind the result that a log does not hold, "1 to 20, 41 to 45"; nothing where it is whole.

    A log that was taken away, or of which a part was, lacks the commands of those steps with them.
    """
    lost: list[range] = []
    held: set[int] = {0}
    now = 0
    for line in events:
        if line["event"] == "StepDone" and line["step"] != now + 1:
            lost.append(range(now + 1, line["step"]))
        elif line["event"] == "Resumed":
            lost = [range(r.start, min(r.stop, line["step"] + 1)) for r in lost]  # what came after it is no part of the result
            if line["step"] not in held:
                lost.append(range(now + 1, line["step"] + 1))
        if line["event"] in ("StepDone", "Resumed"):
            now = line["step"]
            held.add(now)
    return ", ".join(f"{r.start}" if len(r) == 1 else f"{r.start} to {r.stop - 1}" for r in lost if r)


def unknown_steering(events: Iterable[Line]) -> str:
    """Return what to say where a log lacks steps of its run, and so what the run was told then; nothing where it is whole."""
    lost = lost_steps(events)
    return f"log.jsonl lacks step {lost}; what was changed before these is not known" if lost else ""


def description(command: Command) -> str:
    """Return a command as text for a person."""
    match command:
        case SetField(path, value):
            return f"{path}: {json.dumps(value, ensure_ascii=False)}"
        case Choose(part, kind, fields):
            words = ", ".join(f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in fields)
            return f"{part}: {kind}" + (f" ({words})" if words else "")
        case Prune(least):
            return f"splats less opaque than {least} were removed"
        case Densify():
            return "the densifier's update was made"
        case _:
            return type(command).__name__.lower()


assert set(COMMANDS) == {k.__name__ for k in get_args(Command)}
