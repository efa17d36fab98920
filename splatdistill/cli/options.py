"""The table that help is read from, as the classes make it. Importing this loads everything."""

from typing import Any

from splatdistill.cli import amortise, bench, evaluate, export, generate, image, render, toybox, train, variance, view
from splatdistill.priors import plane
from splatdistill.settings.layers import Subcommand
from splatdistill.settings.table import Description

CLASSES: dict[str, tuple[type, tuple[str, ...]]] = {
    "bench": (bench.Bench, ()),
    "evaluate": (evaluate.Evaluate, ()),
    "export": (export.Export, ()),
    "generate": (generate.Generate, ()),
    "render": (render.Render, ()),
    "toybox": (toybox.Toybox, ()),
    "variance": (variance.Variance, ()),
    "view": (view.ViewOptions, ()),
}
CONFIGURED: dict[str, Subcommand] = {"train": train.COMMAND, "image": image.COMMAND, "amortise": amortise.COMMAND}
PRIORS = {"train": {}, "amortise": {}, "image": {plane.NAME: {"who": image.EXACT.who, "options": image.EXACT.options}}}


def described() -> dict[str, Any]:
    """Return the table: `classes`, and `commands` that say which of them are theirs."""
    about = Description()
    commands: dict[str, Any] = {
        name: {"class": about.add(kind), "marks": list(marks)} for name, (kind, marks) in CLASSES.items()
    }
    for name, command in CONFIGURED.items():
        commands[name] = {
            "config": about.add(command.config),
            "choices": [
                {"field": c.field, "names": {spelling: about.add(kind) for spelling, kind in c.names.items()}}
                for c in command.choices
            ],
            "takes": command.takes if command.takes is None else list(command.takes),
            "leaves": list(command.leaves),
            "beside": about.add(command.beside),
            "priors": PRIORS[name],
        }
    return {"commands": commands, "classes": about.classes}
