"""The examples of scripts/examples do what they say: made small by default, as they stand with `-m slow`."""

import importlib.util
import os
import subprocess
import sys
from types import ModuleType

import pytest
from conftest import ROOT
from documents import tables

from splatdistill.evaluate.metrics import METRICS
from splatdistill.priors import weights

EXAMPLES = sorted((ROOT / "scripts" / "examples").glob("[0-9]*.py"))
pytestmark = [
    pytest.mark.skipif(not (weights.TINY / "model_index.json").exists(), reason="the embedded weights are not in this checkout"),
    pytest.mark.filterwarnings("ignore:Using the embedded prior"),
]


@pytest.fixture
def example(request, tmp_path, monkeypatch) -> ModuleType:
    """Yield the example of the test's number, as a module; in an empty working folder, with a copy of the registry of metrics."""
    (path,) = [p for p in EXAMPLES if p.name.startswith(request.param)]
    monkeypatch.chdir(tmp_path)
    before = dict(METRICS)
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    METRICS.clear()
    METRICS.update(before)


def numbered(number: str):
    return pytest.mark.parametrize("example", [number], indirect=True)


@numbered("01")
@pytest.mark.slow  # as test_readme.py's run of the first command
def test_a_first_splat(example, tmp_path, capsys):
    result = example.main(tmp_path / "run", steps=2)
    told = capsys.readouterr().out
    assert result.ended.how == "done" and {"splats.ply", "sheet.png", "turntable.mp4", "config.yaml"} <= {p.name for p in (tmp_path / "run").iterdir()}
    assert f"{len(result.gaussians)} splats" in told and "splats.ply" in told


@numbered("02")
def test_a_guidance_of_ones_own_lies_between_two(example):
    strengths = example.main(steps=1)
    assert strengths.keys() == {0.0, 0.5, 1.0} and len(set(strengths.values())) == 3
    assert example.Halfway(share=0.0).targetless() == "" != example.Halfway().targetless()


@numbered("03")
def test_a_run_is_steered_by_hand(example, tmp_path, capsys):
    assert example.main(tmp_path, steps=2).stat().st_size > 1000
    assert "step 2, scale 15.0" in capsys.readouterr().out


@numbered("04")
@pytest.mark.slow
def test_two_guidances_are_compared(example, tmp_path, capsys):
    found = example.main(tmp_path / "bench", amount=12.0)
    assert not found.failures and (tmp_path / "bench" / "report.html").is_file()
    assert "csd" in capsys.readouterr().out


@numbered("05")
def test_methods_differ_in_the_plane(example, tmp_path):
    found = example.main(tmp_path, steps=150, points=64)
    assert found["sds"].spread < 0.9 < found["vsd"].spread < 1.2
    assert (tmp_path / "vsd.png").stat().st_size > 1000


@numbered("06")
def test_the_noise_of_two_gradients_is_measured(example, tmp_path, capsys):
    report = example.main(tmp_path / "variance", steps=1, draws=48)
    assert [row.name for row in report.rows] == ["sds", "csd"] and report.rows[0].latents.ratio.value > 0
    assert (tmp_path / "variance" / "variance.json").is_file() and "against SDS" in capsys.readouterr().out


@numbered("07")
def test_files_are_written_and_read_back(example, tmp_path):
    sizes = example.main(tmp_path, steps=1)
    assert sizes["spz"] < sizes["splat"] < sizes["ply"]


@numbered("08")
def test_a_prior_of_ones_own_colours_the_splats(example):
    for before, after in example.main(steps=20).values():
        assert after < before - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_it_runs_as_it_stands(path, tmp_path):
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": python_path}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout, done.stderr[-2000:]


def test_all_are_in_the_table():
    (table,) = tables((ROOT / "scripts" / "examples" / "README.md").read_text(encoding="utf-8"))
    assert [row[0] for row in table[2:]] == [f"[{p.name}]({p.name})" for p in EXAMPLES]
    assert [row[2] for row in table[2:]] == [f"`python scripts/examples/{p.name}`" for p in EXAMPLES]
