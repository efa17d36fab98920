"""Configurations as data: YAML and back, command lines and back, and who chose what."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill.errors import UserError
from splatdistill.settings import yaml as tree

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cs",)))
)
KEYS = st.from_regex(r"[a-z][a-z_]{0,8}[a-z]", fullmatch=True).filter(lambda k: k != tree.NAME)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS | st.lists(st.integers() | st.floats(allow_nan=False), max_size=4),
        lambda v: st.dictionaries(KEYS, v, min_size=1),
        max_leaves=8,
    ),
)


@settings(deadline=None, max_examples=60)
@given(TREES)
def test_what_is_written_is_read_back(values):
    assert yaml.safe_load(tree.write(values, {}, ["a heading", "of two\nlines"])) == (values or None)


def test_every_value_says_who_chose_it():
    text = tree.write(
        {"steps": 3, "part": {"name": "x", "deep": {"low": 0.1}}},
        {"steps": "command line", "part": "recipe", "part.deep.low": "a\nfile"},
        [],
    )
    lines = [[part.rstrip() for part in line.split("  # ")] for line in text.splitlines()]
    assert lines == [
        ["steps: 3", "command line"],
        ["part:"],
        ["  name: x", "recipe"],
        ["  deep:"],
        ["    low: 0.1", "a file"],
    ]


@pytest.mark.parametrize(
    ("values", "argv"),
    [
        ({"steps": 3}, ["--steps", "3"]),
        ({"view_dependent": True}, ["--view-dependent"]),
        ({"view_dependent": False}, ["--no-view-dependent"]),
        ({"guidance": {"revised_opacity": False}}, ["--guidance.no-revised-opacity"]),
        (
            {"guidance": {"name": "sdi", "times": {"t_max_end": None}}},
            ["--guidance", "sdi", "--guidance.times.t-max-end", "None"],
        ),
        ({"elevation": [-10.0, 70.0]}, ["--elevation", "-10.0", "70.0"]),
        ({"prompt": "--weird"}, ["--prompt=--weird"]),
        ({"scale": -6.5}, ["--scale=-6.5"]),
        ({"resolutions": []}, ["--resolutions"]),
    ],
)
def test_as_a_command_line(values, argv):
    assert tree.to_argv(values) == argv
    set_ = tree.paths_in(argv)
    assert all(path in set_ for path, _ in tree.leaves(values))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "holds a list"),
        ("just words", "holds one text; expected options"),
        ("5", "holds one number; expected options"),
        ("? [a, b]\n: c", "line 1: the key of several parts is not a word"),
        ("a: 1\nb: -" + "9" * 5000, "line 2: a number of 5,001 digits is not read"),
        ("steps: !!set {a}", "steps holds a set; expected text, numbers"),
        ("a: [1", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("1: 2", "not a word"),
        ("a: [[1, 2]]", "list of lists"),
        ("part: {deep: [{x: 1}]}", "list of lists"),
    ],
)
def test_files_that_are_no_options_are_refused(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        tree.read(tmp_path / "x.yaml")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("none.yaml", "b.yaml", "."):
        with pytest.raises(UserError, match="could not read|is not YAML"):
            tree.read(tmp_path / name)


def test_an_empty_file_is_no_options(tmp_path):
    (tmp_path / "x.yaml").write_text("# nothing yet\n", encoding="utf-8")
    assert tree.read(tmp_path / "x.yaml") == {}
