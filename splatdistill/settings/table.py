"""Options as a table, so that help is there before torch is: written once from the real classes, read back as dataclasses that
a parser takes for them.

A twin has the fields, types, defaults and help of its class, and nothing of what the class does.
"""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro

from splatdistill.settings.documentation import TOLD, documentation

PLAIN: dict[str, Any] = {"bool": bool, "int": int, "float": float, "str": str, "Path": Path, "None": type(None), "Any": Any}
MARKERS: dict[str, Any] = {"Positional": tyro.conf.Positional}
KEPT = ("name", "metavar", "help")  # of tyro.conf.arg, what is kept


@dataclass
class Description:
    """Dataclasses as JSON, by name; a class that others refer to is described with them."""

    classes: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: type) -> str:
        """Describe a dataclass and those of its fields; return the name that it has in the table."""
        name = f"{kind.__module__.removeprefix('splatdistill.')}.{kind.__qualname__}"
        if name not in self.classes:
            self.classes[name] = {}  # a class may hold one of its own kind
            hints, told = typing.get_type_hints(kind, include_extras=True), documentation(kind)
            rows = [
                {"name": f.name, "type": self.type(hints[f.name]), "help": told.get(f.name, ""), **self.default(f)}
                for f in dataclasses.fields(kind)
            ]
            self.classes[name] = {"name": kind.__name__, "doc": kind.__doc__ or "", "fields": rows}
        return name

    def type(self, hint: Any) -> Any:
        """Describe a field's type."""
        origin, inside = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            return {"annotated": self.type(inside[0]), "with": [annotation(a) for a in inside[1:]]}
        if origin is Literal:
            return {"literal": list(inside)}
        if origin in (Union, types.UnionType):
            return {"union": [self.type(a) for a in inside]}
        if origin is tuple:
            return {"tuple": ["..." if a is Ellipsis else self.type(a) for a in inside]}
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return {"class": self.add(hint)}
        if isinstance(hint, type) and inspect.isabstract(hint):  # a choice: its class takes the place of the base
            return "Any"
        return next(name for name, kind in PLAIN.items() if kind is hint)

    def default(self, f: dataclasses.Field) -> dict[str, Any]:
        """Describe a field's default: a value, an object by its fields, or the function that is asked each time."""
        if f.default_factory is not dataclasses.MISSING:
            factory: Any = f.default_factory
            value = factory()
            if not dataclasses.is_dataclass(value):
                return {"ask": f"{factory.__module__}:{factory.__qualname__}"}
            return {"default": self.value(value)}
        return {} if f.default is dataclasses.MISSING else {"default": self.value(f.default)}

    def value(self, value: Any) -> Any:
        """Describe a value."""
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {"class": self.add(type(value)), "fields": {f.name: self.value(getattr(value, f.name)) for f in dataclasses.fields(value)}}
        return {"tuple": [self.value(v) for v in value]} if isinstance(value, tuple) else {"path": str(value)} if isinstance(value, Path) else value


def annotation(mark: Any) -> Any:
    """Describe what a field's type is annotated with."""
    for name, marker in MARKERS.items():
        if mark is marker or mark == marker:
            return name
    return {k: v for k in KEPT if (v := getattr(mark, k)) is not None}


class Twins:
    """Dataclasses made from a table's descriptions, each once."""

    def __init__(self, classes: Mapping[str, Any]):
        self.classes = classes
        self.made: dict[str, type] = {}

    def twin(self, name: str) -> type:
        """Return the twin of a class by its name in the table."""
        if name not in self.made:
            told = self.classes[name]
            body: dict[str, Any] = {"__annotations__": {}, "__doc__": told["doc"], "__module__": __name__}
            body[TOLD] = {row["name"]: row["help"] for row in told["fields"]}
            for row in told["fields"]:
                body["__annotations__"][row["name"]] = self.documented(row)
                body[row["name"]] = self.default(row)
            self.made[name] = dataclass(frozen=True)(type(told["name"], (), {k: v for k, v in body.items() if v is not dataclasses.MISSING}))
        return self.made[name]

    def documented(self, row: Mapping[str, Any]) -> Any:
        """Return a field's type with its help, which a parser cannot read from the source of a twin."""
        kind, marks = self.type(row["type"]), ()
        if isinstance(row["type"], dict) and "annotated" in row["type"]:
            marks = row["type"]["with"]
        told = {"help": row["help"]} if row["help"] else {}
        for mark in marks:
            told |= mark if isinstance(mark, dict) else {}
        others = [MARKERS[m] for m in marks if isinstance(m, str)]
        return Annotated[(kind, *others, tyro.conf.arg(**told))] if told or others else kind

    def type(self, told: Any) -> Any:
        """Return a type from its description, without what it was annotated with."""
        match told:
            case str():
                return PLAIN[told]
            case {"annotated": inside}:
                return self.type(inside)
            case {"literal": values}:
                return Literal[tuple(values)]
            case {"union": parts}:
                return Union[tuple(self.type(p) for p in parts)]  # noqa: UP007 (a union of a list's length)
            case {"tuple": parts}:
                return tuple[tuple(... if p == "..." else self.type(p) for p in parts)]
            case _:
                return self.twin(told["class"])

    def default(self, row: Mapping[str, Any]) -> Any:
        """Return a field's default as a dataclass takes it; MISSING for none."""
        if "ask" in row:
            module, name = row["ask"].split(":")
            return field(default_factory=getattr(importlib.import_module(module), name))
        if "default" not in row:
            return dataclasses.MISSING
        value = self.value(row["default"])
        return field(default_factory=lambda: value) if dataclasses.is_dataclass(value) else value

    def value(self, told: Any) -> Any:
        """Return a value from its description."""
        match told:
            case {"class": name, "fields": values}:
                return self.twin(name)(**{k: self.value(v) for k, v in values.items()})
            case {"tuple": parts}:
                return tuple(self.value(p) for p in parts)
            case {"path": path}:
                return Path(path)
            case _:
                return told
