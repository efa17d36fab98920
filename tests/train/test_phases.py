"""Phases of a run: they divide its steps, set options anew, have a progress of their own, and are resumed bit for bit."""

import shutil

import pytest
import torch
import yaml
from conftest import ROOT
from helpers import write_sd_folder

from splatdistill import distil
from splatdistill.cli import main
from splatdistill.densify.gradient import Gradient
from splatdistill.errors import UserError
from splatdistill.guidance import CSD, GUIDANCES, SDS, VSD, Times
from splatdistill.settings import phases as by_name
from splatdistill.settings.commands import parse_train
from splatdistill.train.assignments import assignments, written
from splatdistill.train.checkpoint import read_checkpoint
from splatdistill.train.commands import Commands, SetField
from splatdistill.train.events import PhaseBegun, StepDone
from splatdistill.train.loop import run
from splatdistill.train.phase_change import within
from splatdistill.train.phases import Phase, prior_asked, read, span
from splatdistill.train.plain import from_plain
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from train.small import config, red_and_blue

VALUES = [1, -2, 1.5, 1e-3, True, False, None, "off", "true", "3", "a, b", "x/y@z", 'q"w', "a]b[", "", "é", [64, 128], [], ["a, b", "c"]]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_in_brackets_is_read_back(value):
    said = f"k.l={written(value)}, z=1"
    got = dict(assignments(said, said, ""))
    assert got == {"k.l": value, "z": 1} and type(got["k.l"]) is type(value)
    phase = Phase("mine", 0.5, (("k.l", value), ("z", 1)))
    assert read(phase.text()) == phase


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "is no phase"),
        ("a b", "is no phase"),
        ("a[share=0]", "share is the phase's length"),
        ("a[share=nan]", "share is the phase's length"),
        ("a[share=true]", "share is the phase's length"),
        ("a[steps=3]", "steps is the same in all phases"),
        ("a[image.rgb=3]", "image.rgb is the same in all phases"),
        ("a[batch]", "'batch' sets no option"),
        ("a[resolutions=[3]", "not closed"),
        ("a[bach=3]", "bach, which Train does not have"),
        ("a[batch=red]", "hold 'red' for batch; expected int"),
        ("a[batch=0]", "batch must be"),
        ("a[guidance=smells]", "there is no guidance 'smells'"),
        ("a[guidance.smell=3]", "guidance.smell, which SDS does not have"),
        ("a[guidance=csd, inner=2]", "inner 2 needs a guidance with a target"),
        ("detail", "'detail' says nothing that it sets"),
    ],
)
def test_a_phase_that_cannot_be_is_refused_before_the_first_step(said, why):
    with pytest.raises(UserError, match=why.replace("[", r"\[")):
        Session(config(phases=(said,)), red_and_blue())


@pytest.mark.parametrize(("shares", "steps", "expected"), [((1,), 7, [0, 7]), ((1, 0.5), 120, [0, 80, 120]), ((1, 1, 1), 10, [0, 3, 7, 10]), ((1, 1e-3), 5, [0, 5, 5])])
def test_phases_divide_the_steps_by_their_shares(shares, steps, expected):
    texts = [f"p[share={s}]" for s in shares]
    assert [span(texts, steps, k) for k in range(len(texts))] == list(zip(expected, expected[1:]))


def test_one_phase_that_sets_nothing_is_no_phase():
    made = []
    for phases in ((), ("only[share=3]",), ("a[share=1]", "b[share=0.0001]")):
        session = Session(config(steps=6, phases=phases, densify=Gradient(every=2, since=0.0, threshold=1e-7)), red_and_blue())
        for _ in range(6):
            session.step()
        made.append(session.state.tensors())
    assert all(torch.equal(v, other[k]) for other in made[1:] for k, v in made[0].items())


