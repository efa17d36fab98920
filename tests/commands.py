"""Commands as people type them, read by the parsers that would read them, which stop before any work."""

import argparse
import importlib
import importlib.util
import shlex
import sys
import tomllib
import venv
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT

from splatdistill import cli

EXTRAS = {"image-reward", "torch", "gsplat", "playwright", "fast-simplification", "pyfqmr"}  # installed by hand where they are wanted


class Done(Exception):
    """Raised where the work would begin."""


@contextmanager
def stopping(monkeypatch: pytest.MonkeyPatch):
    """Make every subcommand and every script stop once its options are parsed."""
    with monkeypatch.context() as patch:
        for name in cli.COMMANDS:
            module = importlib.import_module(f"splatdistill.cli.{name}")
            for reader in ("command_line", "parse") if name != "train" else ():
                if hasattr(module, reader):
                    patch.setattr(module, reader, then_stop(getattr(module, reader)))
        train = importlib.import_module("splatdistill.cli.train")
        patch.setattr(train, "begin", stop)  # so that --resume, --replay, --refine and --init find what they name
        known = argparse.ArgumentParser.parse_known_args

        def parse_args(self, args=None, namespace=None):
            _, left = known(self, args, namespace)
            if left:
                self.error(f"unrecognized arguments: {' '.join(left)}")
            raise Done

        def parse_known_args(self, args=None, namespace=None):
            _, left = known(self, args, namespace)
            raise Done(left)  # of a script that passes them on to `splatdistill train`

        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
        patch.setattr(venv.EnvBuilder, "create", stop)
        yield


def stop(*args, **kwargs):
    raise Done


def then_stop(read):
    def reading(*args, **kwargs):
        read(*args, **kwargs)
        raise Done

    return reading


def parsed(line: str) -> int:
    """Parse a line's commands with their own parsers; return their number. A parser's error is raised here."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.commenters = ""
    words.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", ";"):
            commands.append([])
        elif word == "...":
            continue
        else:
            assert word == "" or set(word) - set("<>|&;()"), f"{word!r} means something else to a shell: {line}"
            commands[-1].append(word)
    for command in commands:
        one(command, line)
    return len(commands)


def one(words: list[str], line: str) -> None:
    """Parse a command with its own parser."""
    match words:
        case ["splatdistill", *rest]:
            with pytest.raises(Done):
                if rest in (["doctor"], ["--help"], ["--version"]) or (len(rest) == 2 and rest[1] == "--help" and rest[0] in cli.COMMANDS):
                    raise Done
                raise AssertionError(f"{line}: status {cli.dispatch(rest)}")
        case ["hf", *rest]:
            hf(rest)
        case ["pip", "install", *rest] | ["reward/bin/pip", "install", *rest]:
            pip(rest)
        case ["python", "-c", code]:
            compile(code, line, "exec")
        case ["python", "-m", "splatdistill", *rest]:
            one(["splatdistill", *(rest or ["--help"])], line)
        case ["python", "-m", "venv", *rest]:
            with pytest.raises(Done):
                venv.main(rest)
        case ["python", script, *rest]:
            run_script(ROOT / script, rest)
        case ["tensorboard", "--logdir", _] | ["pytest", *_] | ["apt-get", "install", "chromium"] | ["ray", "start", "--head"] | ["nvidia-smi"]:
            pass
        case _:
            raise AssertionError(f"no parser is known for {words}: {line}")


def hf(words: list[str]) -> None:
    """Parse the words with hf's own command line."""
    from huggingface_hub.cli.hf import app

    command, context = app, app.make_context("hf", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*getattr(context, "_protected_args", []), *context.args])
        context = command.make_context(name, rest, parent=context)
    assert not context.args, f"hf leaves {context.args} over"


def pip(words: list[str]) -> None:
    """Parse the words with pip's own command line; only this project, or a package that it knows, may be installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from pip._internal.commands import create_command

    options, wanted = create_command("install").parse_args(list(words))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    known = {canonicalize_name(Requirement(d).name) for d in named} | EXTRAS
    assert wanted or options.editables, f"nothing to install: {words}"
    assert all(canonicalize_name(Requirement(w).name) in known for w in wanted), f"packages that nobody knows: {wanted}"
    assert all((ROOT / e.split("[")[0] / "pyproject.toml").is_file() for e in options.editables)
    assert all((ROOT / c).is_file() or not c.startswith("scripts/") for c in options.constraints)


def run_script(path: Path, words: list[str]) -> None:
    """Parse the words with a script's own parser."""
    assert path.is_file() and path.parent in (ROOT / "scripts", ROOT / "scripts" / "examples"), path
    source = path.read_text(encoding="utf-8")
    if "ArgumentParser(" not in source and "import main" not in source:
        assert not words, f"{path.name} takes no options"
        return
    name = f"script_{path.stem}"
    sys.path.insert(0, str(path.parent))
    before = sys.argv
    try:
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(sys.modules[name])
            except ModuleNotFoundError as e:
                del sys.modules[name]
                if e.name is None or e.name.partition(".")[0] not in EXTRAS:
                    raise
                pytest.skip(f"{path.name} needs {e.name}, which is not installed")
        sys.argv = [str(path), *words]
        with pytest.raises(Done) as done:
            sys.modules[name].main()
        if done.value.args and "--train" in words:
            one(["splatdistill", "train", "--prompt", "a red mushroom", *done.value.args[0]], str(path))
    finally:
        sys.argv = before
        sys.path.remove(str(path.parent))
