"""scripts/measure_asd_premise.py: the shift that fits, and what is measured of a run whose adapter is the prior itself."""

import json
import sys

import pytest
import torch
from conftest import ROOT

import splatdistill

sys.path.insert(0, str(ROOT / "scripts"))
from measure_asd_premise import LEVELS, SHOWN, fitting, main, measure


def curve(shift: float, least: float = 0.02) -> dict:
    """Return errors that fall as 1 / t, and an adapter that is as good as the prior a share of t - least later."""
    return {"least": least, "prior": {str(t): 1 / t for t in LEVELS}, "adapter": {str(t): 1 / (t + shift * (t - least)) for t in LEVELS}}


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.35])
def test_the_shift_that_fits_is_found_between_levels(shift):
    assert fitting(curve(shift), 0.5) == pytest.approx(shift, abs=0.01)


def test_no_later_time_and_no_better_adapter_are_told_apart():
    assert fitting(curve(-0.2), 0.5) == 0.0
    assert fitting(curve(3.0), 0.5) is None


def test_an_adapter_that_has_learned_nothing_is_as_good_as_the_prior_and_no_better():
    """Before the first step, without words of the view; renders and noise are the same for all that is compared."""
    session = splatdistill.session("a red mug", "vsd", prior="tiny", view_dependent=False)
    found = measure(session, 2, torch.Generator().manual_seed(0))
    assert found["adapter"] == pytest.approx(found["prior"], rel=1e-4)
    assert list(found["prior"]) == list(LEVELS) and list(found["eta 0.1"]) == list(SHOWN)
    assert all(e > 0 for e in found["prior"].values())


@pytest.mark.slow
def test_measured_runs_are_kept_and_other_settings_are_refused(tmp_path, capsys):
    told = ["--out", str(tmp_path), "--prompts", "a red mug", "--seeds", "0", "--pictures", "2"]
    assert main([*told, "--steps", "4"]) == 0
    kept = json.loads((tmp_path / "a-red-mug-0.json").read_text(encoding="utf-8"))
    assert list(kept["quarters"]) == ["0.25", "0.5", "0.75", "1.0"] and (tmp_path / "errors.png").is_file()
    first = capsys.readouterr().out
    assert main([*told, "--steps", "4"]) == 0
    assert "steps" not in capsys.readouterr().out.split("prompts")[0] and "4 steps" in first
    with pytest.raises(splatdistill.errors.UserError, match="Give another --out"):
        main([*told, "--steps", "5"])