def test_each_phase_has_its_settings_and_its_own_progress(tmp_path):
    linear = Times("linear", t_min=0.2, t_max=0.8)
    phases = ("first[share=1]", "second[share=2, guidance=csd, guidance.times.t_max=0.5, guidance.times.schedule=linear, densify=gradient, densify.every=7, resolutions=[8], batch=3]")
    session = Session(config(SDS(scale=1.0, times=linear), steps=9, phases=phases, checkpoint_every=0), red_and_blue())
    told = []
    run(session, RunDir.create("x", tmp_path / "run"), [told.append])
    steps = [e for e in told if isinstance(e, StepDone)]
    assert [(e.step, e.phase) for e in told if isinstance(e, PhaseBegun)] == [(0, "first"), (3, "second")]
    low = Times().t_min
    expected = [0.8 - 0.6 * k / 3 for k in range(3)] + [0.5 - (0.5 - low) * k / 6 for k in range(6)]
    assert [e.t for e in steps] == pytest.approx(expected, abs=1e-6) and {e.steps for e in steps} == {9}
    assert isinstance(session.config.guidance, CSD) and isinstance(session.config.densify, Gradient) and session.config.densify.every == 7
    assert session.last.out.rgb.shape == (3, 3, 8, 8) and session.state.phase == 1
    assert next(line["event"] for line in RunDir(tmp_path / "run").events()) == "PhaseBegun"


@pytest.mark.parametrize("name", list(GUIDANCES))
def test_resume_is_bit_exact_before_at_and_after_a_phase_begins(name, tmp_path):
    prior = red_and_blue()
    phases = ("a[share=1]", f"b[share=1, guidance={name}, guidance.scale=2.0, densify=gradient, densify.every=2, densify.since=0.0, densify.threshold=0.0000001]")
    c = config(steps=6, phases=phases)

    def saved(session, k):
        session.state.save(tmp_path / f"{k}", session.config)

    whole = Session(c, prior)
    for k in range(6):
        if k in (2, 3, 5):
            saved(whole, k)
        whole.step()
    assert type(whole.config.guidance) is GUIDANCES[name]
    for k in (2, 3, 5):
        checkpoint = read_checkpoint(tmp_path / f"{k}")
        assert checkpoint.note.settings is not None and checkpoint.note.phase == (1 if k > 3 else 0)
        resumed = Session.resumed(from_plain(c, checkpoint.note.settings), prior, checkpoint)
        while resumed.state.step < 6:
            resumed.step()
        a, b = whole.state.tensors(), resumed.state.tensors()
        assert a.keys() == b.keys() and all(torch.equal(a[i], b[i]) for i in a), k


def test_memory_stays_with_the_same_guidance_and_begins_anew_with_another():
    session = Session(config(VSD(scale=1.0), steps=9, phases=("a[share=1]", "b[share=1, guidance.scale=3.0]", "c[share=1, guidance=sds]")), red_and_blue())
    memories = [(session.step(), session.state.memory)[1] for _ in range(9)]
    assert memories[0] is memories[5] is not memories[6]
    assert session.config.guidance == SDS()


def test_steering_goes_on_in_the_next_phase_but_for_what_that_sets(tmp_path):
    phases = ("a[share=1]", "b[share=1, guidance.scale=3.0]")
    commands, told = Commands(), []

    def ask(event):
        told.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            commands.put(SetField("guidance.scale", 9.0))
            commands.put(SetField("rates.means", 0.002))

    session = Session(config(steps=6, phases=phases), red_and_blue())
    run(session, RunDir.create("x", tmp_path / "run"), [ask], commands)
    assert session.config.guidance.scale == 3.0 and session.config.rates.means == 0.002


def test_another_prior_is_asked_from_its_phase_on_and_after_a_resume(tmp_path, short_films):
    first, second = write_sd_folder(tmp_path / "first"), write_sd_folder(tmp_path / "second", seed=3)
    phases = ("a[share=1]", f"b[share=1, prior={second}]")
    small = {"batch": 1, "resolutions": (16,), "preview_every": 0, "device": "cpu", "checkpoint_every": 3, "steps": 4, "phases": phases}
    distil("a red mushroom", "sds", prior=str(first), out=tmp_path / "run", **small)
    kept = RunDir(tmp_path / "run")
    before = kept.splats.read_bytes()
    for left in (kept.checkpoint(4), kept.splats):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert main(["train", "--resume", str(kept.path), "--no-viewer"]) == 0
    assert kept.splats.read_bytes() == before
    assert parse_train(["--config", str(kept.config)], lambda source: None).config.prior == str(first)
    assert kept.settings()["prior"] == str(second) and kept.begun()["prior"] == str(first)


