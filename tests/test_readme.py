"""The README's commands and examples are what it says they are, and they run (made small)."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import parsed, stopping
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill.cli import COMMANDS, main
from splatdistill.export.saved_splats import load_all
from splatdistill.priors import weights

README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = {
    "name", "version", "description", "readme", "requires-python", "license", "license-files", "authors", "maintainers", "keywords",
    "classifiers", "urls", "scripts", "gui-scripts", "entry-points", "dependencies", "optional-dependencies", "dynamic",
}  # fmt: skip
"""Keys of [project] (packaging.python.org, pyproject.toml specification)."""
INSTALL = 'pip install -c scripts/constraints.txt -e ".[test]"'
TRAIN = 'splatdistill train --guidance sdi --prompt "a red mushroom"'
EMBEDDED = (weights.TINY / "model_index.json").exists()


def blocks(language: str) -> list[str]:
    """The fenced code of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in the embedded prior's place, and an empty folder to work in."""
    folder = write_sd_folder(tmp_path / "tiny", patches=True)
    monkeypatch.setattr(weights, "TINY", folder)
    monkeypatch.setattr(weights, "has_cuda", lambda: False)
    monkeypatch.setattr("splatdistill.priors.hub.cached", lambda repo: None)
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_two_commands_come_first_and_as_promised():
    commands = [line.strip() for line in README.splitlines() if line.startswith("    pip install")]
    assert commands == [f"{INSTALL} && {TRAIN}", f"{INSTALL} && pytest"]


def test_the_constraints_pin_every_dependency():
    import tomllib

    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "scripts/constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project.keys() <= PROJECT, "keys that no installer takes"
    wanted = [
        re.match(r"[\w-]+", d).group().lower()
        for d in (*project["dependencies"], *project["optional-dependencies"]["test"])
    ]
    assert set(wanted) <= pinned and "torch" in pinned


@pytest.mark.skipif(not EMBEDDED, reason="the embedded weights are not in this checkout")
def test_the_train_command_runs(tmp_path):
    argv = [*shlex.split(TRAIN)[1:], "--prior", "tiny", "--steps", "3", "--out", str(tmp_path / "run")]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "splatdistill", *argv],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    for name in ("splats.ply", "turntable.mp4", "sheet.png", "config.yaml"):
        assert (tmp_path / "run" / name).stat().st_size > 0


def test_commands_and_options_that_it_names_exist(capsys):
    called = {m for m in re.findall(r"splatdistill ([a-z]+) ?[-\[`\"]", README)}
    assert called and called <= COMMANDS.keys()
    for command in ("train", "image", "variance", "evaluate", "bench", "render", "export"):
        assert main([command, "--help"]) == 0
    known = capsys.readouterr().out + "--sheet --captions --prior"
    option = r"(?<![\w-])(--[a-z][a-z.-]+)"
    for script, its in re.findall(r"`(scripts/\w+\.py)( [^`]*)`", README):
        text = (ROOT / script).read_text(encoding="utf-8")
        for module in re.findall(r"^from embedded\.(\w+) import main", text, re.M):
            text += (ROOT / "scripts" / "embedded" / f"{module}.py").read_text(encoding="utf-8")
        for named in re.findall(option, its):  # a script's own, or passed on to train
            assert named in text + known, (script, named)
    for named in re.findall(option, re.sub(r"`scripts/[^`]*`", "", README)):
        assert named in known, named


