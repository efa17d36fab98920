"""A configuration as plain data, as a saved command line, and as a YAML file that says who chose what."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from splatdistill.errors import UserError
from splatdistill.renamed import tree_now

Tree = dict[str, Any]
"""Nested plain data: option names to values; a choice's class is under "name"."""

NAME = "name"


def to_tree(config: Any, spell: Mapping[str, str]) -> Tree:
    """Return a dataclass as plain data. spell: how the class of each choice, by field, is asked for."""
    tree: Tree = {}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        named = {NAME: spell[f.name]} if f.name in spell else {}
        tree[f.name] = named | to_tree(value, {}) if dataclasses.is_dataclass(value) else plain(value)
    return tree


def plain(value: Any) -> Any:
    """Return a field's value as YAML has it."""
    return (
        list(map(plain, value)) if isinstance(value, tuple | list) else str(value) if isinstance(value, Path) else value
    )


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value by its dotted path, a choice's name by the path of the choice itself."""
    for key, value in tree.items():
        path = prefix.removesuffix(".") if key == NAME and prefix else f"{prefix}{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def to_argv(tree: Tree) -> list[str]:
    """Return the tree as a command line; keys are not checked, so a parser will name those it does not know."""
    argv: list[str] = []
    for path, value in leaves(tree):
        option = f"--{path}".replace("_", "-")
        if isinstance(value, bool):
            part, _, last = option.removeprefix("--").rpartition(".")
            argv.append(option if value else f"--{part}{'.' if part else ''}no-{last}")
        elif isinstance(value, list):
            argv += [option, *map(str, value)]
        elif str(value).startswith("-"):
            argv.append(f"{option}={value}")  # apart it would be taken for an option
        else:
            argv += [option, str(value)]
    return argv


def paths_in(argv: list[str]) -> list[str]:
    """Return the dotted paths that a command line sets, in field spelling: --guidance.no-x and --guidance.x are guidance.x."""
    found = []
    for word in argv:
        if word.startswith("--"):
            part, _, last = word[2:].split("=")[0].replace("-", "_").rpartition(".")
            found.append(f"{part}{'.' if part else ''}{last}")
            if last.startswith("no_"):
                found.append(f"{part}{'.' if part else ''}{last.removeprefix('no_')}")
    return found


def read(path: Path) -> Tree:
    """Read a YAML file of options; UserError if it is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"could not read {path}: {getattr(e, 'strerror', None) or e}; expected a YAML file of options"
        ) from e
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise UserError(f"{path} is not YAML: {' '.join(str(e).split())}") from e
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds a {type(tree).__name__}; expected options, one a line, such as `steps: 600`")
    return tree_now(checked(tree, path))


def checked(tree: dict, path: Path) -> Tree:
    """Return the tree if every key is a string and every list flat, else raise UserError."""
    for key, value in tree.items():
        if not isinstance(key, str):
            raise UserError(f"{path}: the key {key!r} is not a word; expected the name of an option")
        if isinstance(value, dict):
            checked(value, path)
        elif isinstance(value, list) and any(isinstance(v, list | dict) for v in value):
            raise UserError(f"{path}: {key} is a list of lists; expected a value, or a list of values")
    return tree


def write(tree: Tree, chosen_by: Mapping[str, str], heading: list[str]) -> str:
    """Return YAML with, beside every value, a comment that says who chose it."""
    lines = [f"# {line}" for text in heading for line in text.splitlines()]
    body: list[tuple[str, str]] = []

    def add(part: Tree, prefix: str, indent: str) -> None:
        for key, value in part.items():
            path = prefix.removesuffix(".") if key == NAME and prefix else f"{prefix}{key}"
            if isinstance(value, dict):
                body.append((f"{indent}{scalar(key)}:", ""))
                add(value, f"{path}.", indent + "  ")
            else:
                body.append(
                    (f"{indent}{scalar(key)}: {scalar(value)}", " ".join(chosen_by.get(path, "default").split()))
                )

    add(tree, "", "")
    width = min(max((len(text) for text, _ in body), default=0), 48)
    return "\n".join(lines + [f"{text:{width}}  # {who}" if who else text for text, who in body]) + "\n"


def scalar(value: Any) -> str:
    """Return one value, or a flat list, on one line of YAML."""
    style = '"' if isinstance(value, str) and len(f"{value}.".splitlines()) > 1 else None  # line breaks as escapes
    return (
        yaml.safe_dump(value, default_flow_style=True, default_style=style, width=float("inf"), allow_unicode=True)
        .split("\n...")[0]
        .rstrip("\n")
    )
