"""The same runs from Python: the command line's layers, with objects."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from helpers import write_sd_folder
from PIL import Image

import splatdistill
from splatdistill.api import overlay, settle
from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.guidance import SDI, SDS, Times
from splatdistill.priors import weights
from splatdistill.scene.initial import Ball
from splatdistill.settings.commands import parse_train
from splatdistill.train.events import StepDone
from splatdistill.train.reference import Reference

SMALL = {"steps": 3, "batch": 1, "init": Ball(count=30)}


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put random weights in the embedded prior's place; return their folder."""
    folder = write_sd_folder(tmp_path / "tiny", patches=True)
    monkeypatch.setattr(weights, "TINY", folder)
    monkeypatch.setattr(weights, "DEFAULT", "tiny")
    monkeypatch.chdir(tmp_path)
    return folder


def typed(argv: str):
    return parse_train(["--prompt", "a red ball", *argv.split()], lambda source: "tiny").config


def settled(guidance=None, **more):
    return settle("a red ball", guidance, {"prior": "tiny", "device": "cpu", **more})[0]


def test_a_picture_brings_its_recipe_as_on_the_command_line(tmp_path):
    settings = {"image": Reference(path=tmp_path / "a.png", mask=3.0)}
    save = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    save.paste((255, 0, 0, 255), (8, 8, 24, 24))
    save.save(tmp_path / "a.png")
    parsed, _ = settle("", None, {"prior": "tiny", "device": "cpu", **settings})
    assert parsed.config.image.rgb > 0 and parsed.config.image.mask == 3.0 and parsed.config.image.path == tmp_path / "a.png"
    assert settled().config.image == Reference()


@pytest.mark.parametrize(
    ("guidance", "more", "argv"),
    [
        (None, {}, ""),
        ("sds", {}, "--guidance sds"),
        (SDI(), {}, "--guidance sdi"),
        (SDS(), {"steps": 7}, "--guidance sds --steps 7"),
        (
            SDI(scale=3.0, times=Times("linear", t_min=0.4, t_max=None)),
            {},
            "--guidance sdi --guidance.scale 3 --guidance.times.t_min 0.4",
        ),
        (None, {"init": Ball(count=9), "densify": "gradient"}, "--init.count 9 --densify gradient"),
    ],
)
def test_arguments_mean_what_options_mean(guidance, more, argv):
    assert settled(guidance, **more).config == typed(f"--prior tiny --device cpu {argv}")


def test_what_python_chose_is_noted():
    p = settled(SDI(scale=3.0))
    assert p.chosen_by["guidance.scale"] == "Python" and p.chosen_by["steps"] == "recipe tiny/sdi"


def test_a_class_of_ones_own_is_taken_whole():
    @dataclass(frozen=True)
    class Mine(SDS):
        strength: float = 0.5

    c = settled(Mine(strength=2.0)).config
    assert (type(c.guidance), c.guidance.strength) == (Mine, 2.0)
    assert c.guidance.scale == 7.5  # of the family's base, which holds for every method
    assert c.steps == typed("--guidance sds").steps


def test_overlay_keeps_what_was_left_alone():
    below = SDI(scale=7.0, jitter=0.2, times=Times("linear", t_min=0.2, t_max=0.8))
    assert overlay(below, SDI(jitter=0.3, times=Times("linear", t_min=0.3, t_max=None)), SDI()) == SDI(
        scale=7.0, jitter=0.3, times=Times("linear", t_min=0.3, t_max=0.8)
    )
    assert overlay(below, SDS(scale=4.0), SDI()) == SDS(scale=4.0)


def test_distil_makes_a_run_that_the_command_line_can_repeat(tmp_path):
    steps = []
    result = splatdistill.distil(
        prompt="a red ball",
        guidance=splatdistill.SDI(),
        prior="tiny",
        out=tmp_path / "run",
        callbacks=[lambda e: steps.append(e.step) if isinstance(e, StepDone) else None],
        **SMALL,
    )
    assert steps == [1, 2, 3] and result.ended.how == "done" and len(result.gaussians) == 30
    assert result.folder == tmp_path / "run" and result.files.splats.exists()
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))["init"]["count"] == 30
    assert main(["train", "--config", "run/config.yaml", "--out", "again"]) == 0
    assert (tmp_path / "again" / "splats.ply").read_bytes() == result.files.splats.read_bytes()


def test_a_session_is_stepped_by_hand_and_writes_nothing(tmp_path):
    session = splatdistill.session("a red ball", "sds", prior="tiny", **SMALL)
    before = session.gaussians().means.clone()
    assert session.step().step == 1 and not session.gaussians().means.equal(before)
    assert session.render(splatdistill.orbit([0, 90], width=16)).shape == (2, 3, 16, 16)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_mistakes_are_told():
    with pytest.raises(TypeError, match="did you mean 'steps'"):
        splatdistill.distil("a red ball", stesp=3)
    with pytest.raises(UserError, match="nothing like it"):
        splatdistill.distil("a knight", prior="tiny")
    with pytest.raises(UserError, match="--guidance sdi"):
        splatdistill.session("a red ball", "sdii", prior="tiny")


def test_the_notice_of_auto_is_a_warning(monkeypatch):
    monkeypatch.setattr(weights, "has_cuda", lambda: False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.setattr("splatdistill.priors.hub.cached", lambda repo: None)
    with pytest.warns(UserWarning) as told:
        settle("a red ball", None, {"device": "cpu"})
    assert sum("Using the embedded prior `tiny`" in str(w.message) for w in told) == 1
