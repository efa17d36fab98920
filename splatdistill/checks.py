"""Checks that the classes of a configuration make of their own fields, in `__post_init__` and so always.

    @dataclass(frozen=True)
    class Background:
        kind: Literal["white", "black"] = "white"
        rate: float = 0.01

        def __post_init__(self) -> None:
            checks.types(self)  # every field: its type, and that its numbers are finite
            checks.positive(self, "rate")

A field that is None has been left open and passes. A class knows the names of its fields, not where it sits: the error names the
option as far as it is known, `--rate must be above 0, got -1`. Whoever knows the way to the part puts it in front:

    with checks.part("background"):
        Background(rate=-1)  # --background.rate must be above 0, got -1

and a parser, which learns only from the error which class has refused, says `error.under(path)`.
"""

import math
import numbers
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from splatdistill.errors import UserError

LONGEST = 60  # characters of a value in a message


class BadValue(UserError):
    """Error for a value that a field cannot have. owner: the class that refused it; path: of the field, as far as it is known."""

    def __init__(self, owner: type, path: str, problem: str) -> None:
        super().__init__(f"--{path.replace('_', '-')} {problem}")
        self.owner, self.path, self.problem = owner, path, problem

    def under(self, path: str) -> "BadValue":
        """Return the same error with the path of the part in front of the field's."""
        return BadValue(self.owner, f"{path}.{self.path}" if path else self.path, self.problem)


@contextmanager
def part(path: str) -> Iterator[None]:
    """Prefix the path of the part that is built inside to the field that it refuses."""
    try:
        yield
    except BadValue as e:
        raise e.under(path) from None


def refuse(config: Any, name: str, problem: str) -> None:
    """Raise the error about one field: "--NAME PROBLEM, got VALUE"."""
    raise BadValue(type(config), name, f"{problem}, got {shown(getattr(config, name))}")


def need(config: Any, name: str, ok: bool, problem: str) -> None:
    """Refuse a field unless a condition holds, for what the other checks do not know."""
    if not ok:
        refuse(config, name, problem)


def types(config: Any) -> None:
    """Refuse a field whose value is not of the annotated type, or holds a number that is not finite.

    A whole number serves as a float, a list as a tuple. Annotations other than numbers, text, paths, dataclasses, Literal, tuples
    and unions of these are not judged.
    """
    for name, kind in annotations(type(config)).items():
        value = getattr(config, name)
        if not fits(value, kind):
            refuse(config, name, f"must be {described(kind)}")
        for v in value if isinstance(value, tuple | list) else (value,):
            need(config, name, not _number(v) or finite(v), "must be finite")


def finite(value: Any) -> bool:
    """Return whether a number is finite, and no whole number too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def positive(config: Any, *names: str) -> None:
    """Refuse a field with a number that is not above 0."""
    _each(config, names, lambda v: v > 0, "must be above 0")


def at_least(config: Any, least: float, *names: str) -> None:
    """Refuse a field with a number below this one."""
    _each(config, names, lambda v: v >= least, f"must be at least {least}")


def count(config: Any, least: int, most: int, *names: str) -> None:
    """Refuse a field with a number below or above what makes sense, each in words of its own."""
    at_least(config, least, *names)
    _each(config, names, lambda v: v <= most, f"must be at most {most}")


def within(config: Any, low: float, high: float, *names: str) -> None:
    """Refuse a field with a number outside low..high; both ends are allowed."""
    _each(config, names, lambda v: low <= v <= high, f"must lie within {low} and {high}")


def between(config: Any, low: float, high: float, *names: str) -> None:
    """Refuse a field with a number outside low..high; the ends are not allowed."""
    _each(config, names, lambda v: low < v < high, f"must lie between {low} and {high}, both excluded")


def rising(config: Any, *names: str) -> None:
    """Refuse a field whose numbers fall, such as a range that ends below its beginning."""
    for name in names:
        values = getattr(config, name)
        need(config, name, values is None or all(a <= b for a, b in zip(values, values[1:])), "must go from low to high")


def shown(value: Any) -> str:
    """Return a value for a message: as it is typed, and not too long."""
    if isinstance(value, tuple | list):
        text = " ".join(map(shown, value[:8])) + (" ..." if len(value) > 8 else "") if value else "nothing"
    else:
        try:
            text = repr(value) if isinstance(value, str) else str(value)
        except ValueError:  # a whole number of more digits than Python prints
            text = "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of an annotated type, as far as `types` judges it."""
    origin, of = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(value == v and type(value) is type(v) for v in of)
    if origin in (Union, UnionType):
        return any(fits(value, k) for k in of)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if of[-1:] == (Ellipsis,):
            return all(fits(v, of[0]) for v in value)
        return len(value) == len(of) and all(map(fits, value, of))
    if kind is bool:
        return isinstance(value, bool)
    if kind is float:
        return _number(value)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if isinstance(kind, type) and (kind in (str, NoneType, Path) or is_dataclass(kind)):
        return isinstance(value, kind)
    return True


def described(kind: Any) -> str:
    """Return a type in words, for the end of "must be ..."."""
    origin, of = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, of))}"
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys("left out" if k is NoneType else described(k) for k in of))
    if origin is tuple:
        if get_origin(of[0]) is Literal:
            return f"some of {', '.join(map(str, get_args(of[0])))}"
        many = {int: "whole numbers", float: "numbers", str: "words", Path: "paths"}.get(of[0], "values")
        return many if of[-1:] == (Ellipsis,) else f"{len(of)} {many}"
    words = {bool: "true or false", float: "a number", int: "a whole number", str: "text", Path: "a path", NoneType: "left out"}
    return words.get(kind, f"one of the class {getattr(kind, '__name__', kind)}")


@cache
def annotations(kind: type) -> dict[str, Any]:
    """Return the annotations of a dataclass's fields, evaluated; without those of a class of one's own that cannot be."""
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError, SyntaxError):
        hints = {}
    return {f.name: hints[f.name] for f in fields(kind) if f.name in hints}


def _number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _each(config: Any, names: Sequence[str], holds: Any, problem: str) -> None:
    """Refuse a field in which a number does not satisfy a condition; a comparison with NaN is false, so NaN does not."""
    for name in names:
        value = getattr(config, name)
        for v in value if isinstance(value, tuple | list) else (value,):
            need(config, name, v is None or bool(holds(v)), problem)