def shell_lines() -> list[str]:
    """The indented lines of commands, in order; those of the synopsis joined with what goes on below them."""
    text = re.sub(r"\n {8,}", " ", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


MEANT = {"--guidance NAME": "--guidance sds", "--guidances NAME": "--guidances sds", "--preset NAME": "--preset gallery", "TEXT": '"a red mushroom"', "N": "8", "S": "3", "K": "48", "RUN|FILE": "RUN"}


def spelt_out(line: str) -> list[str]:
    """The commands that a line of the synopsis stands for, with everything that it says may be given: one for each alternative
    between words, and of those inside a word the first.
    """
    line = re.sub(r"[\[\]]", "", line.replace("...", ""))
    for placeholder, meant in MEANT.items():
        line = re.sub(rf"(?<![\w.]){re.escape(placeholder)}(?![\w.|])", meant, line)
    head, _, rest = line.partition(" --")
    first, bar, second = rest.partition(" | ")
    alternatives = [f"--{first}", second.partition(" --seeds")[0]] if bar else [f"--{rest}" if rest else ""]
    tail = " --seeds" + second.partition(" --seeds")[2] if bar else ""
    return [re.sub(r"(?<=[\w.])\|[\w.:|-]+", "", f"{head} {a}{tail}") for a in alternatives]


@pytest.mark.skipif(not EMBEDDED, reason="the embedded weights are not in this checkout")
def test_every_line_of_commands_is_read_by_its_parser(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seen = 0
    for line in shell_lines():
        synopsis = "[" in line.replace(".[test]", "") or "|" in line or "..." in line
        for command in spelt_out(line) if synopsis else [line]:
            if "--refine runs/" in command:  # of a run that is not there: below they run in order
                continue
            command = re.sub(r" --(?:resume|config|refine) (?:DIR|FILE)", "", command)
            with stopping(monkeypatch):
                seen += parsed(command.strip())
    scripts = re.findall(r"`(scripts/\w+\.py [^`]+)`", README)  # bare names are no commands
    for command in scripts:
        with stopping(monkeypatch):
            seen += parsed("python " + command.replace("NAME", "sds"))
    assert seen > 25 and len(scripts) > 6


REDUCED = {
    "train": "--steps 2 --batch 1 --init.count 300 --init.opacity 0.95 --resolutions 16 --preview-every 0 --no-wait",
    "image": "--steps 2",
    "variance": "--draws 48 --steps 2 --scenes 1",
    "export": "",
}
TAKES = re.compile(r"(?:--refine|--checkpoint|--resume|--config|export|render|view|evaluate) ([\w./-]*/[\w./-]+)")
"""A path that a command reads."""


@pytest.mark.slow
@pytest.mark.skipif(not EMBEDDED, reason="the embedded weights are not in this checkout")
def test_the_commands_run_one_after_the_other_and_find_what_the_earlier_ones_left(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ran, found = [], []
    for line in shell_lines():
        command = line.split(" && ")[-1]
        if not command.startswith("splatdistill ") or "[" in command or command.split()[1] in ("toybox", "doctor") or "..." in command:
            continue
        for path in TAKES.findall(command):
            assert (tmp_path / path).exists(), f"{command}: there is no {path} when it is typed"
            found.append(path)
        name = command.split()[1]
        if name == "view":  # it would wait for someone who looks
            assert len(load_all(found[-1])) == 4
            continue
        reduced = shlex.split(command)[1:] + shlex.split(REDUCED[name] if "--prior exact" not in command else "--steps 2 --particles 64")
        assert main(reduced) == 0, command
        ran.append(name)
    assert ran == ["train", "train", "train", "export", "export", "image", "image", "variance", "variance"]
    assert found == ["runs/mushrooms/seed-2", "runs/mushrooms", "runs/a-red-mushroom", "runs/a-red-mushroom", "runs/a-red-mushroom"]
    assert sorted(p.name for p in (tmp_path / "runs/mushrooms").iterdir()) == ["seed-0", "seed-1", "seed-2", "seed-3"]


def test_files_that_it_names_exist():
    for path in re.findall(r"`((?:splatdistill|configs|scripts|tests)/[\w/.]*)`", README):
        assert (ROOT / path).exists(), path
    assert all((ROOT / path).exists() for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))


def test_the_method_of_ones_own_trains(tiny, tmp_path):
    (source,) = [b for b in blocks("python") if b.startswith("# my_file.py")]
    (tmp_path / "my_file.py").write_text(source, encoding="utf-8")
    argv = [
        "train",
        "--prompt",
        "a red ball",
        "--guidance",
        "my_file.py:Mine",
        "--guidance.strength",
        "0.25",
        "--steps",
        "2",
        "--init.count",
        "30",
    ]
    assert main([*argv, "--out", "run"]) == 0
    assert "strength: 0.25" in (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore:Using the embedded prior")
def test_the_python_example_runs(tiny, tmp_path, capsys):
    (source,) = [b for b in blocks("python") if b.startswith("import splatdistill")]
    small = source.replace("steps=300", "steps=2").replace("range(100)", "range(2)")
    assert small.count("2)") >= 2
    names: dict = {}
    exec(compile(small, "README.md", "exec"), names)
    assert (
        names["result"].files.splats.exists() and names["done"].step == 2 and names["picture"].shape == (4, 3, 128, 128)
    )
