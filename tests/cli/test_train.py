"""Whole runs from the command line, on a random Stable Diffusion of the real layout."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill.cli import main
from splatdistill.cli.run_with_progress import stopping
from splatdistill.priors import weights
from splatdistill.train.commands import Commands, Stop
from splatdistill.train.run import RunDir

SMALL = ["--steps", "4", "--batch", "1", "--init.count", "40", "--seed", "3", "--device", "cpu"]


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put random weights in the embedded prior's place; return their folder."""
    folder = write_sd_folder(tmp_path_factory.mktemp("tiny"), "v_prediction", patches=True, length=20)
    monkeypatch.setattr(weights, "TINY", folder)
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    return folder


def train(prior: Path | str, *more: str) -> int:
    return main(["train", "--prompt", "a red [bold] mushroom", "--prior", str(prior), *SMALL, *more])


@pytest.mark.parametrize(("guidance", "prediction"), [("sdi", "epsilon"), ("sds", "v_prediction")])
def test_a_run_leaves_everything_and_its_configuration_repeats_it(here, tmp_path_factory, capsys, guidance, prediction):
    prior = write_sd_folder(tmp_path_factory.mktemp("prior"), prediction)
    assert train(prior, "--guidance", guidance, "--out", "a") == 0
    said = capsys.readouterr().out
    assert "a red [bold] mushroom" in said and "step 4/4" in said and "done" in said
    for name in ("splats.ply", "turntable.mp4", "sheet.png"):
        assert (here / "a" / name).stat().st_size > 100 and f"a/{name}" in said
    text = (here / "a" / "config.yaml").read_text(encoding="utf-8")
    saved = yaml.safe_load(text)
    assert saved["device"] == "cpu" and saved["prior"] == str(prior) and saved["guidance"]["name"] == guidance
    assert "# recipe sd/" in text and "# command line" in text and "# default" in text
    assert main(["train", "--config", "a/config.yaml", "--out", "b"]) == 0
    assert (here / "b" / "splats.ply").read_bytes() == (here / "a" / "splats.ply").read_bytes()
    assert yaml.safe_load((here / "b" / "config.yaml").read_text(encoding="utf-8")) == saved


def test_a_run_longer_than_its_rates_are_meant_for_says_so(here, prior, capsys):
    for meant, said in (("0", False), ("4", False), ("1", True)):
        assert train(prior, "--rates.tuned-for-steps", meant, "--out", meant) == 0
        assert ("learning rates are 0.25 of those given" in " ".join(capsys.readouterr().out.split())) is said
    splats = [(here / meant / "splats.ply").read_bytes() for meant in ("0", "4", "1")]
    assert splats[0] == splats[1] != splats[2]


