"""Senseless values are refused alike, typed, in a file, built in Python, or steered."""

from dataclasses import replace
from functools import reduce

import pytest

from splatdistill import checks
from splatdistill.cli.train import COMMAND
from splatdistill.errors import UserError
from splatdistill.settings.commands import CHOICES
from splatdistill.settings.layers import parse
from splatdistill.train.commands import SetField
from splatdistill.train.config import Train
from splatdistill.train.steer import UNCHANGING, configured

NAN, INF = float("nan"), float("inf")

# path, value, and the message without the name in front and the value at the end; a class name in front of the dot of a choice
BAD = [
    ("steps", 0, "must be at least 1"),
    ("steps", 10**8, "must be at most 10000000"),
    ("seed", 2**70, f"must lie within {-(2**63)} and {2**63 - 1}"),
    ("batch", -1, "must be at least 1"),
    ("accumulate", 0, "must be at least 1"),
    ("max_gaussians", 10**8, "must be at most 10000000"),
    ("particles", 9, "must lie within 1 and 8"),
    ("checkpoint_every", -1, "must be at least 0"),
    ("preview_every", -5, "must be at least 0"),
    ("guidance_weight", NAN, "must be finite"),
    ("resolutions", [7], "must lie within 8 and 4096"),
    ("resolutions", [10**9], "must lie within 8 and 4096"),
    ("milestones", [0.5, 0.2], "must go from low to high"),
    ("milestones", [1.5], "must lie between 0 and 1, both excluded"),
    ("milestones", [0.5], "must be 0 with 0 resolutions"),
    ("background.rate", 0.0, "must be above 0"),
    ("background.rate", INF, "must be finite"),
    ("regularise.sparsity", INF, "must be finite"),
    ("regularise.smooth", -1.0, "must be at least 0"),
    ("rates.means", NAN, "must be finite"),
    ("rates.means_end", 0.0, "must be above 0"),
    ("rates.opacities", -2.0, "must be at least 0"),
    ("rates.tuned_for_steps", -1, "must be at least 0"),
    ("cameras.distance", [INF, INF], "must be finite"),
    ("cameras.distance", [3.0, 2.0], "must go from low to high"),
    ("cameras.distance", [0.0, 2.0], "must be above 0"),
    ("cameras.fov", [0.0, 40.0], "must lie between 0 and 180, both excluded"),
    ("cameras.elevation", [-100.0, 0.0], "must lie within -90 and 90"),
    ("directions.front_angle", 200.0, "must lie within 0 and 180"),
    ("directions.overhead_angle", NAN, "must be finite"),
    ("init=ball.count", 0, "must be at least 1"),
    ("init=blob.count", 10**8, "must be at most 10000000"),
    ("init=ball.radius", -1.0, "must be above 0"),
    ("init=ball.opacity", 1.0, "must lie between 0 and 1, both excluded"),
    ("init=file.count", -3, "must be at least 1"),
    ("densify=fixed.every", 0, "must be at least 1"),
    ("densify=gradient.every", -3, "must be at least 1"),
    ("densify=gradient.fraction", NAN, "must be finite"),
    ("densify=gradient.reset_every", 0, "must be at least 1"),
    ("densify=gradient.reset_opacity", 1.0, "must lie between 0 and 1, both excluded"),
    ("densify=relocate.noise", -1.0, "must be at least 0"),
    ("densify=relocate.until", 2.0, "must lie within 0 and 1"),
    ("guidance=sds.scale", NAN, "must be finite"),
    ("guidance=sds.rescale", 2.0, "must lie within 0 and 1"),
    ("guidance=sdi.times.t_max", 1.5, "must lie within 0 and 1"),
    ("guidance=csd.times.t_min", NAN, "must be finite"),
]


def apart(path: str) -> tuple[str, str, str]:
    """Return the plain path, the field of the choice, and the name of its class."""
    head, _, rest = path.partition(".")
    field, _, name = head.partition("=")
    return (f"{field}.{rest}" if rest else field), field, name


@pytest.mark.parametrize(("path", "value", "problem"), BAD, ids=lambda v: str(v)[:40])
def test_it_is_refused_in_the_same_words_everywhere(path, value, problem, tmp_path):
    plain, field, name = apart(path)
    option = f"--{plain.replace('_', '-')}"
    said = f"{option} {problem}, got {checks.shown(value)}"
    choice = [f"--{field}", name] if name else []
    values = [str(v) for v in value] if isinstance(value, list) else [str(value)]
    words = [option, *values] if isinstance(value, list) else [f"{option}={values[0]}"]
    with pytest.raises(UserError) as typed:
        parse(["--prompt", "x", *choice, *words], lambda source: None, COMMAND)
    assert str(typed.value) == said

    text = reduce(lambda inner, key: f"{{{key}: {inner}}}", reversed(plain.split(".")[1:]), yaml_of(value))
    head = plain.split(".")[0]
    (tmp_path / "mine.yaml").write_text(f"{head}: {text}\n" if not name else f"{head}: {{name: {name}, {text[1:]}\n", encoding="utf-8")
    with pytest.raises(UserError) as filed:
        parse(["--prompt", "x", f"--config={tmp_path}/mine.yaml"], lambda source: None, COMMAND)
    assert str(filed.value) == f"{said} (of {tmp_path}/mine.yaml)"

    kinds = {c.field: c.names for c in CHOICES}
    config = Train(prompt="x", **({field: kinds[field][name]()} if name else {}))
    with pytest.raises(UserError) as built, checks.part(".".join(plain.split(".")[:-1])):
        owner = reduce(getattr, plain.split(".")[:-1], config)
        replace(owner, **{plain.split(".")[-1]: tuple(value) if isinstance(value, list) else value})
    assert str(built.value) == said

    if field not in UNCHANGING and not isinstance(value, list):
        with pytest.raises(UserError) as steered:
            configured(config, SetField(plain, value))
        assert str(steered.value) == said


def yaml_of(value):
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_of, value))}]"
    return {"nan": ".nan", "inf": ".inf"}.get(str(value), str(value))


def test_values_that_only_make_sense_together_may_come_from_different_layers(tmp_path):
    (tmp_path / "mine.yaml").write_text("resolutions: [16, 32]\nguidance: {name: sds, times: {t_min: 0.5, t_max: 0.4}}\ncameras: {fov: [50, 40]}\n", encoding="utf-8")
    typed = ["--milestones", "0.5", "--guidance.times.t-max", "0.9", "--cameras.fov", "30", "40"]
    c = parse(["--prompt", "x", f"--config={tmp_path}/mine.yaml", *typed], lambda source: None, COMMAND).config
    assert (c.resolutions, c.milestones, c.guidance.times.t_min, c.guidance.times.t_max) == ((16, 32), (0.5,), 0.5, 0.9)

