"""scripts/check_gpu.py passes what agrees, fails what does not, and says so when there is no GPU."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splatdistill.cameras import Cameras
from splatdistill.gaussians import Gaussians
from splatdistill.render import RenderOutput
from splatdistill.render.reference import reference_rasterizer

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_gpu.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("check_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_gpu", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_skips_without_a_gpu(script, capsys: pytest.CaptureFixture) -> None:
    assert script.main([]) == 77
    assert "no CUDA device" in capsys.readouterr().out


def test_passes_what_agrees(script) -> None:
    case = script.Case(20, 1, 16)
    assert script.compare(reference_rasterizer(), case, "cpu") == []
    assert script.milliseconds(reference_rasterizer(), case, "cpu", 1) > 0


@pytest.mark.parametrize("share", [0.99, float("nan")])
def test_fails_what_differs(share: float, script) -> None:
    """A backend whose splats are a hundredth fainter, or not numbers at all."""

    def faint(gaussians: Gaussians, cameras: Cameras, *args: object, **kwargs: object) -> RenderOutput:
        fainter = replace(gaussians, opacities=share * gaussians.opacities)
        output = reference_rasterizer()(fainter, cameras, *args, **kwargs)
        return output if share == share else replace(output, rgb=output.rgb * share)

    found = script.compare(faint, script.Case(20, 1, 16), "cpu")
    assert "rgb" in found and "d/d opacities" in found


def test_ends_with_the_verdict(script, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "rasterizer", lambda device: lambda *a, **k: reference_rasterizer()(*a, **k))
    assert script.main(["--device", "cpu", "--quick"]) == 0
    assert "passed" in capsys.readouterr().out
    monkeypatch.setattr(script, "rasterizer", lambda device: reference_rasterizer())
    assert script.main(["--device", "cpu", "--quick"]) == 1
    assert "not usable" in capsys.readouterr().out
