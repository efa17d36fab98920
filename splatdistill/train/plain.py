"""Settings as plain data, such as JSON and YAML hold, and back."""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from splatdistill.densify import DENSIFIERS
from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES
from splatdistill.renamed import tree_now
from splatdistill.scene.initials import INITIALS
from splatdistill.train.commands import Choose, SetField
from splatdistill.train.config import Train
from splatdistill.train.notes import Plain
from splatdistill.train.phases import ASKED, FIXED

NAME = "name"  # under which a part tells its class
KINDS: dict[str, Mapping[str, type]] = {"guidance": GUIDANCES, "init": INITIALS, "densify": DENSIFIERS}
UNCHANGING = (*(name for name in FIXED if name != "steps"), *ASKED)
"""Settings that a run is begun with and keeps: it cannot be steered to others."""


def to_plain(config: Train) -> Plain:
    """Return the settings as nested dictionaries, the class of a part that is a choice under "name". A class of one's own has
    no name here; `config.yaml` says where it is.
    """
    plain = _values(config)
    for part, kinds in KINDS.items():
        if kinds.get(name := named(config, part)) is type(getattr(config, part)):
            plain[part] = {NAME: name} | plain[part]
    return plain


def named(config: Train, part: str) -> str:
    """Return how the class of a part that is a choice is asked for; the class's own name for a class of one's own."""
    kind = type(getattr(config, part))
    return next((name for name, known in KINDS[part].items() if known is kind), kind.__name__)


def _values(part: Any) -> Plain:
    values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return {
        k: _values(v) if dataclasses.is_dataclass(v) else [str(i) if isinstance(i, Path) else i for i in v] if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v
        for k, v in values.items()
    }


def from_plain(base: Train, plain: Plain, said_by: str = "the saved settings") -> Train:
    """Return the settings that `to_plain` gave, or some of them, over those of `base`, which has the classes that have no name.
    UserError for values that do not fit, which names who said them.
    """
    changes: dict[str, Any] = {}
    plain = tree_now(plain)
    for part, kinds in KINDS.items():
        said = plain.get(part)
        name = str(said.get(NAME)) if isinstance(said, dict) else ""
        if name in kinds and kinds[name] is not type(getattr(base, part)):
            changes[part] = kinds[name]()
    return _filled(dataclasses.replace(base, **changes), {k: _nameless(v) if k in KINDS else v for k, v in plain.items()}, "", said_by)


def _nameless(part: Any) -> Any:
    return {k: v for k, v in part.items() if k != NAME} if isinstance(part, dict) else part


def _filled(base: Any, plain: Any, path: str, said_by: str) -> Any:
    if not isinstance(plain, dict):
        raise UserError(f"{said_by} hold {plain!r} for {path or 'all'}; expected several fields")
    hints, changes = get_type_hints(type(base)), {}
    for name, value in plain.items():
        here = f"{path}.{name}".removeprefix(".")
        if name not in hints:
            raise UserError(f"{said_by} hold {here}, which {type(base).__name__} does not have")
        old = getattr(base, name)
        if isinstance(value, dict) and not dataclasses.is_dataclass(old):  # None before: left to the class's variant
            kinds: list[Any] = [kind for kind in get_args(hints[name]) if dataclasses.is_dataclass(kind)]
            old = kinds[0]() if kinds else old
        part = dataclasses.is_dataclass(old) and value is not None
        changes[name] = _filled(old, value, here, said_by) if part else _value(hints[name], value, here, said_by)
    return dataclasses.replace(base, **changes)


def _value(hint: Any, value: Any, path: str, said_by: str) -> Any:
    """Return a value as the field's type has it."""
    for kind in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        of = get_args(kind)
        if get_origin(kind) is Literal and value in of and type(value) is type(of[of.index(value)]):
            return value
        if get_origin(kind) is tuple and isinstance(value, list) and (of[-1] is Ellipsis or len(of) == len(value)):
            return tuple(_value(of[0] if of[-1] is Ellipsis else of[k], v, path, said_by) for k, v in enumerate(value))
        if kind is Path and isinstance(value, str):
            return Path(value)
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
        if kind is NoneType and value is None:
            return value
        if kind in (bool, int, str) and type(value) is kind:
            return value
    raise UserError(f"{said_by} hold {value!r} for {path}; expected {getattr(hint, '__name__', hint)}")


def leaves(plain: Plain, prefix: str = "") -> dict[str, Any]:
    """Yield every value by its dotted path."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def differences(before: Plain, after: Plain) -> list[SetField]:
    """Return the commands that change some settings into others, fields that hold one value each; classes and lists are left out."""
    old = leaves(before)
    return [
        SetField(path, value)
        for path, value in leaves(after).items()
        if path in old and old[path] != value and not path.endswith(f".{NAME}") and not isinstance(value, list)
    ]


def commanded(plain: Plain, command: SetField | Choose) -> Plain:
    """Return plain settings as a command leaves them."""
    if isinstance(command, Choose):
        part: Plain = {NAME: command.kind}
        for path, value in command.fields:
            part = _with(part, path.split("."), value)
        return plain | {command.part: part}
    return _with(plain, command.path.split("."), command.value)


def _with(plain: Plain, path: list[str], value: Any) -> Plain:
    inner = plain.get(path[0])
    return plain | {path[0]: value if len(path) == 1 else _with(inner if isinstance(inner, dict) else {}, path[1:], value)}
