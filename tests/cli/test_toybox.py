"""The toybox subcommand: words, captions, sheets."""

import numpy as np
import pytest
from PIL import Image

from splatdistill.cameras import ViewWords
from splatdistill.cli import main
from splatdistill.cli.toybox import PLACES, examples
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, parse
from splatdistill.toybox.real import parse_real
from splatdistill.toybox.real_split import SPLIT


def test_without_options_it_tells_the_words(capsys):
    assert main(["toybox"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in (*COLOURS, *NAMED, *PRIMITIVES, "striped"))


def test_captions_are_all_known_and_all_there(capsys):
    assert main(["toybox", "--captions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    toys = len(COLOURS) * (len(NAMED) + len(PRIMITIVES))
    assert [str(parse(line)) for line in lines[:toys]] == lines[:toys]
    real = [parse_real(line) for line in lines[toys:]]
    assert [str(c) for c in real] == lines[toys:] and {c.kind for c in real} == {*SPLIT.kinds}
    assert {"a hamburger", "an orange armchair"} < {*lines} and "a red hamburger" not in lines
    assert len(lines) == len({*lines}) == toys + sum(1 + len(COLOURS) * coloured for coloured in SPLIT.kinds.values())


def test_examples_show_every_kind_every_colour_and_patterns_and_stacks():
    shown = examples()
    assert {c.kind for c in shown} >= {*NAMED, *PRIMITIVES} and {c.colour for c in shown} >= {*COLOURS}
    assert {c.pattern for c in shown} == {"plain", "striped", "checkered", "spotted"} and any(c.below for c in shown)


def test_pictures_are_taken_from_where_their_words_say():
    assert all(ViewWords().word(*place) == word for word, place in PLACES.items())


def test_the_sheet_is_the_same_every_time_and_shows_what_was_asked(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        argv = [
            "toybox",
            "--sheet",
            str(tmp_path / name),
            "--caption",
            "a red ball",
            "a blue cube",
            "--view",
            "front",
            "back",
            "--size",
            "24",
        ]
        assert main(argv) == 0 and name in capsys.readouterr().out
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert picture.shape[1] == 4 * 24 + 3 * 2  # two objects from two sides, in one row
    ball, cube = picture[-12, 12], picture[-12, 2 * 26 + 12]
    assert ball[0] > 2 * ball[2] and cube[2] > 2 * cube[0]


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["--caption", "a red knight"], "it has nothing like it, but for example 'a red mushroom'"), (["--sheet", "x.png", "--size", "0"], "--size")],
)
def test_what_cannot_be_shown_is_refused(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert main(["toybox", *argv]) == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_view_is_refused_with_the_known_ones(capsys):
    assert main(["toybox", "--view", "below"]) == 2
    assert "--view must be some of front, side, back, overhead, got 'below'" in capsys.readouterr().err
