"""The README's commands and examples are what it says they are, and they run (made small)."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill.cli import COMMANDS, main
from splatdistill.priors import weights

README = (ROOT / "README.md").read_text()
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
        for line in (ROOT / "scripts/constraints.txt").read_text().splitlines()
        if "==" in line
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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


def test_files_that_it_names_exist():
    for path in re.findall(r"`((?:splatdistill|configs|scripts|tests)/[\w/.]*)`", README):
        assert (ROOT / path).exists(), path
    assert all((ROOT / path).exists() for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README))


def test_the_method_of_ones_own_trains(tiny, tmp_path):
    (source,) = [b for b in blocks("python") if b.startswith("# my_file.py")]
    (tmp_path / "my_file.py").write_text(source)
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
    assert "strength: 0.25" in (tmp_path / "run" / "config.yaml").read_text()


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
