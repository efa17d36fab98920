"""The parts that splatdistill/README.md shows how to add: each is short, and works as it stands there."""

import importlib
import re
import sys

import pytest
import torch
from conftest import ROOT
from documents import fenced

from splatdistill.evaluate.metrics import METRICS
from splatdistill.export.write import FORMATS, export
from splatdistill.gaussians import Gaussians
from splatdistill.io import read_splats
from splatdistill.io.read import READERS
from splatdistill.settings.commands import parse_train

BLOCKS = {re.match(r"# (\w+)\.py\n", b).group(1): b for b in fenced((ROOT / "splatdistill" / "README.md").read_text(encoding="utf-8"), "python")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Yield a folder, importable by Python, with the files of the document; registries are restored afterwards."""
    for name, source in BLOCKS.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in (FORMATS, READERS, METRICS):
        for key in ("csv", "elongation"):
            monkeypatch.setitem(registry, key, None)
            del registry[key]
    yield tmp_path
    for name in BLOCKS:
        sys.modules.pop(name, None)


def some(count: int) -> Gaussians:
    scales = torch.tensor([0.1, 0.2, 0.3]).expand(count, 3)
    return Gaussians(torch.randn(count, 3), torch.randn(count, 4), scales, torch.linspace(0, 1, count), torch.rand(count, 1, 3))


def test_each_is_under_forty_lines():
    assert BLOCKS.keys() == {"my_file", "my_prior", "my_run", "my_densifier", "my_format", "my_metric"}
    assert all(len(source.splitlines()) < 40 for source in BLOCKS.values())


def test_the_prior_of_ones_own_makes_the_splats_its_colour(folder, capsys):
    importlib.import_module("my_run")
    red, green, blue = map(float, re.findall(r"\d\.\d+", capsys.readouterr().out))
    assert red > 0.52 and green < 0.48 and blue < 0.48


def test_the_densifier_of_ones_own_keeps_the_most_opaque(folder):
    own = importlib.import_module("my_densifier").KeepBest(count=20, every=5)
    prior = importlib.import_module("my_prior").OneColour(0.9, 0.1, 0.1)
    from splatdistill import SDS, Session, Train
    from splatdistill.scene.initial import Ball

    session = Session(Train(prompt="x", guidance=SDS(scale=1.0), steps=6, densify=own, init=Ball(count=60), seed=1), prior)
    counts = [session.step().gaussians for _ in range(6)]
    assert counts == [60, 60, 60, 60, 20, 20]


@pytest.mark.parametrize(
    ("part", "spelling", "options", "values"),
    [("guidance", "my_file.py:Mine", ["--guidance.strength", "0.25"], {"strength": 0.25}), ("densify", "my_densifier.py:KeepBest", ["--densify.count", "500"], {"count": 500, "every": 100})],
)
def test_the_command_line_takes_what_is_ones_own(folder, part, spelling, options, values):
    parsed = parse_train(["--prompt", "a red ball", f"--{part}", spelling, *options], lambda source: "tiny")
    chosen = getattr(parsed.config, part)
    assert type(chosen).__name__ == spelling.partition(":")[2] and {k: getattr(chosen, k) for k in values} == values


def test_the_format_of_ones_own_is_written_read_back_and_read(folder):
    importlib.import_module("my_format")
    done = export("some.csv", "csv", some(9))
    assert done.count == 9 and len((folder / "some.csv").read_text(encoding="utf-8").splitlines()) == 9
    assert torch.allclose(read_splats("some.csv").scales, some(9).scales)


def test_the_metric_of_ones_own_is_known_by_its_name(folder):
    own = importlib.import_module("my_metric")
    assert str(own.elongation(some(9))) == "3.00" and METRICS["elongation"].digits == 2
    assert own.elongation(some(9)[:0]).value is None
