"""Hostile settings: a few here, thousands by scripts/fuzz_settings.py."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import fuzz_settings as fuzz


def test_hostile_settings_parse_or_are_refused_in_time():
    told: list[str] = []
    ends, longest = fuzz.run(1, range(80), told.append)
    assert told == [] and set(ends) == {"parsed", "refused"} and min(ends.values()) > 4 and longest < fuzz.LIMIT


def test_a_seed_and_a_number_make_the_same_case_again():
    assert [fuzz.made(7, n) for n in range(40)] == [fuzz.made(7, n) for n in range(40)]
    assert fuzz.made(7, 1) != fuzz.made(8, 1)


@pytest.mark.parametrize("wrong", [ValueError("a bug"), SystemExit(2), RecursionError()], ids=repr)
def test_anything_else_is_a_fault(monkeypatch, wrong):
    def broken(*args):
        raise wrong

    monkeypatch.setattr(fuzz, "parse", broken)
    monkeypatch.setattr(fuzz, "command_line", broken)
    told: list[str] = []
    assert fuzz.run(0, range(3), told.append)[0] == {"fault": 3} and type(wrong).__name__ in told[0]


def test_slowness_is_told(monkeypatch):
    monkeypatch.setattr(fuzz, "LIMIT", 0.0)
    assert set(fuzz.run(0, range(2), lambda text: None)[0]) == {"slow"}
