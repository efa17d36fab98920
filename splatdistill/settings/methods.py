"""A list of methods as it is typed for `bench` and `variance`: "sds,sdi[eta=0,jitter=0.2],ssd[baselines=depth]@wrong-view"."""

import re
from collections.abc import Sequence

from splatdistill.errors import UserError
from splatdistill.guidance import Guidance
from splatdistill.settings.commands import parse_train
from splatdistill.settings.options import turned_off
from splatdistill.settings.resolve import Weights

STEIN = {
    "none": "sjc[variance_reduction=False]",
    "sds": "sds",
    "mu on n": "ssd[baselines=]",
    "paper, mu = 1": "ssd[baselines=depth normal,mu=one]",
    "+ depth": "ssd[baselines=depth]",
    "+ normal": "ssd[baselines=depth normal]",
    "+ shuffled depth": "ssd[baselines=depth]@wrong-view",
}
"""The seven methods that `stein` in a list stands for: from no control variate to depth that says nothing."""


def listed(words: Sequence[str]) -> str:
    """Return words of a command line as one list of methods: a space separates methods as a comma does, but within brackets."""
    text = ""
    for word in words:
        inside = text.count("[") > text.count("]")
        text += (" " if inside else ",") * bool(text) + word
    return text


def split(text: str) -> dict[str, str]:
    """Return the methods of a list by name; commas inside brackets belong to a method."""
    words = [word.strip() for word in re.split(r",(?![^\[]*\])", text) if word.strip()]
    pairs = [pair for word in words for pair in (STEIN.items() if word == "stein" else [(word, word)])]
    if not pairs:
        raise UserError("--guidances is empty; expected names such as sds,sdi")
    names = [name for name, _ in pairs]
    if doubled := [n for n in names if names.count(n) > 1]:
        raise UserError(f"--guidances names {doubled[0]} twice; give one of them options in brackets, or leave it out")
    return dict(pairs)


def guidance_of(text: str, prior: str, weights: Weights) -> tuple[Guidance, bool]:
    """Return the guidance of a method of the list, its recipe's options with those in brackets above them, and whether
    @wrong-view stands behind it.
    """
    kind, options, wrong_view = apart(text)
    argv = ["--guidance", kind, "--prior", prior, "--prompt", "x"]
    for key, value in options:
        argv += typed(f"guidance.{key}", value)
    return parse_train(argv, weights.family).config.guidance, wrong_view


def apart(text: str) -> tuple[str, list[tuple[str, str]], bool]:
    """Split a method of the list into the guidance's name, the options in its brackets, and whether @wrong-view stands behind it."""
    plain, at, mark = text.partition("@")
    if at and mark != "wrong-view":
        raise UserError(f"{text}: expected @wrong-view, or nothing, behind the name, got @{mark}")
    kind, _, inside = plain.removesuffix("]").partition("[")
    options = []
    for part in filter(None, (p.strip() for p in inside.split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if not equals:
            raise UserError(f"{text}: expected OPTION=VALUE in the brackets, got {part!r}")
        options.append((key, value))
    return kind, options, bool(at)


def typed(path: str, value: str) -> list[str]:
    """Return an option and its value as they are typed on a command line."""
    if value in ("True", "False"):
        return [f"--{path}" if value == "True" else turned_off(path)]
    return [f"--{path}={value}"] if value.startswith("-") else [f"--{path}", *value.split()]
