"""Every command that is printed, or written into a file, is one that its own parser reads.

They are found in the sources: what stands behind a trigger such as "splatdistill train" in any text, and all that `as_typed`
and `download_command` are called with. A new one that cannot be read, or a name put into a text without `as_typed`, fails here.
"""

import ast
import importlib
import ntpath
import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
from commands import parsed, stopping
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill import cli, distil
from splatdistill.cli import main
from splatdistill.priors import hub
from splatdistill.scene.initial import Ball
from splatdistill.shell import as_typed
from splatdistill.train.commands import Commands, Stop
from splatdistill.train.events import StepDone
from splatdistill.train.run import RunDir

SOURCES = sorted(p for folder in ("splatdistill", "viewer", "scripts") for p in (ROOT / folder).rglob("*.py"))
HELPERS = ("as_typed", "download_command", "command")  # what makes a command of words; `command` as hub.command
DYNAMIC, MADE, STRAY = "\x01", "\x02", "\x03"  # in place of a value, and of what a helper makes; before what is not understood
TRIGGER = re.compile(
    rf"(?<![\w/.-])splatdistill (?:{'|'.join(cli.COMMANDS)}|--\w+|{DYNAMIC})(?![\w])|\bhf (?:download|auth)\b|(?:[\w/]+/)?\bpip install\b|\bpython (?:scripts/|-m |-c )|\bray start\b"
)
"""Beginning of a command in a text."""
TITLE = re.compile(r"splatdistill \w+(?::| is | has | are | takes |,|$)")  # not a command but its name
NASTY = "ein 'Ordner' mit \"ü\" & $HOME; 画 %PATH%"


def texts(tree: ast.AST, values: dict) -> Iterator[str]:
    """Yield every text of a source, constants of the module put in, other values as DYNAMIC, and commands of a helper as MADE."""
    inside = {id(child) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for child in ast.walk(node) if child is not node}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value
        elif isinstance(node, ast.JoinedStr) and id(node) not in inside:
            yield "".join(part(v, values) for v in node.values)


def part(node: ast.expr, values: dict) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.FormattedValue)
    inner = node.value
    if isinstance(inner, ast.Call) and helper(inner):
        return MADE
    if isinstance(inner, ast.Name) and (inner.id.isupper() or inner.id == "__version__") and isinstance(values.get(inner.id), str):
        return values[inner.id]
    return DYNAMIC


def helper(call: ast.Call) -> str:
    """Return the name of the helper that is called, or ""."""
    name = call.func.id if isinstance(call.func, ast.Name) else call.func.attr if isinstance(call.func, ast.Attribute) else ""
    owner = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
    return name if name in HELPERS[:2] or (name == "command" and owner == "hub") else ""


def commands_in(text: str) -> Iterator[str]:
    """Yield the commands of a text; STRAY before a line with a mention that is neither in backticks, nor the rest of a line,
    nor a mere name.
    """
    for found in TRIGGER.finditer(text):
        begin = found.start()
        line = text[text.rfind("\n", 0, begin) + 1 :].split("\n", 1)[0]
        before, rest = text[:begin].rpartition("\n")[2], text[begin:].split("\n", 1)[0]
        if before.count("`") % 2:
            yield text[begin:].split("`", 1)[0]
        elif not before.strip() or re.search(r"(?::|then|&&|\w=\S+) *$", before):
            if TITLE.match(rest) and not before.strip(" \"'"):
                continue
            yield ended(rest)
        elif not TITLE.match(rest):
            yield f"{STRAY}{line.strip()}"


def ended(rest: str) -> str:
    """Return a command up to the point where the sentence goes on: a comment, a bracket apart, 'or' or 'then' behind a comma, the end."""
    rest = re.split(r"\s+#\s|\s{2,}(?![\s-])|\s\(|,? (?:or|and) (?:take|look|--)|, then|, or|; ", rest)[0]
    return rest.rstrip(" .")


def module_of(path: Path) -> dict:
    """Return the names of a source's module; none of a script's, which is not imported to look at its texts."""
    if ROOT / "scripts" in path.parents:
        return {}
    base = ROOT / "viewer" if ROOT / "viewer" in path.parents else ROOT
    dotted = ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
    return {} if dotted.endswith("__main__") else vars(importlib.import_module(dotted))


def found() -> Iterator[tuple[Path, str]]:
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        if not (TRIGGER.search(source) or "splatdistill " in source):
            continue
        values = module_of(path) if TRIGGER.search(source) else {}
        for text in texts(ast.parse(source), values):
            for line in commands_in(text) if text != f"splatdistill {DYNAMIC}" else ():  # a parser's name for itself
                yield path, line


LITERAL = sorted({(str(path.relative_to(ROOT)), line) for path, line in found()})
CALLS = [
    (path, call)
    for path in SOURCES
    if any(name in (source := path.read_text(encoding="utf-8")) for name in (*HELPERS[:2], "hub.command"))
    for call in ast.walk(ast.parse(source))
    if isinstance(call, ast.Call) and helper(call)
]


def test_the_search_sees_every_kind():
    begins = {" ".join(line.split()[:2]) for _, line in LITERAL}
    assert {"splatdistill train", "splatdistill view", "splatdistill export", "python -m", "pip install", "hf auth"} <= begins
    assert any(line.startswith("python scripts/") for _, line in LITERAL) and len(LITERAL) > 60 and len(CALLS) > 14
    for text in ('f"see splatdistill train {x}"', '"splatdistill train --resume " + x', 'f"to go on: splatdistill train --resume {x}"'):
        with pytest.raises(AssertionError):
            for each in texts(ast.parse(text), {}):
                for line in commands_in(each):
                    readable(line)


