"""Consoles and locales that are not UTF-8: what they cannot print is replaced, files are UTF-8 whatever they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill.io.ply import read_comments
from splatdistill.train.run import RunDir

PROMPT, FOLDER = "一只柯基 im größten Œuvre", "größer 画"
CP1252 = {"PYTHONIOENCODING": "cp1252:strict", "PYTHONUTF8": "0"}  # a Windows console, or output that is redirected there
POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
BOTH = {**POSIX, **CP1252}


def said(cwd: Path, variables: dict[str, str], *argv: str) -> tuple[int, str]:
    """Run a process of its own: its status, and all that it printed, as its console shows it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    path = os.pathsep.join([str(ROOT), str(ROOT / "viewer"), env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "splatdistill", *argv],
        cwd=cwd,
        env={**env, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", **variables},
        capture_output=True,
        timeout=300,
        check=False,
    )
    text = (done.stdout + done.stderr).decode("cp1252" if "PYTHONIOENCODING" in variables else "ascii")  # a letter of another code is an error here
    assert "Traceback" not in text and "Error" not in text, text
    return done.returncode, text


@pytest.mark.parametrize("variables", [BOTH, pytest.param(CP1252, marks=pytest.mark.slow), pytest.param(POSIX, marks=pytest.mark.slow)], ids=["both", "cp1252", "C"])
def test_everything_runs_and_every_file_is_utf8(tmp_path, variables):
    (tmp_path / "é.yaml").write_text(f"prompt: {PROMPT}\n", encoding="utf-8")
    prior = write_sd_folder(tmp_path / "prior é", patches=True)
    small = ["--prior", str(prior), "--guidance", "sds", "--steps", "2", "--batch", "1", "--init.count", "30", "--preview-every", "0"]
    words = ["--prompt", PROMPT] if variables is CP1252 else ["--config", "é.yaml"]  # a locale of ASCII takes typed letters apart
    status, text = said(tmp_path, variables, "train", *small, *words, "--out", FOLDER)
    assert status == 0 and "im gr" in text and text.count("?") >= 4, text  # of the four letters that no console of these has
    run = RunDir(tmp_path / FOLDER)
    config = run.config.read_bytes().decode("utf-8")
    assert yaml.safe_load(config)["prompt"] == PROMPT and f"--config '{FOLDER}/config.yaml'" in config and run.settings()["prompt"] == PROMPT
    assert f"prompt {PROMPT}" in read_comments(run.splats) and run.finished()

    status, text = said(tmp_path, variables, "evaluate", FOLDER, "--views", "4", "--json", "ü.json", "--csv", "ü.csv")
    assert status == 0 and "coverage" in text
    assert json.loads((tmp_path / "ü.json").read_bytes())["runs"][0]["prompt"] == PROMPT
    assert PROMPT in (tmp_path / "ü.csv").read_bytes().decode("utf-8")

    status, text = said(tmp_path, variables, "export", FOLDER, "--format", "html", "--out", "œ.html")
    assert status == 0 and "read back" in text and PROMPT in (tmp_path / "œ.html").read_bytes().decode("utf-8")


@pytest.mark.parametrize("variables", [CP1252, POSIX], ids=["cp1252", "C"])
@pytest.mark.parametrize(
    ("argv", "status", "wanted"),
    [
        (["bench", "--list"], 0, "gallery"),
        (["tränen"], 2, "error: there is no command 'tr"),
        (["train", "--prömpt", "画"], 2, "did you mean --prompt?"),
    ],
)
def test_messages_with_other_letters_are_printed(tmp_path, variables, argv, status, wanted):
    got, text = said(tmp_path, variables, *argv)
    assert got == status and wanted in text


def test_a_prompt_that_the_locale_took_apart_is_refused_in_a_line(tmp_path):
    prior = write_sd_folder(tmp_path / "prior", patches=True)
    status, text = said(tmp_path, POSIX, "train", "--prior", str(prior), "--prompt", PROMPT, "--guidance", "sds")
    assert status == 2 and "holds bytes that are not text; type it in UTF-8" in text and text.count("\n") == 1
