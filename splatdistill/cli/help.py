"""--help before torch is loaded: the options of every subcommand from a table, by the parser that would read them.

options.json is written from the classes by `python scripts/write_options.py`; a test holds it to them. What the table cannot
know (a class of one's own, weights that must be looked at first) is left to the subcommand itself.
"""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tyro

from splatdistill.settings.classes import Choice
from splatdistill.settings.layers import Layer, Subcommand, parse
from splatdistill.settings.recipes import DEFAULT, Family, family_of
from splatdistill.settings.table import Twins

TABLE = Path(__file__).with_name("options.json")
CARDS = (Path("/dev/nvidiactl"), Path("/dev/nvidia0"), Path("/dev/dxg"))  # the last under Windows' Linux


class Unknown(Exception):
    """Signal that only the subcommand itself can answer."""


@cache
def table() -> Mapping[str, Any]:
    """Return the table that is shipped."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def explain(name: str, argv: list[str]) -> bool:
    """Print the options of a subcommand, with the values of the recipe that applies; False if the table cannot say them."""
    told = table()["commands"].get(name)
    if told is None or any(".py" in word for word in argv):
        return False
    twins = Twins(table()["classes"])
    try:
        if "class" in told:
            marks = tuple(getattr(tyro.conf, mark) for mark in told["marks"])
            tyro.cli(twins.twin(told["class"]), args=argv, prog=f"splatdistill {name}", config=marks)
        else:
            parse(argv, lambda source: family(source, told["priors"]), command=subcommand(name, told, twins))
    except Unknown:
        return False
    except SystemExit as end:
        if end.code:  # a mistake is explained by the subcommand, which knows more
            return False
    return True


def subcommand(name: str, told: Mapping[str, Any], twins: Twins) -> Subcommand:
    """Return a subcommand whose classes are twins."""
    choices = tuple(
        Choice(c["field"], object, {spelling: twins.twin(kind) for spelling, kind in c["names"].items()}) for c in told["choices"]
    )
    takes = told["takes"] if told["takes"] is None else tuple(told["takes"])
    return Subcommand(name, twins.twin(told["config"]), choices, takes, tuple(told["leaves"]), twins.twin(told["beside"]))


def family(source: str, priors: Mapping[str, Any]) -> Family | Layer | None:
    """Return the recipes that suit a prior by its name alone, or the layer of one that is no weights."""
    if source in priors:
        return Layer(priors[source]["who"], priors[source]["options"])
    if source == "auto" and not os.environ.get("SPLATDISTILL_PRIOR") and not any(card.exists() for card in CARDS):
        return DEFAULT
    kind = family_of(source)
    if kind == "sd":
        raise Unknown(source)
    return kind
