"""A configuration as plain data, as a saved command line, and as a YAML file that says who chose what.

Files are read as YAML 1.2 has it: only `true` and `false` are booleans, so that `off` is a word, and 1e-3 is a number. What a
file of options does not need is refused: aliases, merge keys, keys given twice, nesting without end.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from splatdistill.checks import shown
from splatdistill.errors import UserError
from splatdistill.renamed import tree_now
from splatdistill.settings.options import turned_off

Tree = dict[str, Any]
"""Nested plain data: option names to values; a choice's class is under "name"."""

NAME = "name"
DEEPEST = 8  # mappings and lists in each other; a configuration has three
LARGEST = 100_000  # characters; a configuration has some thousands
LONGEST = 100  # digits of a whole number; Python reads no more than 4,300
WORDS = {list: "a list", set: "a set", bytes: "bytes", str: "one text", int: "one number", float: "one number", bool: "one true or false"}


class Loader(yaml.SafeLoader):
    """Loader of YAML 1.2's plain values, without what makes a small file large."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; aliases and deep nesting are errors with their place."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read here; write the value out", problem_mark=self.peek_event().start_mark)
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"options are nested more than {DEEPEST} deep", problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Construct a mapping; a key that is no word, or is there twice, is an error with its place."""
        seen: set[str] = set()
        for key, _ in node.value:
            problem = ""
            if key.tag != "tag:yaml.org,2002:str":
                said = shown(key.value) if isinstance(key, yaml.ScalarNode) else "of several parts"
                problem = f"the key {said} is not a word; expected the name of an option"
            elif key.value == "<<":
                problem = "merge keys (<<) are not read here; write the options out"
            elif key.value in seen:
                problem = f"the key {key.value!r} is there twice"
            if problem:
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        """Construct a whole number: digits are decimal, whatever stands before them."""
        text = self.construct_scalar(node)
        if len(text) > LONGEST:
            raise yaml.MarkedYAMLError(problem=f"a number of {len(text):,} digits is not read", problem_mark=node.start_mark)
        return int(text)


class Dumper(yaml.SafeDumper):
    """Dumper that quotes what YAML 1.1 or 1.2 would take for something else than text."""


FLOAT = re.compile(r"^(?:[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
PLAIN: tuple[tuple[str, re.Pattern[str], list[str] | None], ...] = (
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    ("float", FLOAT, list("-+.0123456789")),
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
)
Loader.yaml_implicit_resolvers = {}
for _kind, _form, _first in PLAIN:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _form, _first)
Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_whole)


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
    return list(map(plain, value)) if isinstance(value, tuple | list) else str(value) if isinstance(value, Path) else value


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
            argv.append(option if value else turned_off(option))
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
    """Read a YAML file of options; UserError, with the place, if it is not one."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST + 1)  # no more, of what may have no end
    except (OSError, UnicodeDecodeError, ValueError) as e:
        raise UserError(f"could not read {shown(str(path))}: {getattr(e, 'strerror', None) or e}; expected a YAML file of options") from e
    return parsed(text, str(path))


def parsed(text: str, where: str) -> Tree:
    """Return the options of a YAML text; UserError with the place for one that holds anything else."""
    if len(text) > LARGEST:
        raise UserError(f"{where} has more than {LARGEST:,} characters; expected options, one a line, such as `steps: 600`")
    try:
        tree = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as e:
        place = f", line {e.problem_mark.line + 1}" if e.problem_mark else ""
        ours = e.context is None and e.note is None and isinstance(e, yaml.MarkedYAMLError) and type(e) is yaml.MarkedYAMLError
        said = e.problem if ours else f"is not YAML: {' '.join(' '.join(filter(None, [e.context, e.problem])).split())}"
        raise UserError(f"{where}{place}{':' if ours else ''} {said}") from e
    except yaml.YAMLError as e:
        raise UserError(f"{where} is not YAML: {' '.join(str(e).split())}") from e
    except (ValueError, TypeError, OverflowError, RecursionError) as e:  # of a scalar: a number of thousands of digits
        raise UserError(f"{where} holds a value that cannot be read: {' '.join(str(e).split())[:200]}") from e
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise UserError(f"{where} holds {WORDS.get(type(tree), type(tree).__name__)}; expected options, one a line, such as `steps: 600`")
    return tree_now(checked(tree, where))


def checked(tree: dict, where: str) -> Tree:
    """Return the tree if it holds plain values and every list is flat, else raise UserError."""
    for key, value in tree.items():
        if isinstance(value, dict):
            checked(value, where)
            continue
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, list | dict) for v in values):
            raise UserError(f"{where}: {key} is a list of lists; expected a value, or a list of values")
        if other := [v for v in values if not (v is None or isinstance(v, str | int | float))]:
            raise UserError(f"{where}: {key} holds {WORDS.get(type(other[0]), type(other[0]).__name__)}; expected text, numbers, true or false")
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
                body.append((f"{indent}{scalar(key)}: {scalar(value)}", " ".join(chosen_by.get(path, "default").split())))

    add(tree, "", "")
    width = min(max((len(text) for text, _ in body), default=0), 48)
    return "\n".join(lines + [f"{text:{width}}  # {who}" if who else text for text, who in body]) + "\n"


def scalar(value: Any) -> str:
    """Return one value, or a flat list, on one line of YAML."""
    style = '"' if isinstance(value, str) and len(f"{value}.".splitlines()) > 1 else None  # line breaks as escapes
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, default_style=style, width=float("inf"), allow_unicode=True)
    return text.split("\n...")[0].rstrip("\n")