def readable(line: str) -> None:
    assert STRAY not in line, f"put the command into backticks, or behind a colon: {line[1:]!r}"
    assert DYNAMIC not in line, f"a value in a command has to go through as_typed: {line!r}"
    assert MADE not in line, f"a command has to be made by as_typed as a whole: {line!r}"
    assert not line.rstrip().endswith(("--resume", "--config", "--refine", "--init", "--replay")), f"cut: {line!r}"


@pytest.mark.parametrize(("path", "line"), LITERAL, ids=[f"{p}: {line[:60]}" for p, line in LITERAL])
def test_a_written_command_is_read_by_its_parser(path, line, monkeypatch, tmp_path):
    readable(line)
    monkeypatch.chdir(tmp_path)
    if line in (*(f"splatdistill {name}" for name in cli.COMMANDS), "hf download"):
        return  # a mere name
    with stopping(monkeypatch):
        assert parsed(line) >= 1


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, RunDir]:
    """Return a run stopped after two steps of four, pictures, and a generator, each in a folder whose name a shell would split; by the
    command that prints their names.
    """
    folder, pictures, generator = (tmp_path_factory.mktemp(name) / NASTY for name in ("runs", "pictures", "generator"))
    commands = Commands()
    prior = str(write_sd_folder(folder.parent / "sd"))

    def ask(event):
        if isinstance(event, StepDone) and event.step == 2:
            commands.put(Stop())

    distil("a red mushroom", "sds", prior=prior, steps=4, batch=1, init=Ball(count=30), device="cpu", out=folder, callbacks=[ask], commands=commands)
    assert main(["image", "--prior", "exact", "--prompt", "ring", "--particles", "16", "--steps", "1", "--out", str(pictures)]) == 0
    (prompts := folder.parent / "prompts.txt").write_text("a red ball\na blue cube\n", encoding="utf-8")
    assert main(["amortise", "--corpus", str(prompts), "--prior", prior, "--device", "cpu", "--steps", "1", "--generator.count", "30", "--out", str(generator)]) == 0
    return {"train": RunDir(folder), "image": RunDir(pictures), "amortise": RunDir(generator)}


def samples(path: Path, runs: dict[str, RunDir]) -> dict:
    """Return values for the names in printed commands."""
    run = runs.get(path.stem, runs["train"])
    return {
        "as_typed": as_typed,
        "hub": hub,
        "target": "someone/model",
        "w": SimpleNamespace(prompt="a red mushroom"),
        "folder": run,
        "self": SimpleNamespace(folder=run) if path.name == "run_page.py" else run,  # of RunDir.note_steering
        "best": SimpleNamespace(folder=run),
        "written": SimpleNamespace(path=run.splats),
        "argv": ["--prompts", run.path / "prompts.txt", "--guidances", "sds", "--out", run.path],
        "done": 2,
        "step": 2,
        "one": "a 'red' ball",
        "out": run.splats,
        "repo": "some one/model",
        "source": "someone/model",
        "include": ("*.json", "a b/*"),
        "exclude": ("safety_checker/*",),
        "command": "image",
        "near": ["export"],
        "p": "a 'red' mushroom",
        "part": "data", "more": ("--pack", "world.pack"),
        "case": SimpleNamespace(command="train", argv=["--prompt", "a red mushroom", "--out", NASTY]),
        "patterns": [("--include", "*.json"), ("--exclude", "a b/*")],
    }


@pytest.mark.parametrize(("path", "call"), CALLS, ids=[f"{p.name}:{c.lineno}" for p, c in CALLS])
def test_a_made_command_is_read_by_its_parser_with_names_that_need_quotes(path, call, runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {**module_of(path), **samples(path, runs)}
    line = eval(compile(ast.Expression(call), str(path), "eval"), names)
    if helper(call) == "as_typed":
        words = eval(compile(ast.Expression(ast.fix_missing_locations(ast.List(call.args, ast.Load()))), str(path), "eval"), names)
        assert shlex.split(line) == list(map(str, words))
    with stopping(monkeypatch):
        assert parsed(line) == 1


@pytest.mark.parametrize(("path", "call"), CALLS, ids=[f"{p.name}:{c.lineno}" for p, c in CALLS])
def test_so_is_one_with_names_that_begin_as_options_do(path, call, runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, run in runs.items():
        Path(f"-{name}").symlink_to(run.path, target_is_directory=True)
    dashed = {name: RunDir(Path(f"-{name}")) for name in runs}
    told = {**samples(path, dashed), "argv": ["--prompts", "p.txt", "--guidances", "sds", "--out=-bench"]}
    line = eval(compile(ast.Expression(call), str(path), "eval"), {**module_of(path), **told})
    with stopping(monkeypatch):
        assert parsed(line) == 1


def test_words_are_quoted_in_one_place_alone():
    others = [p for p in SOURCES if re.search(r"\bshlex\b|list2cmdline", p.read_text(encoding="utf-8")) and p.name != "shell.py"]
    assert others == []


@pytest.mark.parametrize("words", [("a", "b c"), ("", "'"), ('"', "a\\b"), (NASTY, "-x"), ("ü", "\t")])
def test_a_line_is_taken_apart_into_the_words_that_it_was_made_of(words, monkeypatch):
    assert shlex.split(as_typed(*words)) == list(words)
    assert shlex.split(as_typed("--out", Path("-x y"), Path("a/-b"), "-5")) == ["--out", "./-x y", "a/-b", "-5"]
    monkeypatch.setattr("splatdistill.shell.os", SimpleNamespace(name="nt", path=ntpath, curdir="."))
    line = as_typed("a b", 'c"d', 3)
    assert line == '"a b" c\\"d 3' and as_typed(PureWindowsPath("-x y")) == '".\\-x y"'
