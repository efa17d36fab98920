"""scripts/fuzz_weights.py on a few of its cases, each of them the same wherever it is made."""

import sys
from pathlib import Path

import pytest

from splatdistill.priors.weights import TINY

SCRIPTS = Path(__file__).parents[2] / "scripts"
pytestmark = pytest.mark.skipif(not (TINY / "model_index.json").is_file(), reason="the embedded weights are not in this checkout")


@pytest.fixture(scope="module")
def fuzz():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import fuzz_weights

        yield fuzz_weights
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def whole(fuzz, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "sd"
    fuzz.whole_folder(folder)
    return folder


def test_hostile_folders_are_refused_in_words_or_read(fuzz, whole, tmp_path):
    assert fuzz.checked(whole) == "whole" and fuzz.loaded(whole) == "answered"
    ended = [fuzz.trial("check", tmp_path, whole, 1, n) for n in range(60)]
    assert {how for how, _ in ended} == {"refused", "whole"}, [e for e in ended if e[0] not in ("refused", "whole")]
    ended = [fuzz.trial("load", tmp_path, whole, 1, n) for n in range(5)]
    assert {how for how, _ in ended} <= {"refused", "answered"}, ended


def test_a_case_is_told_by_its_seed_and_number(fuzz, whole, tmp_path):
    told = [fuzz.trial("check", tmp_path, whole, 3, 7) for _ in range(2)]
    assert told[0] == told[1] != fuzz.trial("check", tmp_path, whole, 3, 8)


def test_what_is_no_refusal_in_words_is_a_failure(fuzz, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "problems", lambda folder: ("a\x1b[2J",))
    assert fuzz.trial("check", tmp_path, whole, 0, 0)[0].startswith("ValueError")
    monkeypatch.setattr(fuzz, "problems", lambda folder: 1 / 0)
    assert fuzz.trial("check", tmp_path, whole, 0, 0)[0].startswith("ZeroDivisionError")
    monkeypatch.setitem(fuzz.SECONDS, "check", 1)
    monkeypatch.setattr(fuzz, "problems", lambda folder: __import__("time").sleep(30))
    assert fuzz.trial("check", tmp_path, whole, 0, 0)[0] == "HUNG"
