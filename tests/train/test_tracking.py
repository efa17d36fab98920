"""TensorBoard's files hold what the log holds, at its steps, of one process or of several."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import write_sd_folder

import splatdistill
from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.priors import weights
from splatdistill.scene.initial import Ball
from splatdistill.train.events import StepDone, Timing
from splatdistill.train.tracking import TensorBoard

SMALL = ["--prior", "tiny", "--device", "cpu", "--guidance", "sds", "--batch", "1", "--init", "ball", "--init.count", "30"]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put random weights in the embedded prior's place."""
    monkeypatch.setattr(weights, "TINY", write_sd_folder(tmp_path / "tiny", patches=True))
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    monkeypatch.chdir(tmp_path)


def written(run: Path):
    """Return TensorBoard's own reading of a run's folder."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed")
    found = reading.EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


def logged(run: Path) -> dict[int, dict]:
    """Return the steps of the log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line for line in lines if line["event"] == "StepDone"}


def test_curves_are_the_logs_and_a_resumed_run_goes_on(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    track = ["--track", "tensorboard"]
    argv = ["train", "--prompt", "a red ball", "--out", "run", "--steps", "4", "--preview-every", "2", *SMALL, *track]
    assert main(argv) == 0
    assert main(["train", "--resume", "run", "--steps", "6", *track]) == 0
    assert capsys.readouterr().out.count("tensorboard --logdir run\n") == 2
    run, log = tmp_path / "run", logged(tmp_path / "run")
    found = written(run)
    for tag, key in (("loss", "loss"), ("gradient", "grad_norm"), ("noise level", "t"), ("coverage", "coverage"), ("splats", "gaussians")):
        curve = found.Scalars(tag)
        assert [point.step for point in curve] == [1, 2, 3, 4, 5, 6]
        np.testing.assert_allclose([point.value for point in curve], [log[k + 1][key] for k in range(6)], rtol=1e-5)
    previews = found.Images("previews")
    assert [image.step for image in previews] == [2] and (previews[0].width, previews[0].height) == (4 * 128 + 3 * 2, 128)
    assert [image.step for image in found.Images("estimate")] == [2]
    (text,) = found.Tensors("config/text_summary")
    assert b"prompt: a red ball" in text.tensor_proto.string_val[0]
    assert "track" not in (run / "config.yaml").read_text(encoding="utf-8")


def test_what_an_earlier_process_wrote_behind_the_checkpoint_is_hidden(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")

    def done(step: int, loss: float, particle: int | None = None) -> StepDone:
        return StepDone(step, 9, 10, loss, 1.0, 0.5, 0.5, Timing(0, 0, 0, 1), 0, particle)

    first = TensorBoard(tmp_path / "tensorboard")
    for step in range(1, 6):
        first(done(step, float(step)))
    first.writer.flush()
    second = TensorBoard(tmp_path / "tensorboard", 3)  # a checkpoint of step 3
    for step in (4, 5, 6):
        second(done(step, 10.0 * step, 0 if step == 6 else None))
    second(done(7, float("nan")))
    second.writer.close()
    first.writer.close()
    found = written(tmp_path)
    assert [(point.step, point.value) for point in found.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50)]
    assert [point.step for point in found.Scalars("loss/particle 1")] == [6]


def test_python_and_variants_are_tracked_too(tiny: None, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    settings = {"prior": "tiny", "device": "cpu", "steps": 2, "batch": 1, "init": Ball(count=30)}
    splatdistill.distil("a red ball", "sds", out=tmp_path / "run", track="tensorboard", **settings)
    assert [point.step for point in written(tmp_path / "run").Scalars("loss")] == [1, 2]
    argv = ["train", "--prompt", "a red ball", "--out", "two", "--steps", "2", "--variants", "2", "--seed", "5", *SMALL, "--track", "tensorboard"]
    assert main(argv) == 0
    for seed in (5, 6):
        assert len(written(tmp_path / "two" / f"seed-{seed}").Scalars("loss")) == 2


def test_what_is_not_there_is_told_before_anything_begins(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["train", "--prompt", "a red ball", "--out", "run", *SMALL, "--track", "tensorboard"]) == 2
    told = capsys.readouterr().err
    assert 'pip install "tensorboard>=2.18,<3"' in told and "Traceback" not in told and len(told.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="--track is one of tensorboard; got 'wandb'"):
        splatdistill.distil("a red ball", track="wandb")


def test_an_amortised_training_is_tracked_at_every_step(tiny: None, tmp_path: Path) -> None:
    """Its log holds every tenth step and the last; the curves go through them, and a resumed training goes on."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (tmp_path / "few.txt").write_text("a red ball\na blue cube\n", encoding="utf-8")
    argv = ["amortise", "--corpus", "few.txt", "--prior", "tiny", "--guidance", "sds", "--generator.count", "30", "--track", "tensorboard"]
    assert main([*argv, "--steps", "3", "--preview-every", "2", "--out", "g"]) == 0
    assert main(["amortise", "--resume", "g", "--steps", "5", "--track", "tensorboard"]) == 0
    found = written(tmp_path / "g")
    lines = [json.loads(line) for line in (tmp_path / "g" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "loss" in line]  # the others say how it ended
    assert [line["step"] for line in lines] == [3, 5]
    for tag, key in (("loss", "loss"), ("gradient", "grad_norm"), ("noise level", "t"), ("coverage", "coverage")):
        curve = {point.step: point.value for point in found.Scalars(tag)}
        assert sorted(curve) == [1, 2, 3, 4, 5]
        for line in lines:
            assert curve[line["step"]] == pytest.approx(line[key], rel=1e-5)
    assert [image.step for image in found.Images("previews")] == [2, 4]