@pytest.mark.parametrize("family", ["tiny", "world", "sd"])
@pytest.mark.parametrize("method", list(GUIDANCES))
def test_every_phase_that_comes_along_suits_every_recipe(family, method):
    known = by_name.known(family)
    assert {"coarse", "detail", "picture"} <= known.keys()
    for name in known:
        parsed = parse_train(["--guidance", method, "--prompt", "a red mushroom", "--phases", "coarse", name], lambda source: family)
        c = by_name.looked_up(parsed.config, family)
        assert all(read(said).changes is not None for said in c.phases)
        for said in c.phases:
            c = within(c, read(said))


@pytest.mark.parametrize("phases", [3, [3], "a[share=1]", ["a["], {"a": 1}])
def test_what_a_checkpoint_says_in_the_place_of_phases_is_refused(phases):
    with pytest.raises(UserError, match="phase"):
        prior_asked(phases, 0)


def test_phase_files_name_their_source():
    for path in (ROOT / "configs").glob("*/phases/*.yaml"):
        assert "Source" in path.read_text(encoding="utf-8"), path


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return write_sd_folder(tmp_path_factory.mktemp("prior"))


SMALL = ["--batch", "1", "--resolutions", "16", "--preview-every", "0", "--device", "cpu", "--no-viewer"]


def test_from_the_command_line_they_are_looked_up_written_down_and_repeated(tmp_path, prior, monkeypatch, short_films):
    monkeypatch.chdir(tmp_path)
    asked = ["train", "--prior", str(prior), "--guidance", "sds", "--prompt", "a red mushroom", *SMALL]
    assert main([*asked, "--phases", "coarse", "mine[share=0.5, batch=2, guidance.scale=9.0]", "--steps", "3", "--out", "one"]) == 0
    said = yaml.safe_load((tmp_path / "one/config.yaml").read_text(encoding="utf-8"))
    assert said["phases"] == ["coarse[share=1.0]", "mine[share=0.5, batch=2, guidance.scale=9.0]"] and said["batch"] == 1
    assert main(["train", "--config", "one/config.yaml", "--no-viewer", "--out", "two"]) == 0
    assert (tmp_path / "one/splats.ply").read_bytes() == (tmp_path / "two/splats.ply").read_bytes()
    assert RunDir(tmp_path / "one").settings()["batch"] == 2  # in force at the end
    assert main(["train", "--refine", "one", "--phase", "again[share=2, guidance.scale=4.0]", "--no-viewer", "--out", "three"]) == 0
    refined = yaml.safe_load((tmp_path / "three/config.yaml").read_text(encoding="utf-8"))
    assert refined["steps"] == 6 and refined["guidance"]["scale"] == 4.0 and refined["phases"] == []
    assert refined["init"]["path"] == str(tmp_path / "one/splats.ply")


def test_steps_that_nobody_chose_are_as_many_as_the_phases_need(prior, monkeypatch):
    argv = ["--prior", str(prior), "--guidance", "sds", "--prompt", "x", "--phases", "coarse", "mine[share=0.5]"]
    for more, expected in (([], 1.5), (["--steps", "30"], None)):
        parsed = parse_train([*argv, *more], lambda source: "tiny")
        alone = parse_train(["--guidance", "sds", "--prompt", "x"], lambda source: "tiny").config.steps
        c = by_name.lengthened(by_name.looked_up(parsed.config, "tiny"), parsed.chosen_by)
        assert c.steps == (30 if expected is None else round(alone * expected))


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--prompt", "x", "--phases", "fine"], "there is no phase 'fine' for the prior's family sd; there are coarse, detail, picture"),
        (["--prompt", "x", "--phase", "detail"], "--phase detail goes on from a finished run: give --refine DIR too"),
        (["--prompt", "x", "--phases", "a[batch=0]"], "batch must be"),
    ],
)
def test_what_is_typed_wrong_is_said(argv, why, prior, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--prior", str(prior), "--no-viewer", *argv]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "runs").exists()
