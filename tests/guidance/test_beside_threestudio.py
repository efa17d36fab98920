"""Our guidances beside threestudio's own code, where a snapshot of its repository is named; and what the script says without."""

import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import benchmark_threestudio as script
import threestudio_sides as sides
from threestudio_snapshot import STAND_INS, Snapshot, installed

VARIABLE = "SPLATDISTILL_THREESTUDIO"
FOLDER = os.environ.get(VARIABLE)
needs_snapshot = pytest.mark.skipif(not FOLDER, reason=f"${VARIABLE} names no copy of threestudio's repository")


@cache
def made() -> sides.Networks:
    script.quiet()
    return sides.networks(8, 8, "cpu")


def snapshot() -> Snapshot:
    assert FOLDER
    return Snapshot(Path(FOLDER), torch.device("cpu"))


@needs_snapshot
@pytest.mark.parametrize("name", sides.METHODS)
def test_the_gradient_is_threestudios(name: str) -> None:
    """3e-7 and 2e-5 are what its table in float32 makes of one network call, and of SDI's seven."""
    found = script.gradient(name, made(), snapshot(), 1, "cpu")
    assert found["gradient"] < 1e-5 and found["with its table"] < 5e-5 and found["size"] > 0


@needs_snapshot
def test_views_of_a_batch_have_threestudios_gradients_and_another_scale_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert script.gradient("sds", made(), snapshot(), 2, "cpu")["gradient"] < 1e-10
    ours = replace(sides.METHODS["sds"].ours, scale=101.1)  # type: ignore[call-arg]
    monkeypatch.setitem(sides.METHODS, "sds", replace(sides.METHODS["sds"], ours=ours))
    assert script.gradient("sds", made(), snapshot(), 1, "cpu")["gradient"] > 1e-4


@needs_snapshot
def test_times_are_of_both_and_of_our_calls_alone(capsys: pytest.CaptureFixture[str]) -> None:
    found = script.times("sds", made(), snapshot(), 1, "cpu", 2)
    assert found["images"] == 2 and all(len(found[k]) == 2 and min(found[k]) > 0 for k in ("ours", "theirs", "calls"))
    assert "of its own calls" in capsys.readouterr().out


@needs_snapshot
def test_at_four_views_less_memory_than_threestudio() -> None:
    """At Stable Diffusion's own sizes, counted without computing."""
    assert FOLDER
    found = script.memory(Path(FOLDER), 4)
    assert found["ours, --low-memory"] <= 0.7 * found["theirs"] and found["theirs, not decoding"] < found["theirs"]


@needs_snapshot
def test_libraries_that_were_stood_in_for_are_away_again() -> None:
    snapshot().module("models.guidance.stable_diffusion_guidance")
    assert not [name for name in STAND_INS if name in sys.modules and not installed(name)]


def test_draws_are_the_same_whoever_asks() -> None:
    drawn = []
    for device_draws in (lambda: torch.randn(2, 3), lambda: torch.randn_like(torch.empty(2, 3)), lambda: torch.randn((2, 3), generator=torch.Generator())):
        with script.same_draws(3):
            drawn.append((device_draws(), torch.randn(1), torch.rand(2)))
    for other in drawn[1:]:
        assert all(torch.equal(a, b) for a, b in zip(drawn[0], other, strict=True))
    assert drawn[0][0].std() > 0 and not torch.equal(torch.rand(2), torch.rand(2))  # and outside they are random again


def test_without_a_snapshot_it_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 77 and "--threestudio DIR" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        script.main(["--threestudio", str(tmp_path)])
    assert ended.value.code == 2 and "is no copy of threestudio's repository" in capsys.readouterr().err
