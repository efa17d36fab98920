"""The README's commands and examples are what it says they are, and they run (made small)."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from documents import block_commands, fenced
from helpers import write_sd_folder

from splatdistill.cli import main
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


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put random weights in the embedded prior's place, and work in an empty folder; return the weights' folder."""
    folder = write_sd_folder(tmp_path / "tiny", patches=True)
    monkeypatch.setattr(weights, "TINY", folder)
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    monkeypatch.setattr(weights, "has_cuda", lambda: False)
    monkeypatch.setattr("splatdistill.priors.hub.cached", lambda repo: None)
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_two_commands_come_first_and_as_promised():
    commands = [line.strip() for line in README.splitlines() if line.startswith("    pip install")]
    assert commands == [f"{INSTALL} && {TRAIN}", f"{INSTALL} && pytest"]


def test_it_stays_a_page_and_names_every_extra():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert len(README.splitlines()) < 135, "what is longer belongs into the README of a folder"
    assert {name for name in extras if f'.[{name}]"' not in README} <= {"lint"}


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


REDUCED = {
    "train": "--steps 2 --batch 1 --init.count 300 --init.opacity 0.95 --resolutions 16 --preview-every 0 --no-wait",
    "export": "",
    "render": "--frames 4",
}
TAKES = re.compile(r"(?:--refine|--checkpoint|--resume|--config|export|render|view|evaluate|--from) ([\w./-]*/[\w./-]+)")
"""A path that a command reads."""


@pytest.mark.slow
@pytest.mark.skipif(not EMBEDDED, reason="the embedded weights are not in this checkout")
def test_the_commands_run_one_after_the_other_and_find_what_the_earlier_ones_left(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ran, found = [], []
    for line in block_commands(README):
        command = line.split(" && ")[-1]
        if not command.startswith("splatdistill ") or "--prior sd2" in command:  # which needs weights
            continue
        for path in TAKES.findall(command):
            assert (tmp_path / path).exists(), f"{command}: there is no {path} when it is typed"
            found.append(path)
        name = command.split()[1]
        if name == "view":  # it would wait for someone who looks
            assert len(load_all(found[-1])) == 1
            continue
        reduced = [*shlex.split(command)[1:], *shlex.split(REDUCED[name])]
        assert main(reduced) == 0, command
        ran.append(name)
    assert ran == ["train", "train", "train", "export", "export", "export", "render"]
    assert found == ["runs/a-red-mushroom", "runs/snowmen/seed-2", *["runs/a-red-mushroom"] * 4]
    assert sorted(p.name for p in (tmp_path / "runs/snowmen").iterdir()) == ["seed-0", "seed-1", "seed-2", "seed-3"]
    assert all((tmp_path / f"mushroom.{kind}").stat().st_size for kind in ("sog", "glb", "mp4"))


def test_the_method_of_ones_own_trains(tiny, tmp_path):
    document = (ROOT / "splatdistill" / "README.md").read_text(encoding="utf-8")
    (source,) = [b for b in fenced(document, "python") if b.startswith("# my_file.py")]
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
    (source,) = fenced(README, "python")
    small = source.replace("steps=300", "steps=2").replace("range(100)", "range(2)")
    assert small.count("2)") >= 2
    names: dict = {}
    exec(compile(small, "README.md", "exec"), names)
    assert (
        names["result"].files.splats.exists() and names["done"].step == 2 and names["picture"].shape == (4, 3, 128, 128)
    )
