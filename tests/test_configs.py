"""Every shipped recipe parses through the command line's own parser and says where it comes from."""

from functools import cache
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from splatdistill.settings import recipes
from splatdistill.settings import yaml as tree
from splatdistill.settings.commands import CHOICES, parse_train

BASES = sorted((ROOT / "configs").glob("*/base.yaml"))
FILES = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name not in ("bench", "extra", "image", "phases") and p not in BASES)  # bench: tests/bench; extra: tests/guidance; image: tests/cli/test_from_image.py; phases: tests/train/test_phases.py


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def loaded(path: Path):
    """Return the configuration of the recipe that a file is, as a family's prior gets it."""
    name = [f"--guidance={path.stem}"] if path.stem in CHOICES[0].names else []
    return parse_train([*name, "--prompt", "a red mushroom"], lambda source: path.parent.name)


def options(path: Path) -> dict[str, object]:
    return dict(tree.leaves(yaml.safe_load(path.read_text(encoding="utf-8"))))


def test_they_are_read_from_here():
    assert recipes.folder() == ROOT / "configs"
    methods = {f"configs/{family}/{name}.yaml" for family in ("tiny", "world", "sd") for name in CHOICES[0].names}
    assert {ids(p) for p in FILES} >= methods and {ids(p) for p in BASES} == {f"configs/{family}/base.yaml" for family in ("tiny", "world", "sd")}


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_it_parses_to_what_it_says_above_its_base(path):
    parsed = loaded(path)
    said, base = options(path), options(path.with_name("base.yaml"))
    got = dict(tree.leaves(tree.to_tree(parsed.config, parsed.spell)))
    assert said and {k: got[k] for k in said} == said
    assert all(parsed.chosen_by[k] == f"recipe {path.parent.name}/{path.stem}" for k in said if k != "guidance")  # that was typed
    below = {k: v for k, v in base.items() if k not in said and k in got}
    assert {k: got[k] for k in below} == below
    assert all(parsed.chosen_by[k] == f"recipe {path.parent.name}/base" for k in below)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_it_says_only_what_differs_from_its_base(path):
    base = options(path.with_name("base.yaml"))
    choices = {c.field for c in CHOICES}  # a class is named again where its options are
    assert not [k for k, v in options(path).items() if k in base and base[k] == v and k not in choices]


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_it_names_its_source_and_the_classes_whose_options_it_sets(path):
    heading = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("Source" in line for line in heading)
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert said["guidance"]["name"] == path.stem
    assert all("name" in said[c.field] for c in CHOICES if c.field in said)  # --init file would be given a ball's options


@pytest.mark.parametrize("path", BASES, ids=ids)
def test_an_option_of_the_base_is_one_that_most_methods_take(path):
    assert any("Source" in line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    methods = [f for f in FILES if f.parent == path.parent]
    for option in options(path):
        taken = [f.stem for f in methods if option in loaded(f).chosen_by]
        assert len(taken) > len(methods) / 2, option


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in ("tiny", "world")], ids=ids)
def test_an_embedded_prior_is_only_shown_what_it_has_seen(path):
    from splatdistill.toybox.world import VIEWS

    cameras = loaded(path).config.cameras
    for name in ("elevation", "distance", "fov"):
        (low, high), (least, most) = getattr(cameras, name), getattr(VIEWS, name)
        assert least <= low <= high <= most
