"""The options that a dataclass stands for, by the names that are typed; and the right one for a misspelt name."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from splatdistill.renamed import path_now
from splatdistill.settings.classes import Choice

LIKE = 0.6  # how alike two names are (0 to 1) for one to be suggested in the other's place
CLOSE = 0.02  # and how much less than the best a second suggestion may be


@dataclass(frozen=True)
class Option:
    """Field of a dataclass, as an option of the command line."""

    path: str  # guidance.times.t_min
    kind: Any  # its annotation
    positional: bool = False

    @property
    def typed(self) -> str:
        """Return the option with its dashes."""
        return typed(self.path)


def typed(path: str) -> str:
    """Return a dotted path of fields as the option that is typed."""
    return f"--{path.replace('_', '-')}"


def turned_off(option: str) -> str:
    """Return an option of true or false, as it is typed, as its contrary: --guidance.no-shared."""
    part, dot, last = option.removeprefix("--").rpartition(".")
    return f"--{part}{dot}no-{last}"


def options_of(kind: type, parts: Mapping[str, type] = {}, prefix: str = "") -> Iterator[Option]:
    """Yield the options of a dataclass and of the dataclasses in its fields, in the order of --help.

    parts: the classes of fields that hold one of several, by dotted path.
    """
    hints = get_type_hints(kind, include_extras=True)
    for f in dataclasses.fields(kind):
        hint = hints[f.name]
        extras = getattr(hint, "__metadata__", ())
        names = [name for e in extras if (name := getattr(e, "name", None)) is not None]
        path = f"{prefix}{names[0].replace('-', '_') if names else f.name}"
        inner = parts.get(f"{prefix}{f.name}", hint.__origin__ if extras else hint)
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from options_of(inner, parts, f"{path}." if path else prefix)
        else:
            yield Option(path, inner, any("Positional" in repr(e) for e in extras))


def nearest(path: str, known: Iterable[str]) -> list[str]:
    """Return the known paths that a path may have been meant for, the likeliest first, at most three."""
    path, known = path.replace("-", "_").lower(), list(known)
    if (now := path_now(path)) != path and now in known:
        return [now]
    part, _, last = path.rpartition(".")

    def alike(other: str) -> float:
        its_part, _, its_last = other.rpartition(".")
        ends = difflib.SequenceMatcher(None, last, its_last).ratio()
        if part == its_part:  # the part is right, so that its name makes nothing more alike
            return ends
        return max(difflib.SequenceMatcher(None, path, other).ratio(), 0.0 if part else 0.9 * ends)

    found = sorted(((alike(other), -k, other) for k, other in enumerate(known)), reverse=True)[:3]
    return [other for likeness, _, other in found if likeness >= max(LIKE, found[0][0] - CLOSE)]


def unknown(
    name: str, known: Iterable[str], choices: Iterable[Choice] = (), chosen: Mapping[str, type] = {}, others: Mapping[str, type] = {}
) -> str:
    """Return what to say of an option that there is none of: whose it is, or which one was meant.

    name: as it was given, `--guidance.jiter` or a key of a file; chosen: the class of each choice; others: the
    configurations of other subcommands by name.
    """
    path = name.removeprefix("--").replace("-", "_")
    known = list(known)
    for choice in choices:
        inside = path.removeprefix(f"{choice.field}.")
        if inside == path or choice.field not in chosen or has(chosen[choice.field], inside):  # has: it was renamed
            continue
        spelt = choice.spell(chosen[choice.field])
        owners = [n for n, kind in choice.names.items() if has(kind, inside)]
        if owners:
            more = f" (so {'does' if len(owners) == 2 else 'do'} {', '.join(owners[1:])})" if len(owners) > 1 else ""
            return f"--{choice.field} {spelt} has no option {name}: {owners[0]} has{more}; choose it with --{choice.field} {owners[0]}, or leave the option out"
    near = nearest(path, known)
    dashed = name.startswith("--")
    first, here = path.split(".")[0], {k.split(".")[0] for k in known}
    theirs = [command for command, kind in others.items() if first in {f.name for f in dataclasses.fields(kind)} - here]
    said = f"there is no option {name}" + (f" here ({' and '.join(theirs)} has it)" if theirs else "")
    return f"{said}: did you mean {' or '.join(typed(p) if dashed else p for p in near)}?" if near else f"{said}; --help lists all there are"


def has(kind: type, path: str) -> bool:
    """Return whether a class has an option of this dotted path, or had it under an earlier name."""
    paths = {o.path for o in options_of(kind)}
    return path in paths or path_now(f"guidance.{path}").removeprefix("guidance.") in paths
