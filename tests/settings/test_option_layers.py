"""Layers of options: who wins, what is dropped with its class, what is told of a mistake; and the way back."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splatdistill.cli.train import COMMAND
from splatdistill.densify import Fixed, Gradient
from splatdistill.errors import UserError
from splatdistill.guidance import SDI, SDS, Times
from splatdistill.scene.initial import Ball, Blob
from splatdistill.settings import recipes, yaml
from splatdistill.settings.commands import AMORTISE, TRAIN, parse_train
from splatdistill.settings.layers import Parsed, parse
from splatdistill.settings.recipes import folder
from splatdistill.train.config import Train


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Write a recipe for sdi and one for sds, in place of the shipped ones."""
    for family in ("tiny", "sd"):
        (tmp_path / family).mkdir()
        (tmp_path / family / "sdi.yaml").write_text(
            f"steps: 111\nbatch: 3\nguidance: {{name: sdi, scale: {7 if family == 'tiny' else 8}, jitter: 0.2}}\n",
            encoding="utf-8",
        )
        (tmp_path / family / "sds.yaml").write_text(
            "steps: 222\nguidance: {name: sds, scale: 30}\ndensify: {name: gradient, every: 7}\n",
            encoding="utf-8",
        )
    monkeypatch.setattr(recipes, "folder", lambda: tmp_path)
    return tmp_path


def of(argv: str | list[str], family="tiny", **more) -> Parsed:
    return parse_train(argv.split() if isinstance(argv, str) else argv, lambda source: family, **more)


def saved(tmp_path, text: str) -> str:
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
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
        "class Mine(SDS):\n    '''Mine.'''\n    strength: float = 0.5\n    '''How strong.'''\n",
        encoding="utf-8",
    )
    p = of(f"--guidance {tmp_path}/own.py:Mine --guidance.strength 2 --prompt x")
    g = p.config.guidance
    assert (type(g).__name__, g.strength, g.scale, p.config.steps) == ("Mine", 2.0, 101.0, 222)
    (tmp_path / "again.yaml").write_text(p.yaml([]), encoding="utf-8")
    assert of(f"--config {tmp_path}/again.yaml").config == p.config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stesp: 5", "there is no option stesp: did you mean steps?"),
        ("guidance: {scael: 5}", "there is no option guidance.scael: did you mean guidance.scale?"),
        ("guidance: {tmies: {shared: true}}", "there is no option guidance.tmies.shared: did you mean guidance.times.shared?"),
        ("camras: {fov: [40, 44]}", "there is no option camras.fov: did you mean cameras.fov?"),
        ("generator: {name: conv}", "there is no option generator here (amortise has it); --help lists all there are"),
        ("guidance: 3", "there is no guidance '3'"),
        ("cameras: 3", "cameras has options of its own, got 3; expected cameras: {OPTION: VALUE}"),
        ("steps: many", "steps must be a whole number, got 'many'"),
        ("steps: 3.0", "steps must be a whole number, got 3.0"),
        ("steps: true", "steps must be a whole number, got True"),
        ("steps: null", "steps must be a whole number, got None"),
        ("prompt: null", "prompt must be text, got None"),
        ("prompt: 12", "prompt must be text, got 12; put it in quotes"),
        ("perp_neg: maybe", "perp_neg must be one of auto, on, off, got 'maybe'"),
        ("perp_neg: false", "perp_neg must be one of auto, on, off, got False"),
        ("cameras: {fov: [40]}", "cameras.fov must be 2 numbers, got 40"),
        ("cameras: {fov: [40, x]}", "cameras.fov must be 2 numbers, got 40 'x'"),
        ("view_dependent: perhaps", "view_dependent must be true or false, got 'perhaps'"),
        ("densify: {name: fixed, threshold: 1}", "--densify fixed has no option densify.threshold: gradient has; choose it with --densify gradient"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_the_file_and_what_was_meant(tmp_path, text, said):
    with pytest.raises(UserError) as e:
        of(saved(tmp_path, text))
    assert said in str(e.value) and len(str(e.value).splitlines()) == 1
    assert str(e.value).startswith(f"{tmp_path / 'mine.yaml'}: ") or "no guidance" in said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--stesp 5", "there is no option --stesp: did you mean --steps?"),
        ("--step 5", "there is no option --step: did you mean --steps?"),
        ("--guidance.scael 5", "there is no option --guidance.scael: did you mean --guidance.scale?"),
        ("--promt x", "there is no option --promt: did you mean --prompt?"),
        ("--scale 5", "did you mean --guidance.scale"),
        ("--no-steps", "there is no option --no-steps"),
        ("--corpus toybox", "there is no option --corpus here (amortise has it)"),
        ("--prompts x", "there is no option --prompts here (amortise has it): did you mean --prompt?"),
        ("--zzz", "there is no option --zzz; --help lists all there are"),
        ("--guidance sds --guidance.jitter 1", "--guidance sds has no option --guidance.jitter: sdi has (so does jsd); choose it with --guidance sdi, or leave the option out"),
        ("--guidance sds --guidance.times.high 1", "there is no option --guidance.times.high: did you mean --guidance.times.t-max?"),
        ("--guidance sds --guidance.around 1", "--guidance sds has no option --guidance.around: collaborative has; choose it"),
        ("--init.path x", "--init ball has no option --init.path: file has (so does generator); choose it with --init file, or leave the option out"),
        ("--densify.growth 1", "--densify fixed has no option --densify.growth: relocate has; choose it"),
        ("--steps many", "--steps must be a whole number, got 'many'"),
        ("--steps", "--steps must be a whole number, got nothing"),
        ("--steps=", "--steps must be a whole number, got ''"),
        ("--precision float8", "--precision must be one of auto, float32, bfloat16, float16, got 'float8'"),
        ("--background.kind whte", "--background.kind must be one of white, black, random, mixed, learned, got 'whte'. Did you mean white?"),
        ("--resolutions 3.5", "--resolutions must be whole numbers, got '3.5'"),
        ("--cameras.fov 40", "--cameras.fov must be 2 numbers, got '40'"),
        ("--guidance.grad-clip x", "--guidance.grad-clip must be a number, got 'x'"),
        ("--guidance.times.shared True", "'True' belongs to no option; --guidance.times.shared is typed without a value, --guidance.times.no-shared is its contrary"),
        ("--no-compile false", "'false' belongs to no option; --compile is typed without a value, --no-compile is its contrary"),
        ("loose words", "'loose' belongs to no option"),
    ],
)
def test_a_mistake_that_was_typed_is_told_in_one_line_with_what_was_meant(argv, said, capsys):
    with pytest.raises(UserError) as e:
        of(argv)
    text = str(e.value)
    assert text.startswith(said) or (said in text and said.startswith("did you")), text
    assert e.value.code == 2 and len(text.splitlines()) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "get", "value"),
    [
        ("perp_neg: off", lambda c: c.perp_neg, "off"),
        ("perp_neg: on", lambda c: c.perp_neg, "on"),
        ("prompt: no", lambda c: c.prompt, "no"),
        ("prompt: 12:30", lambda c: c.prompt, "12:30"),
        ("prompt: 2026-11-28", lambda c: c.prompt, "2026-11-28"),
        ("view_dependent: off", lambda c: c.view_dependent, False),
        ("view_dependent: yes", lambda c: c.view_dependent, True),
        ("view_dependent: false", lambda c: c.view_dependent, False),
        ("regularise: {sparsity: 1e-3}", lambda c: c.regularise.sparsity, 0.001),
        ("regularise: {sparsity: 2}", lambda c: c.regularise.sparsity, 2.0),
        ("steps: '70'", lambda c: c.steps, 70),
        ("steps: 010", lambda c: c.steps, 10),
        ("resolutions: 64", lambda c: c.resolutions, (64,)),
        ("resolutions: []", lambda c: c.resolutions, ()),
        ("cameras: {elevation: [-5, 40]}", lambda c: c.cameras.elevation, (-5.0, 40.0)),
        ("init: {name: file, path: a b.ply}", lambda c: c.init.path, Path("a b.ply")),
        ("densify: {name: gradient, fraction: null}", lambda c: c.densify.fraction, None),
    ],
)
def test_plain_values_of_a_file_are_what_their_option_holds(tmp_path, text, get, value):
    got = get(of(saved(tmp_path, text)).config)
    assert got == value and type(got) is type(value)


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
LEVELS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
TOP = {
    "seed": st.integers(-(2**63), 2**63 - 1),
    "steps": st.integers(1, 10**7),
    "view_dependent": st.booleans(),
    "guidance_weight": NUMBERS,
    "prompt": st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
    "resolutions": st.lists(st.integers(8, 4096), max_size=1).map(tuple),
}
GROWTH = st.fixed_dictionaries({"fraction": st.none() | st.floats(0, 1), "revised_opacity": st.booleans()})


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=st.fixed_dictionaries(TOP), scale=NUMBERS, levels=LEVELS, growth=GROWTH)
def test_a_written_configuration_is_read_back_exactly(top, scale, levels, growth, tmp_path):
    """A whole configuration leaves nothing to any recipe."""
    times = Times(t_min=levels[0], t_max=levels[1])
    config = Train(**top, guidance=SDI(scale=scale, times=times, variant="code"), densify=Gradient(**growth))
    parsed = replace(of([], kinds={"densify": Gradient}), config=config)
    (tmp_path / "config.yaml").write_text(parsed.yaml(["a heading"]), encoding="utf-8")
    assert of(["--config", str(tmp_path / "config.yaml")], "sd").config == config


