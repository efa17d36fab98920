"""The commands that a log holds: a steered run repeated as it was, or gone on with as it stood.

From the same configuration, on the CPU with the same number of threads, a replayed run gives the same splats, bit for
bit: every command takes effect before the same attempted step as it did then.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splatdistill.errors import UserError
from splatdistill.renamed import path_now
from splatdistill.train.config import Train
from splatdistill.train.events import Choose, Command, Commands, Continue, Densify, Once, Pause, Prune, Save, SetField, Stop
from splatdistill.train.steer import configured

KINDS: dict[str, type] = {k.__name__: k for k in (Stop, Save, SetField, Choose, Densify, Prune, Pause, Continue, Once)}
SKIPPED = (Save, Pause, Continue, Once)  # they change nothing that a step sees


@dataclass(frozen=True)
class Given:
    """A command, and before which attempted step (taken or refused, from 0) it took effect."""

    attempt: int
    command: Command


@dataclass
class Replay(Commands):
    """The commands of a log in their places, and those of a person besides."""

    given: list[Given] = field(default_factory=list)

    def take(self, attempt: int = 0) -> list[Command]:
        """What the log holds up to this attempt, then what is asked now."""
        now = [g.command for g in self.given if g.attempt <= attempt]
        self.given = [g for g in self.given if g.attempt > attempt]
        return now + super().take(attempt)


def commands_of(log: Path, step: int | None = None) -> list[Given]:
    """The commands behind the splats that a run ended with, or behind the checkpoint of a step.

    What a run did after the checkpoint that it was resumed from is not part of them. UserError where the log cannot be
    read.
    """
    given: list[Given] = []
    saved: dict[int, tuple[list[Given], int]] = {}  # step -> what led to its newest checkpoint
    attempt = 0
    for line in _lines(log):
        match line["event"]:
            case "StepDone":
                attempt = line["step"] + line["refused"]
            case "Saved":
                saved[line["step"]] = list(given), attempt
            case "Resumed":
                given, attempt = saved.get(line["step"], ([], attempt))
                given = [g for g in given if not isinstance(g.command, Stop)]
            case "Applied":
                command = command_of(line["command"])
                if not isinstance(command, SKIPPED):
                    given.append(Given(attempt, command))
    if step is None:
        return given
    return [g for g in saved.get(step, ([], 0))[0] if not isinstance(g.command, Stop)]


def command_of(plain: dict[str, Any]) -> Command:
    """What a log wrote of a command, as the command again."""
    values = {k: v for k, v in plain.items() if k != "name"}
    if "fields" in values:
        part = values["part"]
        values["fields"] = tuple((path_now(f"{part}.{name}").removeprefix(f"{part}."), value) for name, value in values["fields"])
    if "path" in values:
        values["path"] = path_now(values["path"])
    return KINDS[plain["name"]](**values)


def as_steered(config: Train, given: list[Given]) -> Train:
    """A configuration after commands."""
    for g in given:
        if isinstance(g.command, SetField | Choose):
            config = configured(config, g.command)
    return config


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    """The events of a log; a last line that was cut off is left out."""
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
    except OSError as e:
        raise UserError(f"could not read {log}: {e.strerror or e}; expected the log.jsonl of a run") from e
    for k, line in enumerate(lines):
        try:
            yield json.loads(line)
        except ValueError:
            if k + 1 < len(lines):
                raise UserError(f"line {k + 1} of {log} is not what a run writes: {line[:80]!r}") from None
