"""Checkpoints: what is damaged is refused in one line, an older one is taken and that is said, settings travel with them."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from disk import room
from safetensors.torch import load_file, save_file

from splatdistill.errors import UserError
from splatdistill.guidance import SDI, SDS, VSD, Times
from splatdistill.scene.initial import Blob, FromFile
from splatdistill.train.checkpoint import read_checkpoint
from splatdistill.train.commands import SetField
from splatdistill.train.config import Train
from splatdistill.train.notes import NOTE, TENSORS, digest, read_note
from splatdistill.train.plain import commanded, differences, from_plain, to_plain
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.steer import in_force
from train.small import config, red_and_blue


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a run with checkpoints of steps 2 and 3."""
    session, folder = Session(config(), red_and_blue()), RunDir.create("p", tmp_path_factory.mktemp("runs") / "r")
    for _ in range(3):
        session.step()
        if session.state.step > 1:
            session.state.save(folder.checkpoint(session.state.step), session.config)
    return folder.path


@pytest.fixture
def folder(made, tmp_path) -> RunDir:
    """Return a copy of the run to damage."""
    shutil.copytree(made, tmp_path / "r")
    return RunDir(tmp_path / "r")


def rewrite(checkpoint: Path, change) -> None:
    """Change tensors, and have the digests agree again."""
    tensors, said = load_file(checkpoint / TENSORS), json.loads((checkpoint / NOTE).read_text(encoding="utf-8"))
    change(tensors, said)
    save_file(tensors, checkpoint / TENSORS)
    import hashlib

    said["tensors"] = hashlib.sha256((checkpoint / TENSORS).read_bytes()).hexdigest()
    said.pop("digest")
    (checkpoint / NOTE).write_text(json.dumps(said | {"digest": digest(said)}), encoding="utf-8")


