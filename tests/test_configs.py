"""Every shipped recipe parses through the command line's own parser and says where it comes from."""

from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from splatdistill.cli import recipes, tree
from splatdistill.cli.choices import CHOICES
from splatdistill.cli.parse import parse
from splatdistill.train.session import check

FILES = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if p.parent.name != "bench")  # those are in tests/bench


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_they_are_read_from_here():
    assert recipes.folder() == ROOT / "configs"
    assert {ids(p) for p in FILES} >= {
        f"configs/{family}/{name}.yaml" for family in ("tiny", "sd") for name in CHOICES[0].names
    }


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_it_parses_to_what_it_says(path):
    parsed = parse(["--config", str(path), "--prompt", "a red mushroom"], lambda source: None)
    check(parsed.config)
    said = dict(tree.leaves(yaml.safe_load(path.read_text())))
    got = dict(tree.leaves(tree.to_tree(parsed.config, parsed.spell)))
    assert said and {k: got[k] for k in said} == said
    assert all(parsed.chosen_by[k] == str(path) for k in said)


@pytest.mark.parametrize("path", FILES, ids=ids)
def test_it_names_its_source_and_is_for_the_guidance_of_its_name(path):
    heading = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("Source" in line for line in heading)
    assert yaml.safe_load(path.read_text())["guidance"]["name"] == path.stem


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "tiny"], ids=ids)
def test_tiny_is_only_shown_what_it_has_seen(path):
    from splatdistill.toybox.world import VIEWS

    cameras = parse(["--config", str(path)], lambda source: None).config.cameras
    for name in ("elevation", "distance", "fov"):
        (low, high), (least, most) = getattr(cameras, name), getattr(VIEWS, name)
        assert least <= low <= high <= most
