"""The run directory: safe names, nothing overwritten."""

import pytest

from splatdistill.errors import UserError
from splatdistill.train.run import RunDir, slug


def test_simple_prompts_are_readable_names():
    assert slug("a red mushroom") == "a-red-mushroom"


@pytest.mark.parametrize("prompt", ["con", "NUL", "com1", " aux "])
def test_names_of_devices_on_windows_get_a_hash(prompt):
    assert slug(prompt).startswith(f"{prompt.strip().lower()}-") and len(slug(prompt)) > 10
    assert slug(f"a {prompt.strip().lower()}") == f"a-{prompt.strip().lower()}"


@pytest.mark.parametrize("prompt", ["../../etc/passwd", "a/b", "C:\\x", "\n\t", "ß" * 300, "x" * 300, ".", "a\0b", "--out", "con?*<>|"])
def test_hostile_prompts_are_safe_names(prompt):
    name = slug(prompt)
    assert name and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") and len(name) <= 49 and name[0] != "-"


def test_different_prompts_have_different_names():
    prompts = ["a red ball", "a red  ball!", "a red ball?", "A red ball;", "x" * 41, "x" * 42, "é", "è"]
    assert len({slug(p) for p in prompts}) == len(prompts)


def test_a_second_run_gets_a_suffix_and_nothing_is_touched(tmp_path):
    out = tmp_path / "r"
    first = RunDir.create("p", out)
    (first.path / "splats.ply").write_text("precious", encoding="utf-8")
    second, third = RunDir.create("p", out), None
    (second.path / "x").write_text("y", encoding="utf-8")
    third = RunDir.create("p", out)
    assert (second.path.name, third.path.name) == ("r-2", "r-3")
    assert (first.path / "splats.ply").read_text(encoding="utf-8") == "precious"


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="--out"):
        RunDir.create("p", tmp_path / "file" / "r")


def test_resume_without_a_checkpoint_is_explained(tmp_path):
    with pytest.raises(UserError, match="no checkpoint"):
        RunDir(tmp_path).newest_checkpoint()