def refused(folder: RunDir) -> str:
    """Return the one line with which the newest checkpoint is refused."""
    with pytest.raises(UserError) as caught:
        Session.resumed(config(), red_and_blue(), read_checkpoint(folder.checkpoint(3)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


CHANGES = {
    "means are missing": lambda t, n: t.pop("scene.means"),
    "another name": lambda t, n: t.update({"scene.nails": t.pop("scene.means")}),
    "one tensor more": lambda t, n: t.update({"extra": torch.zeros(1)}),
    "a second particle's": lambda t, n: t.update({"particle-2.scene.means": torch.zeros(60, 3)}),
    "rows": lambda t, n: t.update({"scene.quats": t["scene.quats"][:-1]}),
    "a scalar for means": lambda t, n: t.update({"scene.means": torch.zeros(())}),
    "a bad degree": lambda t, n: t.update({"scene.sh_rest": torch.zeros(60, 2, 3)}),
    "double precision": lambda t, n: t.update({"scene.means": t["scene.means"].double()}),
    "NaN": lambda t, n: t["scene.means"].__setitem__((3, 1), float("nan")),
    "infinite sizes": lambda t, n: t["scene.log_scales"].__setitem__((3, 1), float("inf")),
    "NaN of Adam": lambda t, n: t["adam.means.exp_avg"].__setitem__((3, 1), float("nan")),
    "half of Adam": lambda t, n: t.pop("adam.means.exp_avg_sq"),
    "other moments": lambda t, n: t.update({"adam.means.exp_avg": t["adam.means.exp_avg"][:5]}),
    "a short rng": lambda t, n: t.update({"rng": t["rng"][:100]}),
    "an rng of floats": lambda t, n: t.update({"rng": t["rng"].float()}),
    "no rng": lambda t, n: t.pop("rng"),
    "memory of a stranger": lambda t, n: t.update({"memory.x": torch.zeros(3)}),
    "background": lambda t, n: t.update({"background.value": torch.zeros(4)}),
    "steps that do not add up": lambda t, n: n.update(step=4),
    "a negative step": lambda t, n: n.update(step=-3, particles=[-3]),
    "a step that is true": lambda t, n: n.update(step=True, particles=[True]),
    "settings as a list": lambda t, n: n.update(settings=[]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_checkpoint_whose_content_does_not_fit_is_refused(folder, what):
    rewrite(folder.checkpoint(3), CHANGES[what])
    refused(folder)


@pytest.mark.parametrize("name", [TENSORS, NOTE])
def test_no_bit_and_no_cut_goes_unseen(folder, name):
    file = folder.checkpoint(3) / name
    whole = file.read_bytes()
    good = Session.resumed(config(), red_and_blue(), folder.checkpoint(3)).state.tensors()
    ends = torch.linspace(0, len(whole) - 1, 15).long().tolist()
    bits = [(at, bit) for at in torch.linspace(0, len(whole) - 1, 60).long().tolist() for bit in (0, 3, 7)]
    for data in [*(whole[:end] for end in ends), *(flipped(whole, at, bit) for at, bit in bits)]:
        file.write_bytes(data)
        try:
            session = Session.resumed(config(), red_and_blue(), read_checkpoint(folder.checkpoint(3)))
        except UserError as e:
            assert "\n" not in str(e)
        else:  # a space, or a letter of a field that means nothing
            got = session.state.tensors()
            assert name == NOTE and session.state.step == 3 and all(torch.equal(got[k], good[k]) for k in good)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one_and_that_is_said(folder, caplog):
    (folder.checkpoint(3) / TENSORS).write_bytes(b"rubbish")
    assert folder.newest_checkpoint().path == folder.checkpoint(2)
    assert "passed over" in caplog.text and "step-000003" in caplog.text and "digest" in caplog.text
    shutil.rmtree(folder.checkpoint(2))
    with pytest.raises(UserError, match=r"no whole checkpoint.*step-000003"):
        folder.newest_checkpoint()


def test_leftovers_do_not_count_and_are_removed_and_one_that_was_being_replaced_does(folder):
    new = folder.checkpoint(4).with_name("step-000004.new")
    shutil.copytree(folder.checkpoint(3), new)
    (new / NOTE).write_text("", encoding="utf-8")
    (folder.path / ".123-456-turntable.mp4").write_text("half", encoding="utf-8")
    (folder.path / ".mine").write_text("kept", encoding="utf-8")
    folder.checkpoint(3).rename(folder.checkpoint(3).with_name("step-000003.old"))  # killed between two renames
    assert [p.name for p in folder.checkpoints()] == ["step-000002", "step-000003.old"]
    assert folder.newest_checkpoint().note.step == 3
    with folder.writing():
        assert not new.exists() and not (folder.path / ".123-456-turntable.mp4").exists() and (folder.path / ".mine").exists()


def test_checkpoints_are_in_order_of_their_numbers(folder):
    for step in (999999, 1000200):
        shutil.copytree(folder.checkpoint(3), folder.checkpoint(step))
    assert [p.name for p in folder.checkpoints()][-2:] == ["step-999999", "step-1000200"]
    assert folder.newest_checkpoint().path == folder.checkpoint(3), "those hold the state of step 3"


def test_a_checkpoint_without_digests_is_read(folder):
    """As earlier versions wrote them."""
    (folder.checkpoint(3) / NOTE).write_text(json.dumps({"step": 3, "refused": 0, "threads": 1, "torch": "2"}), encoding="utf-8")
    assert Session.resumed(config(), red_and_blue(), folder.newest_checkpoint()).state.step == 3
    (folder.checkpoint(3) / TENSORS).write_bytes((folder.checkpoint(3) / TENSORS).read_bytes()[:-9])
    assert folder.newest_checkpoint().note.step == 2


def test_a_full_disk_leaves_the_earlier_one(folder):
    session = Session.resumed(config(), red_and_blue(), folder.checkpoint(3))
    session.step()
    before = (folder.checkpoint(3) / TENSORS).read_bytes()
    with room(5000), pytest.raises(UserError, match="could not write the checkpoint") as caught:
        session.state.save(folder.checkpoint(3), session.config)
    assert "\n" not in str(caught.value) and (folder.checkpoint(3) / TENSORS).read_bytes() == before
    assert sorted(p.name for p in (folder.path / "checkpoints").iterdir()) == ["step-000002", "step-000003"]


def test_files_are_as_readable_as_the_umask_says(folder):
    mask = os.umask(0)
    os.umask(mask)
    assert {stat.S_IMODE((folder.checkpoint(3) / n).stat().st_mode) for n in (TENSORS, NOTE)} == {0o666 & ~mask}


@pytest.mark.parametrize(
    "c",
    [
        config(),
        config(VSD(scale=3.0), init=Blob(count=70), resolutions=(16, 32), milestones=(0.5,)),
        config(SDI(variant="code"), init=FromFile(Path("/x/y.ply"))),
        Train(prompt="é"),
    ],
)
def test_settings_survive_plain_data(c):
    plain = json.loads(json.dumps(to_plain(c)))
    assert from_plain(Train(prompt="other"), plain) == c
    assert differences(plain, plain) == []


def test_what_differs_is_told_as_commands_that_make_it_so():
    before, after = config(), config(SDS(scale=9.0, times=Times(t_min=0.02, t_max=0.6)), steps=30)
    changes = differences(to_plain(before), to_plain(after))
    assert set(changes) == {SetField("steps", 30), SetField("guidance.scale", 9.0), SetField("guidance.times.t_max", 0.6)}
    plain = to_plain(before)
    for change in changes:
        plain = commanded(plain, change)
    assert plain == to_plain(after)


@pytest.mark.parametrize(
    "change", [{"steps": "9"}, {"steps": True}, {"guidance": 3}, {"guidance": {"scale": None}}, {"nails": 1}, {"guidance_weight": 10**400}, {"guidance_weight": float("nan")}, {"rates": {"means": "x"}}]
)
def test_settings_of_other_types_are_refused(change):
    with pytest.raises(UserError, match="the saved settings hold"):
        from_plain(config(), change)


def test_a_checkpoint_carries_the_settings_in_force(folder):
    session = Session.resumed(config(), red_and_blue(), folder.checkpoint(3))
    session.apply(SetField("guidance.scale", 99.0))
    session.step()
    session.state.save(folder.checkpoint(4), session.config)
    folder.config.write_text("prompt: a red disc\nseed: 7\nguidance: {name: sds, scale: 1.0}\n", encoding="utf-8")
    assert not folder.log.exists()
    assert (folder.settings()["guidance"]["scale"], folder.settings(3)["guidance"]["scale"]) == (99.0, 1.0)
    now = in_force(config(seed=7), folder, folder.newest_checkpoint())
    assert now.guidance == session.config.guidance and now.seed == 7, "what cannot be steered is as config.yaml has it"
    assert read_note(folder.checkpoint(4)).sign is None


@pytest.mark.parametrize("text", ["", "[]", "prompt: null", "a: &a [1]\nprompt: x\nb: *a", "\xff", "{" * 500, "steps: " + "9" * 5000])
def test_a_config_that_is_no_runs_is_refused_in_one_line(tmp_path, text):
    RunDir(tmp_path).config.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.yaml is not the configuration of a run") as caught:
        RunDir(tmp_path).settings()
    assert "\n" not in str(caught.value)
