"""Layers of options: who wins, what is dropped with its class, what is told of a mistake; and the way back."""

from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splatdistill.cli.train import COMMAND
from splatdistill.densify import Fixed, Gradient
from splatdistill.errors import UserError
from splatdistill.guidance import SDI, SDS, Times
from splatdistill.scene.initial import Ball, Blob
from splatdistill.settings import recipes
from splatdistill.settings.commands import parse_train
from splatdistill.settings.layers import Parsed, parse
from splatdistill.settings.recipes import folder
from splatdistill.train.config import Train


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe for sdi and one for sds, in place of the shipped ones."""
    for family in ("tiny", "sd"):
        (tmp_path / family).mkdir()
        (tmp_path / family / "sdi.yaml").write_text(
            f"steps: 111\nbatch: 3\nguidance: {{name: sdi, scale: {7 if family == 'tiny' else 8}, jitter: 0.2}}\n"
        )
        (tmp_path / family / "sds.yaml").write_text(
            "steps: 222\nguidance: {name: sds, scale: 30}\ndensify: {name: gradient, every: 7}\n"
        )
    monkeypatch.setattr(recipes, "folder", lambda: tmp_path)
    return tmp_path


def of(argv: str | list[str], family="tiny", **more) -> Parsed:
    return parse_train(argv.split() if isinstance(argv, str) else argv, lambda source: family, **more)


def saved(tmp_path, text: str) -> str:
    (tmp_path / "mine.yaml").write_text(text)
    return f"--config {tmp_path / 'mine.yaml'} "


def test_without_a_recipe_everything_is_a_class_default():
    assert of("--prompt x", None).config == Train(prompt="x")


def test_layers_lie_above_each_other(recipe, tmp_path):
    file = saved(tmp_path, "batch: 4\nguidance: {jitter: 0.3, eta: 0.1}\n")
    p = of(file + "--guidance.eta 0.4 --prompt x")
    g = p.config.guidance
    assert (p.config.steps, p.config.batch, g.scale, g.jitter, g.eta, g.inversion_steps) == (111, 4, 7.0, 0.3, 0.4, 10)
    who = {
        k: p.chosen_by.get(k)
        for k in ("steps", "batch", "guidance.scale", "guidance.jitter", "guidance.eta", "prompt", "seed")
    }
    name = str(tmp_path / "mine.yaml")
    first = f"recipe {recipe.name}/sdi".replace(recipe.name, "tiny")
    assert who == {
        "steps": first,
        "batch": name,
        "guidance.scale": first,
        "guidance.jitter": name,
        "guidance.eta": "command line",
        "prompt": "command line",
        "seed": None,
    }


def test_the_base_of_a_family_lies_below_its_methods(recipe):
    (recipe / "tiny" / "base.yaml").write_text(
        "steps: 5\naccumulate: 2\nguidance: {scale: 3, jitter: 0.4, eta: 0.5}\ninit: {name: blob, count: 7}\n", encoding="utf-8"
    )
    sdi, sds = of("--prompt x").config, of("--prompt x --guidance sds").config
    assert (sdi.steps, sdi.accumulate, sdi.guidance.scale, sdi.guidance.jitter, sdi.guidance.eta) == (111, 2, 7.0, 0.2, 0.5)
    assert (sds.steps, sds.accumulate, sds.guidance.scale) == (222, 2, 30.0)  # it has no jitter and no eta
    assert sds.init == Blob(count=7) and of("--prompt x --init ball").config.init == Ball()
    assert of("--prompt x").chosen_by["guidance.eta"] == "recipe tiny/base"


def test_the_prior_brings_its_recipe(recipe):
    assert of("--prompt x", "sd").config.guidance.scale == 8 and of("--prompt x", "tiny").config.guidance.scale == 7


@pytest.mark.parametrize("argv", ["--prior=here", "--prior here", "--config"])
def test_the_family_is_asked_for_the_prior_of_the_highest_layer(recipe, tmp_path, argv):
    asked = []
    argv = saved(tmp_path, "prior: here") if argv == "--config" else saved(tmp_path, "prior: there") + argv
    parse_train([*argv.split(), "--prompt", "x"], lambda source: asked.append(source) or "sd")
    assert asked == ["here"]


def test_the_guidance_brings_its_recipe_and_its_class(recipe):
    p = of("--guidance sds --guidance.times.t-max-end 0.5")
    assert (
        p.config.guidance == SDS(scale=30.0, times=Times(t_max_end=0.5))
        and p.config.steps == 222
        and p.config.densify == Gradient(every=7)
    )


def test_options_for_another_class_are_dropped_with_it(recipe, tmp_path):
    p = of(saved(tmp_path, "guidance: {name: sdi, jitter: 0.3}\nbatch: 9\n") + "--guidance sds")
    assert isinstance(p.config.guidance, SDS) and p.config.batch == 9 and p.config.guidance.scale == 30
    assert isinstance(of("--guidance sds --densify fixed").config.densify, Fixed)


@pytest.mark.parametrize("spelling", ["guidance: sds", "guidance: {name: sds}", "guidance: {name: sds, scale: 30}"])
def test_a_file_may_choose_the_class(recipe, tmp_path, spelling):
    assert of(saved(tmp_path, spelling)).config.guidance == SDS(scale=30.0)


def test_choices_by_name(recipe):
    c = of("--guidance sdi --densify gradient --densify.every 5 --init blob --init.count 12").config
    assert (c.densify, c.init, type(c.guidance)) == (Gradient(every=5), Blob(count=12), SDI)


def test_a_class_of_ones_own_takes_the_recipe_of_its_parent_without_that_ones_options(recipe, tmp_path):
    (tmp_path / "own.py").write_text(
        "from dataclasses import dataclass\nfrom splatdistill.guidance import SDS\n@dataclass(frozen=True)\n"
        "class Mine(SDS):\n    '''Mine.'''\n    strength: float = 0.5\n    '''How strong.'''\n"
    )
    p = of(f"--guidance {tmp_path}/own.py:Mine --guidance.strength 2 --prompt x")
    g = p.config.guidance
    assert (type(g).__name__, g.strength, g.scale, p.config.steps) == ("Mine", 2.0, 101.0, 222)
    (tmp_path / "again.yaml").write_text(p.yaml([]))
    assert of(f"--config {tmp_path}/again.yaml").config == p.config


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("stesp: 5", "--steps"),
        ("guidance: {scael: 5}", "--guidance.scale"),
        ("guidance: {tmies: {t_min: 0.1}}", "--guidance.times.t-min"),
        ("camras: {fov: [40, 44]}", "--cameras.fov"),
    ],
)
def test_a_misspelt_key_of_a_file_fails_with_a_suggestion_and_the_file(tmp_path, capsys, text, suggestion):
    with pytest.raises(UserError, match="mine.yaml"):
        of(saved(tmp_path, text))
    said = capsys.readouterr().err
    assert "Perhaps you meant" in said and suggestion in said


@pytest.mark.parametrize(
    ("argv", "suggestion"),
    [("--stesp 5", "--steps"), ("--guidance.scael 5", "--guidance.scale"), ("--promt x", "--prompt")],
)
def test_a_misspelt_option_fails_with_a_suggestion(capsys, argv, suggestion):
    with pytest.raises(SystemExit) as e:
        of(argv)
    said = capsys.readouterr().err
    assert e.value.code == 2 and "Perhaps you meant" in said and suggestion in said


@pytest.mark.parametrize(
    "argv",
    ["--steps many", "--device tpu", "--resolutions 3.5", "--cameras.fov 40", "--steps", "loose words", "--no-steps"],
)
def test_values_of_the_wrong_kind_are_refused(argv, capsys):
    with pytest.raises(SystemExit) as e:
        of(argv)
    assert e.value.code == 2 and capsys.readouterr().err


def test_values_of_the_wrong_kind_in_a_file_name_the_file(tmp_path, capsys):
    with pytest.raises(UserError, match="mine.yaml"):
        of(saved(tmp_path, "steps: many"))
    assert "--steps" in capsys.readouterr().err


def test_help_lists_every_field_with_its_text_and_the_recipes_values(recipe, capsys):
    with pytest.raises(SystemExit) as e:
        parse(["--help"], lambda source: "tiny", COMMAND)
    text = capsys.readouterr().out
    assert e.value.code == 0
    names = [f.name.replace("_", "-") for f in fields(Train)]
    assert [n for n in names if f"--{n}" not in text] == []
    assert all(f"--{n}" in text for n in ("out", "config", "resume", "guidance.inversion-scale", "init.count"))
    assert "(default: 111)" in text and "Optimiser steps." in text


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LEVELS = st.floats(0, 1)
TOP = {"seed": st.integers(), "steps": st.integers(1), "view_dependent": st.booleans(), "guidance_weight": NUMBERS}
TOP |= {
    "prompt": st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    "resolutions": st.lists(st.integers(8), max_size=3).map(tuple),
}
TIMES = st.fixed_dictionaries({"t_min": LEVELS, "t_max": LEVELS, "t_max_end": st.none()})
GROWTH = st.fixed_dictionaries({"fraction": st.none() | NUMBERS, "revised_opacity": st.booleans()})


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=st.fixed_dictionaries(TOP), scale=NUMBERS, times=TIMES, growth=GROWTH)
def test_a_written_configuration_is_read_back_exactly(top, scale, times, growth, tmp_path):
    """Whatever recipe there is: a whole configuration leaves nothing to it."""
    config = Train(**top, guidance=SDI(scale=scale, times=Times(**{**times, "t_min": min(times["t_min"], times["t_max"]), "t_max": max(times["t_min"], times["t_max"])}), variant="code"), densify=Gradient(**growth))
    parsed = replace(of([], kinds={"densify": Gradient}), config=config)
    (tmp_path / "config.yaml").write_text(parsed.yaml(["a heading"]))
    assert of(["--config", str(tmp_path / "config.yaml")], "sd").config == config


def test_the_shipped_recipes_are_found():
    assert {p.relative_to(folder()).as_posix() for p in folder().rglob("*.yaml")} >= {
        "tiny/sdi.yaml",
        "tiny/sds.yaml",
        "sd/sdi.yaml",
        "sd/sds.yaml",
    }