def test_the_shipped_recipes_are_found():
    assert {p.relative_to(folder()).as_posix() for p in folder().rglob("*.yaml")} >= {
        "tiny/sdi.yaml",
        "tiny/sds.yaml",
        "sd/sdi.yaml",
        "sd/sds.yaml",
    }


def test_config_takes_the_name_of_a_file_that_comes_with_the_package(tmp_path, monkeypatch):
    """A name stands for configs/extra/NAME.yaml, whoever says it in the configuration; a file that is there goes before."""
    monkeypatch.chdir(tmp_path)
    argv = ["--prompt", "a red mug", "--guidance", "sdi"]
    slow, fast = (parse_train([*argv, *more], lambda source: "world") for more in ([], ["--config", "fast"]))
    assert fast.config == replace(slow.config, steps=80) and fast.chosen_by["steps"] == "fast"
    assert parse_train([*argv, "--config=fast", "--steps", "7"], lambda source: "world").config.steps == 7
    Path("fast").write_text("steps: 9\n", encoding="utf-8")
    assert parse_train([*argv, "--config", "fast"], lambda source: "world").config.steps == 9
    for path in recipes.extra().values():
        if path.stem == "fast":
            continue  # that file is in the way now
        of_many = "generator" in yaml.read(path)
        command, asks = (AMORTISE, ["--corpus", "toybox"]) if of_many else (TRAIN, ["--prompt", "a mug"])
        by_name, by_path = (parse([*asks, "--config", said], lambda source: "sd", command).config for said in (path.stem, str(path)))
        assert by_name == by_path
    with pytest.raises(UserError, match="fats.*, fast, .*mvdream"):
        parse_train([*argv, "--config", "fats"], lambda source: "world")
    with pytest.raises(UserError, match="could not read"):
        parse_train([*argv, "--config", "fats.yaml"], lambda source: "world")
