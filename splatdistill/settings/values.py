"""Values of a file as the fields of a configuration want them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

YES, NO = ("true", "yes", "on"), ("false", "no", "off")


def converted(value: Any, kind: Any) -> Any:
    """Return a value of a file as a field annotated `kind` holds it; ValueError where it cannot.

    Lists become tuples, text paths, whole numbers floats, numbers in quotes numbers, yes and no booleans.
    """
    origin, of = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return first(value, of)
    if origin is Literal:
        if any(value == v and type(value) is type(v) for v in of):
            return value
    elif origin is tuple:
        values = value if isinstance(value, list) else [value]
        kinds = of[:1] * len(values) if of[-1:] == (Ellipsis,) else of
        if len(kinds) == len(values):
            return tuple(map(converted, values, kinds))
    elif kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in (*YES, *NO):
            return value.lower() in YES
    elif kind is NoneType:
        if value is None:
            return None
    elif kind is Path:
        if isinstance(value, str):
            return Path(value)
    elif kind is int or kind is float:
        if isinstance(value, str | int) or (isinstance(value, float) and kind is float):
            return kind(value) if not isinstance(value, bool) else refuse()
    elif not (kind is str and not isinstance(value, str)):
        return value  # text, or a type of someone's own
    return refuse()


def first(value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return the value as the first of these that it can be."""
    for kind in sorted(kinds, key=lambda k: k is not NoneType):
        try:
            return converted(value, kind)
        except (ValueError, OverflowError):
            continue
    return refuse()


def refuse() -> Any:
    """Raise the ValueError of a value that does not convert."""
    raise ValueError


def unchecked(base: Any, values: Mapping[str, Any]) -> Any:
    """Return a dataclass's instance with other values at some dotted paths, and without its own checks: values of a file may make
    sense only with those typed above them. A parser builds what is used from it, with all checks.
    """
    made = object.__new__(type(base))
    for f in dataclasses.fields(base):
        old = getattr(base, f.name)
        inside = {k.removeprefix(f"{f.name}."): v for k, v in values.items() if k.startswith(f"{f.name}.")}
        object.__setattr__(made, f.name, values.get(f.name, unchecked(old, inside) if inside else old))
    return made
