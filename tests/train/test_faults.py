"""The two scripts that harm runs: a few inputs of each kind here, thousands by hand."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def test_hostile_run_folders_are_refused_passed_over_or_harmless(capsys, monkeypatch, tmp_path):
    from splatdistill.train import loop

    monkeypatch.setattr(loop, "finish", loop.finish)  # the script makes it quick
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("fuzz_runs")
    status = script.main(["--count", "25", "--seed", "3"])
    said = capsys.readouterr().out
    assert status == 0 and "0 wrong" in said, said
    assert "an older one" in said and "refused" in said and "the same" in said


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forks of one process")
def test_killed_runs_go_on_to_the_same_splats():
    done = subprocess.run([sys.executable, SCRIPTS / "kill_runs.py", "--count", "24", "--methods", "sds", "vsd", "sdi"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "; 0 wrong" in done.stdout, done.stdout + done.stderr
