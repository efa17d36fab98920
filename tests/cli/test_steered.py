"""Commands on a run that was steered: each goes by the settings in force at the result, not by those that it began with."""

import json
import re
import shlex
from functools import partial

import pytest
import yaml
from helpers import write_sd_folder

from splatdistill import distil
from splatdistill.cli import main
from splatdistill.evaluate.run_summary import summarise
from splatdistill.priors.weights import TINY
from splatdistill.train import loop
from splatdistill.train.commands import Choose, Commands, Prune, SetField
from splatdistill.train.events import StepDone
from splatdistill.train.run import RunDir

needs_models = pytest.mark.skipif(not (TINY / "model_index.json").is_file(), reason="the embedded weights are not in this checkout")
SMALL = {"batch": 1, "resolutions": (16,), "preview_every": 0, "device": "cpu"}


@pytest.fixture(autouse=True)
def short_films(monkeypatch):
    """Shorten the films that runs leave."""
    monkeypatch.setattr(loop, "finish", partial(loop.finish, size=16, frames=2))


def steered(folder, prior, asked, steps=4, guidance="sdi"):
    """Run the trainer, steered after its second step."""
    commands = Commands()

    def ask(event):
        for command in asked if isinstance(event, StepDone) and event.step == 2 else ():
            commands.put(command)

    distil("a red mushroom", guidance, prior=str(prior), out=folder, callbacks=[ask], commands=commands, steps=steps, **SMALL)
    return RunDir(folder)


TOLD = (SetField("prompt", "a blue snowman"), Choose("guidance", "sds", (("scale", 20.0), ("times.t_min", 0.2), ("times.t_max", 0.6))), SetField("rates.means", 0.02))


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return write_sd_folder(tmp_path_factory.mktemp("prior"))


@needs_models
def test_evaluate_measures_against_the_prompt_in_force_and_export_writes_what_it_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = steered(tmp_path / "run", "tiny", TOLD)
    for name, prompt in (("blue", "a blue snowman"), ("red", "a red mushroom")):  # the same splats, made for one prompt throughout
        other = RunDir(tmp_path / name)
        other.path.mkdir()
        other.splats.write_bytes(run.splats.read_bytes())
        other.config.write_text(re.sub("prompt: a red mushroom", f"prompt: {prompt}", run.config.read_text(encoding="utf-8")), encoding="utf-8")
        other.log.write_text("", encoding="utf-8")
    assert main(["evaluate", "run", "blue", "red", "--views", "4", "--no-truth", "--json", "e.json"]) == 0
    said = {r["path"].split("/")[-1]: r for r in json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["runs"]}
    clip = {name: next(m["value"] for m in r["measurements"] if m["metric"] == "clip_score") for name, r in said.items()}
    assert said["run"]["prompt"] == "a blue snowman" and said["run"]["guidance"] == "sds"
    assert clip["run"] == clip["blue"] != clip["red"]
    assert main(["export", "run", "--out", "a.ply"]) == 0
    assert b"comment prompt a blue snowman" in (tmp_path / "a.ply").read_bytes()[:2000]


def test_refining_a_steered_run_goes_on_with_what_it_was_steered_to(tmp_path, monkeypatch, prior):
    monkeypatch.chdir(tmp_path)
    run = steered(tmp_path / "run", prior, TOLD)
    begun = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    assert (begun["prompt"], begun["guidance"]["name"]) == ("a red mushroom", "sdi"), "config.yaml is how it began"
    assert main(["train", "--refine", "run", "--steps", "1", "--out", "on"]) == 0
    on = RunDir(tmp_path / "on").begun()
    assert (on["prompt"], on["guidance"]["name"], on["guidance"]["scale"], on["batch"], on["steps"]) == ("a blue snowman", "sds", 20.0, 2, 1)
    assert on["guidance"]["times"]["t_min"] == 0.2 and on["guidance"]["times"]["t_max"] == 0.4, "the lower half"
    assert on["rates"]["means"] == pytest.approx(0.02 * begun["rates"]["means_end"] ** 0.5 / 0.02**0.5, rel=0.01)
    assert on["init"] == on["init"] | {"name": "file", "path": str(tmp_path / "run" / "splats.ply")} and on["prior"] == str(prior)
    text = (tmp_path / "on" / "config.yaml").read_text(encoding="utf-8")
    assert re.search(r"^prompt: a blue snowman +# run, at its end$", text, re.MULTILINE) and re.search(r"^batch: 2 +# --refine$", text, re.MULTILINE)
    typed = ["--guidance", "csd", "--batch", "3", "--prompt", "a green mug", "--steps", "1"]
    assert main(["train", "--refine", "run", *typed, "--out", "other"]) == 0
    other = RunDir(tmp_path / "other").begun()
    assert (other["prompt"], other["guidance"]["name"], other["batch"], other["guidance"]["times"]["t_max"]) == ("a green mug", "csd", 3, 0.4)


def test_the_replay_that_config_yaml_names_repeats_a_steered_run(tmp_path, monkeypatch, prior):
    monkeypatch.chdir(tmp_path)
    run = steered(tmp_path / "a 'run' é", prior, TOLD)
    (again,) = re.findall(r"`(splatdistill train --replay .*)`", run.config.read_text(encoding="utf-8"))
    assert main([*shlex.split(again)[1:], "--out", "again"]) == 0
    assert (tmp_path / "again" / "splats.ply").read_bytes() == run.splats.read_bytes()
    assert summarise(tmp_path / "again").prompt == "a blue snowman" and RunDir(tmp_path / "again").settings() == run.settings()


def test_a_replay_that_is_too_short_for_the_commands_says_which_never_ran(tmp_path, monkeypatch, capsys, prior):
    monkeypatch.chdir(tmp_path)
    steered(tmp_path / "run", prior, (*TOLD[:1], Prune(0.001)))
    for steps, late in ((1, True), (2, True), (3, False)):
        assert main(["train", "--replay", "run", "--steps", str(steps), "--out", f"to-{steps}"]) == 0
        said = capsys.readouterr().out
        told = 'before step 3, prompt: "a blue snowman"; before step 3, splats less opaque than 0.001 were removed'
        assert (f"the run ended before these commands of the log: {told}" in said) is late
        assert summarise(tmp_path / f"to-{steps}").prompt == ("a red mushroom" if late else "a blue snowman")


def test_what_a_lost_log_no_longer_tells_is_said(tmp_path, monkeypatch, capsys, prior):
    """By the resumed run's config.yaml and by a replay of it: the settings in force are known, when they changed is not."""
    monkeypatch.chdir(tmp_path)
    run = steered(tmp_path / "run", prior, (SetField("guidance.scale", 99.0),))
    lines = run.log.read_text(encoding="utf-8").splitlines(True)
    run.log.write_text("".join(line for line in lines if '"step": 1,' not in line and "Applied" not in line), encoding="utf-8")
    assert main(["train", "--resume", "run", "--steps", "6"]) == 0
    assert run.settings()["guidance"]["scale"] == 99.0
    told = "log.jsonl lacks step 1; what was changed before these is not known"
    assert told in run.config.read_text(encoding="utf-8") and told not in capsys.readouterr().out
    assert main(["train", "--replay", "run", "--out", "again"]) == 0
    assert f"this may not repeat run: {told}" in " ".join(capsys.readouterr().out.split())
    run.log.unlink()
    assert main(["train", "--resume", "run", "--steps", "8"]) == 0
    assert told.replace("step 1", "step 1 to 6") in run.config.read_text(encoding="utf-8")
    assert "# Steered" in run.config.read_text(encoding="utf-8")
