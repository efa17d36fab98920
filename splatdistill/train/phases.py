"""Phases of a run: one after the other, each with some settings of its own, as in ProlificDreamer's stages (arXiv:2305.16213).

A phase is a text, NAME[share=S, OPTION=VALUE, ...]. What it does not say stays as it was. Everything that follows a run's progress
(noise levels, rates, resolutions) follows that of the phase.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from splatdistill.errors import UserError
from splatdistill.train.assignments import assignments, written

FORM = "NAME of a phase that comes with the recipes, or NAME[share=0.5, OPTION=VALUE, ...], one of your own"
SHARE = "share"
PATTERN = re.compile(r"(?P<name>[\w-]+)(?:\[(?P<options>.*)\])?", re.DOTALL)
FIXED = (
    "steps", "phases", "particles", "also", "image", "init", "seed", "device", "precision", "low_memory", "vae_precision", "compile", "max_batch",
    "lora", "lora_scale",
)  # fmt: skip
"""Settings that a run has from its beginning to its end. Its prior is not one of them: a phase may ask another."""


@dataclass(frozen=True)
class Phase:
    """Phase of a run: its name, its length as a share of the others', and what it sets, by dotted path."""

    name: str
    share: float = 1.0
    changes: tuple[tuple[str, Any], ...] | None = None  # None: a name that was not looked up

    def text(self) -> str:
        """Return the phase as `read` reads it."""
        return f"{self.name}[{', '.join(f'{path}={written(value)}' for path, value in ((SHARE, self.share), *(self.changes or ())))}]"

    def tree(self) -> dict[str, Any]:
        """Return what it sets as nested dictionaries, the class of a part that is a choice under "name"."""
        whole: dict[str, Any] = {}
        for path, value in self.changes or ():
            *way, last = [path, "name"] if path in CHOICES else path.split(".")
            inner = whole
            for name in way:
                inner = inner.setdefault(name, {})
            inner[last] = list(value) if isinstance(value, tuple) else value
        return whole


CHOICES = ("guidance", "densify")
ASKED = ("prior", "prior_views")  # which prior a phase asks; a run is not steered to another


@lru_cache(maxsize=256)
def read(said: str) -> Phase:
    """Return the phase that a text says; UserError for anything else."""
    found = PATTERN.fullmatch(said.strip())
    if found is None:
        raise UserError(f"{said!r} is no phase; expected {FORM}")
    if found["options"] is None:
        return Phase(found["name"])
    options = dict(assignments(found["options"], said, FORM))
    share = options.pop(SHARE, 1.0)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1e6:
        raise UserError(f"{said!r}: share is the phase's length as a part of the others', a number above 0; got {share!r}")
    for path in options:
        if path.split(".")[0] in FIXED:
            raise UserError(f"{said!r}: {path} is the same in all phases; expected another option")
    return Phase(found["name"], float(share), tuple(options.items()))


def prior_asked(phases: Any, number: int) -> dict[str, Any]:
    """Return the prior and the views that it sees together in a phase, as far as that phase or one before it names them. phases: of
    a configuration, or what a checkpoint says there; UserError for what are none.
    """
    named: dict[str, Any] = {}
    if not isinstance(phases, list | tuple) or not all(isinstance(said, str) for said in phases):
        raise UserError(f"{phases!r} are no phases; expected a list of texts")
    for said in phases[: number + 1]:
        named |= {name: value for name, value in read(said).tree().items() if name in ASKED}
    return named


def located(said: str) -> str:
    """Return the same phase with a folder of its prior in full."""
    phase = read(said)
    full = tuple((k, str(Path(v).expanduser().resolve()) if k == "prior" and Path(str(v)).expanduser().exists() else v) for k, v in phase.changes or ())
    return said if full == (phase.changes or ()) else replace(phase, changes=full).text()


def span(phases: Sequence[str], steps: int, number: int) -> tuple[int, int]:
    """Return the steps before which a phase begins and ends, of a run of so many steps. Without phases it is all one."""
    if not phases:
        return 0, steps
    shares = [read(said).share for said in phases]
    ends = [round(steps * sum(shares[:k]) / sum(shares)) for k in range(len(shares) + 1)]
    return ends[max(number, 0)], ends[max(number, 0) + 1]
