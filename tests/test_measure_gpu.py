"""scripts/measure_gpu.py, rehearsed on the CPU: every part runs, says what it found at once, and fails by itself."""

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script, as it is started from the repository's root."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import measure_gpu

    return measure_gpu


def rehearse(script: ModuleType, out: Path, parts: str) -> dict:
    assert script.main(["--rehearse", "--out", str(out), "--parts", parts]) == 0
    return json.loads((out / "gpu.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_it_says_so(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--out", str(tmp_path)]) == 77
    assert "--rehearse" in capsys.readouterr().out


def test_the_quick_parts_find_what_they_are_for_and_results_merge(script: ModuleType, tmp_path: Path) -> None:
    first = rehearse(script, tmp_path, "1-3")
    assert first["machine"]["torch"] == torch.__version__ and first["build"]["build"] > 0
    rows = first["parity"]["rows"]
    assert rows and all(0 <= error < 1e-3 for row in rows.values() for error in row.values())
    both = rehearse(script, tmp_path, "7")
    assert both["machine"] == first["machine"]
    assert 0 < both["vsd"]["batch 1, 2^0"]["largest"] * 1000 < both["vsd"]["batch 1, 2^10"]["largest"] * 1.01
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "## machine" in text and "| 1 at 33 |" in text and "## vsd" in text


def test_a_part_that_fails_is_noted_and_the_next_one_runs(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu import PARTS, Part

    def broken(where: object) -> dict:
        raise RuntimeError("no such card\nsecond line")

    monkeypatch.setitem(PARTS, 1, Part("machine", broken, 5))
    monkeypatch.setitem(PARTS, 7, Part("vsd", lambda where: {"found": 3.25}, 5))
    assert script.main(["--rehearse", "--out", str(tmp_path), "--parts", "1,7"]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert found["machine"]["failed"] == "RuntimeError: no such card" and found["vsd"]["found"] == 3.25
    assert "It failed: RuntimeError" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_a_part_that_outruns_its_limit_is_ended(script: ModuleType, tmp_path: Path) -> None:
    import subprocess

    from gpu import PARTS, Part, Where

    slow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    found = script.finished(1, Part("slow", PARTS[1].run, 0.5), Where(tmp_path, True), slow, 0.5)
    assert "ended after" in found["failed"]
    assert slow.poll() is not None


@pytest.mark.parametrize(("text", "numbers"), [("1-4", [1, 2, 3, 4]), ("2,5-6,2", [2, 5, 6])])
def test_parts_are_chosen_by_numbers(script: ModuleType, text: str, numbers: list[int]) -> None:
    assert script.chosen(text) == numbers
    with pytest.raises(ValueError, match="no part 11"):
        script.chosen("1,11")


def test_limits_fit_into_eight_minutes(script: ModuleType) -> None:
    """The build runs beside networks and VSD's gradients; the others one after the other."""
    from gpu import PARTS

    beside = sum(p.limit for p in PARTS.values() if not p.renders and not p.background)
    build = next(p.limit for p in PARTS.values() if p.background)
    assert max(beside, build) + sum(p.limit for p in PARTS.values() if p.renders) <= 8 * 60


@pytest.mark.slow
def test_all_parts(script: ModuleType, tmp_path: Path) -> None:
    found = rehearse(script, tmp_path, "1-10")
    assert set(found) == {part.name for part in script.PARTS.values()}
    assert all(row["images"] > 0 and row["ms"] > 0 for row in found["steps"]["rows"].values())
    assert found["tiny"]["the same seed, the same splats"] is True and found["cards"]["rows"]["sds 1 x 4, 8 GB"] == "fits"
    assert all(math.isfinite(row["gradient's error"]) for row in found["networks"]["encode"].values())