def test_a_second_run_touches_nothing_of_the_first(here, prior):
    assert train(prior) == 0
    (first,) = (here / "runs").iterdir()
    before = {p: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    assert train(prior, "--seed", "4") == 0
    assert {p: p.read_bytes() for p in first.rglob("*") if p.is_file()} == before
    assert sorted(p.name for p in (here / "runs").iterdir()) == [first.name, f"{first.name}-2"]


@pytest.fixture(scope="module")
def finished(prior, tmp_path_factory) -> Path:
    """Return a run of 4 steps that is over."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    assert train(prior, "--out", str(folder)) == 0
    return folder


def test_resume_goes_further_and_notes_it(here, finished, capsys):
    shutil.copytree(finished, here / "a")
    for resumed in ("6", "8"):
        assert main(["train", "--resume", "a", "--steps", resumed]) == 0
    assert "going on at step 6 of 8" in capsys.readouterr().out
    text = (here / "a" / "config.yaml").read_text(encoding="utf-8")
    assert "#   before step 5: steps: 6\n#   before step 7: steps: 8\n" in text and "splatdistill train --replay a" in text
    assert yaml.safe_load(text)["steps"] == 4 and RunDir(here / "a").settings()["steps"] == 8, "what it began with, and what is in force"
    assert sorted(p.name for p in (here / "a" / "checkpoints").iterdir()) == [
        "step-000004",
        "step-000006",
        "step-000008",
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "has done 4 steps"),
        (["--seed", "9"], "--seed cannot be given again"),
        (["--steps", "9", "--guidance.scale", "3"], "--guidance.scale cannot"),
        (["--out", "b"], "--out cannot"),
    ],
)
def test_resume_changes_nothing_but_the_length(finished, capsys, more, message):
    before = (finished / "config.yaml").read_text(encoding="utf-8")
    assert main(["train", "--resume", str(finished), *more]) == 2
    assert message in capsys.readouterr().err and (finished / "config.yaml").read_text(encoding="utf-8") == before


def test_resume_of_what_is_no_run(here, capsys):
    assert main(["train", "--resume", "nowhere"]) == 2
    assert "no nowhere/config.yaml" in capsys.readouterr().err


def test_the_tiny_prior_is_announced_and_written_down_when_auto_takes_it(here, tiny, capsys, monkeypatch):
    monkeypatch.setattr(weights, "has_cuda", lambda: False)
    assert main(["train", "--prompt", "a red mushroom", *SMALL]) == 0
    assert "Using the embedded prior `tiny`" in capsys.readouterr().out
    run = here / "runs" / "a-red-mushroom"
    text = (run / "config.yaml").read_text(encoding="utf-8")
    assert (
        yaml.safe_load(text)["prior"] == "tiny" and "# recipe tiny/sdi" in text and "Using the embedded prior" in text
    )
    assert b"comment prior tiny\n" in (run / "splats.ply").read_bytes()[:1000]


@pytest.mark.parametrize("argv", [["--prior", "tiny"], []])
def test_a_prompt_that_tiny_cannot_know_is_refused_with_the_nearest(here, tiny, capsys, monkeypatch, argv):
    monkeypatch.setattr(weights, "has_cuda", lambda: False)
    assert main(["train", "--prompt", "a red knight in armour", *argv]) == 2
    said = capsys.readouterr().err
    assert "'a red" in said and "--prior DIR" in said and not (here / "runs").exists()


def test_that_refusal_needs_no_weights(here, capsys, monkeypatch):
    monkeypatch.setattr(weights, "TINY", here / "nothing")
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    assert main(["train", "--prior", "tiny", "--prompt", "a knight"]) == 2
    assert main(["train", "--prior", "tiny", "--prompt", "a red mushroom"]) == 3


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--prompt", "  "], 2, "--prompt"),
        (["--steps", "0"], 2, "--steps must be at least 1"),
        (["--prior", "nowhere/at-all/there"], 3, "nowhere/at-all/there"),
        (["--init", "file"], 2, "--init.path"),
        (["--init", "file", "--init.path", "none.ply"], 2, "none.ply"),
        (["--cameras.elevation", "10", "-10"], 2, "--cameras.elevation"),
        (["--out", "file/below"], 2, "--out"),
        (["--prompt", "a \udcff"], 2, "UTF-8"),
        (["--config", "none.yaml"], 2, "none.yaml"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(here, prior, capsys, argv, code, message):
    (here / "file").write_text("in the way", encoding="utf-8")
    assert main(["train", "--prompt", "x", "--prior", str(prior), *SMALL, *argv]) == code
    assert message in capsys.readouterr().err and not (here / "runs").exists()


EMPTY = 'The prompt is empty. Expected a description of one object, such as --prompt "a red mushroom".'


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("null", "mine.yaml: prompt must be text, got None"),
        ("0", "mine.yaml: prompt must be text, got 0; put it in quotes"),
        ("[]", "mine.yaml: prompt must be text, got nothing"),
        ("true", "mine.yaml: prompt must be text, got True; put it in quotes"),
        ("{a: b}", "mine.yaml: there is no option prompt.a: did you mean prompt?"),
        ("''", EMPTY),
        ('" \\t"', EMPTY),
    ],
)
@pytest.mark.parametrize("command", ["train", "image"])
def test_a_prompt_in_a_file_that_is_none_is_refused_in_one_line(here, prior, capsys, command, written, said):
    (here / "mine.yaml").write_text(f"prompt: {written}\nsteps: 1\n", encoding="utf-8")
    assert main([command, "--config", "mine.yaml", "--prior", str(prior)]) == 2
    assert capsys.readouterr().err == f"error: {said}\n" and not (here / "runs").exists()
    if said is EMPTY:  # the same words wherever it comes from
        assert main([command, "--prompt", "", "--prior", str(prior)]) == 2
        assert capsys.readouterr().err == f"error: {said}\n"


def test_cuda_that_is_not_there_is_refused(here, prior, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert train(prior, "--device", "cuda") == 2
    assert "torch sees no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "status", "said"), [("device: cuda", 2, "torch sees no such device here"), ("", 0, ""), ("device: auto", 0, "")])
def test_a_run_goes_on_only_where_its_device_is(here, finished, capsys, monkeypatch, device, status, said):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    shutil.copytree(finished, here / "a")
    config = here / "a" / "config.yaml"
    config.write_text(re.sub("(?m)^device: .*$", device, config.read_text(encoding="utf-8")), encoding="utf-8")
    assert main(["train", "--resume", "a", "--steps", "5"]) == status
    assert said in capsys.readouterr().err


def interrupt(folder: Path, process: subprocess.Popen, number: int) -> None:
    """Send a signal once the run is under way."""
    log = folder / "log.jsonl"
    until = time.monotonic() + 600
    while not (log.exists() and log.read_text(encoding="utf-8").count("StepDone") > 2):
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)


def test_an_interrupted_run_is_saved_and_says_how_to_go_on(here, prior):
    argv = [
        "train",
        "--prompt",
        "x",
        "--prior",
        str(prior),
        *SMALL,
        "--steps",
        "100000",
        "--guidance",
        "sds",
        "--out",
        "a run",
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # the library, installed or not
    process = subprocess.Popen(
        [sys.executable, "-m", "splatdistill", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    interrupt(here / "a run", process, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert "splatdistill train --resume 'a run'" in out and "Traceback" not in err
    assert (here / "a run" / "splats.ply").exists()
    step = int(max((here / "a run" / "checkpoints").iterdir()).name.removeprefix("step-"))
    assert main(["train", "--resume", "a run", "--steps", str(step + 2)]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_second_does_not(number):
    commands, before = Commands(), signal.getsignal(number)
    with stopping(commands) as caught:
        os.kill(os.getpid(), number)
        assert caught == [number] and commands.take() == [Stop()]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_an_interruption_outside_a_run_is_no_traceback(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("splatdistill.cli.dispatch", interrupted)
    assert main([]) == 130 and "interrupted" in capsys.readouterr().err


def test_a_negative_prompt_that_tiny_cannot_read_is_refused_as_the_prompt_is(here, tiny, capsys):
    assert main(["train", "--prior", "tiny", "--prompt", "a red mushroom", "--negative", "blurry, a red ball, ugly"]) == 2
    said = capsys.readouterr().err
    assert "negative prompt: 'blurry', 'ugly'" in said and "--negative" in said and not (here / "runs").exists()
