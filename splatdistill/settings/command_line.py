"""Words typed, as a dataclass: tyro is the parser; an option that it refuses is a UserError of one or two lines."""

import contextlib
import difflib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import tyro

from splatdistill.checks import described, shown
from splatdistill.errors import UserError
from splatdistill.settings.classes import Choice
from splatdistill.settings.options import Option, options_of, turned_off, unknown

T = TypeVar("T")
HELP = ("-h", "--help", "--tyro-print-completion", "--tyro-write-completion")


def command_line(
    kind: type[T],
    argv: Sequence[str],
    prog: str,
    default: T | None = None,
    parts: Mapping[str, type] = {},
    choices: Iterable[Choice] = (),
    others: Mapping[str, type] = {},
) -> T:
    """Return an instance of a dataclass from a command line; UserError for what cannot be read.

    default: what is not typed. parts: the classes of fields that hold one of several, which `choices` names. others: what other
    subcommands have, to say whose an option is. --help ends the process with status 0.
    """
    known = {o.typed: o for o in options_of(kind, parts)}
    if not set(HELP) & set(argv):
        refuse_unknown(argv, known, choices, parts, others)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            if default is None:
                return tyro.cli(kind, args=list(argv), prog=prog)
            return tyro.cli(kind, args=list(argv), prog=prog, default=default)
    except SystemExit as e:
        if e.code in (0, None):
            raise
        raise UserError(refusal_text(said.getvalue(), argv, known, prog)) from None


def name_of(word: str) -> str:
    """Return the option in a word of a command line: without its value, and with dashes for underscores."""
    return word.split("=", 1)[0].replace("_", "-")


def refuse_unknown(
    argv: Sequence[str], known: Mapping[str, Option], choices: Iterable[Choice], parts: Mapping[str, type], others: Mapping[str, type]
) -> None:
    """Raise UserError for the first option that there is none of."""
    for word in argv:
        if not word.startswith("--") or word == "--":
            continue
        name = name_of(word)
        front, _, last = name.rpartition(".")
        plain = f"{front}.{last.removeprefix('no-')}" if front else f"--{last.removeprefix('--').removeprefix('no-')}"
        off = last.removeprefix("--").startswith("no-") and plain in known and known[plain].kind is bool
        if (option := known.get(name)) is not None and option.positional:
            raise UserError(f"{name} is no option: its value is typed without it")
        if name not in known and not off:
            raise UserError(unknown(shortened(name), [o.path for o in known.values()], choices, parts, others))


def refusal_text(box: str, argv: Sequence[str], known: Mapping[str, Option], prog: str) -> str:
    """Return the parser's refusal in a line or two: the option, its values as typed, and what it takes."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()]
    text = " ".join(line for line in lines[1:] if line)
    for name in re.findall(r"--[A-Za-z0-9._-]+", text):
        if (option := known.get(name_of(name).rstrip("."))) is not None and not text.startswith("Unrecognized"):
            values = values_of(argv, option.typed)
            return f"{option.typed} {wanted(option.kind)}, got {shown(values[0] if len(values) == 1 else values)}{meant(values, option)}"
    unread = "".join(text.partition("Unrecognized options: ")[2].split())  # the box breaks lines wherever it must
    if loose := [word for word in argv if not word.startswith("-") and word.split() and unread.startswith("".join(word.split()))]:
        before = argv[max(0, list(argv).index(loose[0]) - 1)]
        if flag := next((o.typed for o in known.values() if o.kind is bool and name_of(before) in (o.typed, turned_off(o.typed))), None):
            return f"{shown(loose[0])} belongs to no option; {flag} is typed without a value, {turned_off(flag)} is its contrary"
        return f"{shown(loose[0])} belongs to no option; words of several parts are put in quotes. `{prog} --help` lists all options"
    return f"{text.split('For full helptext')[0].strip()[:300] or 'the options could not be read'}. `{prog} --help` lists all options"


def values_of(argv: Sequence[str], option: str) -> list[str]:
    """Return the words that follow an option where it stands last."""
    values: list[str] = []
    for k, word in enumerate(argv):
        if word.startswith("--") and name_of(word) == option:
            after = (w for w in argv[k + 1 :])
            values = [word.split("=", 1)[1]] if "=" in word else []
            for w in after if "=" not in word else ():
                if w.startswith("--"):
                    break
                values.append(w)
    return values


def wanted(kind: Any) -> str:
    """Return what an option takes, for a message; None is not typed, but left out."""
    kinds = [k for k in get_args(kind) if k is not NoneType] if NoneType in get_args(kind) else [kind]
    return f"must be {' or '.join(map(described, kinds))}"


def meant(values: Sequence[str], option: Option) -> str:
    """Return the choice that a misspelt value is nearest to, as a question."""
    kinds = [k for k in (option.kind, *get_args(option.kind)) if get_origin(k) is Literal]
    allowed = [str(v) for k in kinds for v in get_args(k)]
    near = difflib.get_close_matches(values[0].lower(), allowed, 1) if values else []
    return f". Did you mean {near[0]}?" if near else ""


def shortened(name: str) -> str:
    """Return an option for a message, cut where it is far too long to be one."""
    return name if len(name) <= 60 else f"{name[:60]}..."
