"""Changes to single fields of a configuration, by their paths."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from splatdistill import checks
from splatdistill.errors import UserError

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}


def with_field(config: Any, path: list[str], value: Any) -> Any:
    """Return a dataclass tree with one leaf replaced; UserError for an unknown field or a wrong type."""
    return with_fields(config, [(path, value)])


def with_fields(config: Any, changes: Sequence[tuple[list[str], Any]]) -> Any:
    """Return a dataclass tree with some leaves replaced, all at once, so that values which only together make sense are taken
    in any order. UserError for unknown fields, wrong types, and what the classes refuse.
    """
    names, new = [f.name for f in fields(config)], {}
    for path, value in changes:
        if (name := path[0]) not in names:
            raise UserError(f"{type(config).__name__} has no field {name!r}; it has {', '.join(names)}")
        if len(path) == 1:
            new[name] = leaf(config, name, value)
        elif not is_dataclass(getattr(config, name)):
            raise UserError(f"{name!r} has no fields of its own")
        elif name not in new:
            with checks.part(name):
                new[name] = with_fields(getattr(config, name), [(p[1:], v) for p, v in changes if p[0] == name and len(p) > 1])
    return replace(config, **new)


def leaf(config: Any, name: str, value: Any) -> Any:
    """Return a value as a field has it; UserError for one of another type."""
    old, allowed = getattr(config, name), get_type_hints(type(config))[name]
    if get_origin(allowed) is Literal and value not in get_args(allowed):
        raise UserError(f"{name!r} is one of {', '.join(map(str, get_args(allowed)))}; got {value!r}")
    kinds = get_args(allowed) if isinstance(allowed, UnionType) else (allowed,)
    if type(value) is int and int not in kinds and float in kinds:
        value = float(value)
    if get_origin(allowed) is not Literal and type(value) is not type(old) and type(value) not in kinds:
        wanted = " or ".join(KINDS.get(k, str(k)) for k in kinds)
        raise UserError(f"{name!r} is {wanted}, now {'none' if old is None else repr(old)}; got {value!r}")
    return value
