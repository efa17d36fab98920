"""`splatdistill train` and its viewer: whether it is opened, what is said, what is left, and what the page is told of the prior."""

import sys

import pytest

from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.train.commands import SetField
from splatdistill.train.events import Applied

pytestmark = pytest.mark.usefixtures("short_films")


def train(folder, *more):
    from helpers import write_sd_folder

    prior = folder / "sd"
    if not prior.exists():
        write_sd_folder(prior)
    small = ["--steps", "6", "--batch", "1", "--init.count", "40", "--device", "cpu", "--prior", str(prior)]
    return main(["train", "--prompt", "a red mushroom", *small, *more])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_train_with_a_viewer_says_where_and_without_waiting_leaves_a_film(here, capsys):
    assert train(here, "--viewer", "--no-wait", "--port", "8700", "--out", "a") == 0
    said = capsys.readouterr().out
    assert "http://127.0.0.1:87" in said and "ssh -L 87" in said and "Ctrl-C" not in said
    assert (here / "a" / "replay.html").stat().st_size > 800_000
    assert "viewer:" not in (here / "a" / "config.yaml").read_text(encoding="utf-8")


def test_nobody_watching_imports_nothing_and_does_not_wait(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "splatdistill_viewer.run_page", None)  # importing it would fail, and that is told
    assert train(here, "--out", "a") == 0 and train(here, "--no-viewer", "--out", "b") == 0
    said = capsys.readouterr().out
    assert "could not be opened" not in said and "watch and steer" not in said and not (here / "a" / "replay.html").exists()
    assert train(here, "--viewer", "--out", "c") == 0
    assert "could not be opened, the run goes on without it" in capsys.readouterr().out
    assert (here / "a" / "splats.ply").read_bytes() == (here / "c" / "splats.ply").read_bytes()


def test_a_person_is_a_terminal_unless_something_says_otherwise(monkeypatch):
    from splatdistill.cli import console

    class Terminal:
        def isatty(self):
            return True

    for name in console.QUIET:
        monkeypatch.delenv(name, raising=False)
    assert not console.watched()
    monkeypatch.setattr(console.sys, "stdin", Terminal())
    monkeypatch.setattr(console.sys, "stdout", Terminal())
    assert console.watched()
    monkeypatch.setenv("CI", "1")
    assert not console.watched()


def test_a_run_is_replayed_from_the_command_line(here):
    from splatdistill.train.replay import Given
    from splatdistill.train.run import RunDir as Folder

    assert train(here, "--out", "a") == 0
    assert train(here, "--out", "plain") == 0
    folder = Folder(here / "plain")
    folder.log.write_text("", encoding="utf-8")
    folder.record(Applied(0, SetField("rates.colours", 0.5)))
    assert main(["train", "--replay", "plain", "--out", "b"]) == 0
    assert (here / "a" / "splats.ply").read_bytes() == (here / "plain" / "splats.ply").read_bytes()
    assert (here / "b" / "splats.ply").read_bytes() != (here / "a" / "splats.ply").read_bytes()
    assert main(["train", "--replay", "b", "--config", "a/config.yaml", "--out", "c"]) == 0
    assert (here / "c" / "splats.ply").read_bytes() == (here / "b" / "splats.ply").read_bytes()
    assert Given(0, SetField("rates.colours", 0.5)).attempt == 0


def test_choosing_a_guidance_takes_the_recipe_of_the_prior():
    from splatdistill.cli.viewer import choosing

    inner, choose, weight = choosing("tiny", "csd")
    assert inner == SetField("inner", 1)  # it has no target, and would be refused beside two steps towards one
    assert choose.kind == "csd" and dict(choose.fields)["times.t_min"] > 0 and weight == SetField("guidance_weight", 0.008)


@pytest.mark.parametrize("family, name", [("world", "csd"), ("world", "sdi"), ("world", "sdedit"), ("tiny", "sds"), ("tiny", "sdi")])
def test_a_page_goes_over_to_a_guidance_with_a_target_or_without(family, name):
    from splatdistill.cli.viewer import choosing
    from splatdistill.settings.commands import parse_train
    from splatdistill.train.steer import configured

    def begun(name):
        return parse_train([f"--guidance={name}", "--prompt", "a red mushroom"], lambda source: family).config

    wanted = begun(name)
    for before in ("sdi", "csd", "sdedit"):
        config = begun(before)
        for command in choosing(family, name):
            config = configured(config, command)
        assert type(config.guidance) is type(wanted.guidance) and (config.inner, config.guidance.scale) == (wanted.inner, wanted.guidance.scale)


def test_a_page_keeps_guidances_that_are_added():
    from splatdistill.cli.viewer import choosing
    from splatdistill.settings.commands import parse_train
    from splatdistill.train.steer import configured

    mixed = parse_train(["--guidance=csd", "--inner=1", "--also", "sds*0.5", "--prompt", "a red mushroom"], lambda source: "world").config
    for command in choosing("world", "sdi", alone=False):
        mixed = configured(mixed, command)
    assert mixed.inner == 1


def test_the_words_of_the_embedded_prior_are_those_of_the_command_line():
    from splatdistill.cli.viewer import words

    for prior, prompt in (("tiny", "a red mushroom"), ("tiny", " "), ("some/weights", "a green elephant")):
        words(prior, prompt, "")
    with pytest.raises(UserError, match="a green elephant") as e:
        words("tiny", "a green elephant", "")
    assert "\n" not in str(e.value)
