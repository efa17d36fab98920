"""A few hundred hostile files; scripts/fuzz_readers.py makes as many as are asked for, and limits memory besides."""

import importlib.util
import sys
from pathlib import Path
from random import Random

import pytest
from conftest import ROOT

from splatdistill.errors import UserError

sys.path.append(str(ROOT / "scripts"))  # where a script finds its neighbours
spec = importlib.util.spec_from_file_location("fuzz_readers", ROOT / "scripts" / "fuzz_readers.py")
fuzz = importlib.util.module_from_spec(spec)
sys.modules["fuzz_readers"] = fuzz  # its dataclass looks itself up
spec.loader.exec_module(fuzz)


def test_hostile_files_are_read_or_explained(tmp_path: Path) -> None:
    found = fuzz.fuzz(tmp_path, 20, range(440))
    assert sum(found.values()) == 440
    for kind in ("4.spz", "compressed.ply", "html", "jpg", "json", "ply", "png", "sog", "splat", "spz", "webp"):
        assert found[f"{kind} refused"] > 0 or kind == "splat"
        assert found[f"{kind} read"] > 0 or kind in ("sog", "json")


@pytest.mark.parametrize("fault", [lambda path: 1 / 0, lambda path: None, lambda path: (_ for _ in ()).throw(UserError("no name in it"))])
def test_what_is_neither_is_found_out(tmp_path: Path, fault) -> None:
    files = [fuzz.Good("splat", bytes(64), fault)]
    with pytest.raises((ZeroDivisionError, AssertionError)):
        fuzz.try_one(files, tmp_path, 0, 0)


def test_the_same_number_is_the_same_file(tmp_path: Path) -> None:
    for good in fuzz.good_files(tmp_path)[::3]:
        for number in range(4):
            first, second = (fuzz.hostile(good.kind, good.data, tmp_path / f"x.{good.kind}", Random(number)) for _ in range(2))
            assert first == second
            if first.is_file():
                data = first.read_bytes()
                assert fuzz.hostile(good.kind, good.data, tmp_path / f"x.{good.kind}", Random(number)).read_bytes() == data
