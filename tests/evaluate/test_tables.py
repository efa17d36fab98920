"""Tables for the screen: they fit it, and hold every number and everything that is said of one."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splatdistill.evaluate.clip_model import GET_CLIP, VIT_B32
from splatdistill.evaluate.measure import Measured
from splatdistill.evaluate.metrics import METRICS, Measurement
from splatdistill.evaluate.metrics.image_reward import GET
from splatdistill.evaluate.protocol import Protocol
from splatdistill.evaluate.run_summary import RunSummary, cameras_of
from splatdistill.evaluate.tables import columns, fitting, means
from splatdistill.weight_files import download_command

KINDS = list(METRICS)
names = st.lists(st.text("abcdefgh-/[]=,", min_size=1, max_size=40), min_size=1, max_size=9, unique=True)


def run(method: str, **values: float | None) -> Measured:
    found = RunSummary(Path("runs") / method, "a red ball", method, "tiny", 0, 1, 2.8, 42.0, "r", "done", 1, 1.0, None, None, ())
    return Measured(found, tuple(Measurement(k, v, "a judge", 4, 32, "white", "" if v is not None else "get it") for k, v in values.items()), None)


@settings(deadline=None, max_examples=60)
@given(names, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.integers(40, 200))
def test_every_number_is_there_and_no_line_is_too_long(heads, values, width):
    shown = {h: [Measurement(KINDS[k], v + i, "judge of letters", 8, 64, "white") for k, v in enumerate(values)] for i, h in enumerate(heads)}
    text = columns(shown, KINDS, width)
    assert max(map(len, text.splitlines())) <= width
    numbers = text.split()
    for own in shown.values():
        assert all(str(m) in numbers for m in own)
    letters = re.sub(r"[^a-h\-/\[\]=,]", "", text)
    assert all(set(h) <= set(letters) for h in heads)
    assert "by judge of letters; 8 views; 64 pixels; on white" in " ".join(numbers)


def test_columns_are_grouped_by_what_fits():
    assert fitting({"a": 8, "b": 8, "c": 8}, 18) == [["a", "b"], ["c"]]
    assert fitting({"a": 8, "wide": 40, "c": 8}, 18) == [["a"], ["wide"], ["c"]] and fitting({}, 10) == []


def test_long_names_are_folded_and_not_cut():
    name = "sdi[inversion_scale=-6.5,eta=0,view_weight=0,jitter=0.1]"
    text = columns({name: [Measurement("iou", 0.5, "the truth")], "sds": [Measurement("iou", 0.25, "the truth")]}, KINDS, 60)
    assert "".join(line.split()[0] for line in text.splitlines()[:3]) == name and "0.500" in text and "0.250" in text


def test_means_are_over_the_runs_that_have_a_number_and_say_why_others_have_none():
    groups = {"sds": [run("sds", iou=0.2, psnr=None), run("sds", iou=0.4, psnr=None)], "sdi": [run("sdi", iou=0.5, psnr=20.0)]}
    text = means(groups, KINDS, 80)
    rows = {line[:8].strip(): line.split() for line in text.splitlines()}
    assert rows["runs"] == ["runs", "2", "1"] and rows["IoU"] == ["IoU", "0.300", "0.500"] and rows["PSNR dB"][2:] == ["n/a", "20.0"]
    assert "PSNR dB: n/a: get it (sds)" in text and "not measured" not in text


def test_what_differs_between_runs_is_told_of_each():
    one = Measurement("iou", 0.5, "the truth", detail="after a turn of 5 degrees")
    text = columns({"a": [one], "b": [replace(one, by="another", detail="after a turn of 90 degrees")]}, KINDS, 100)
    for told in ("by the truth (a)", "by another (b)", "after a turn of 5 degrees (a)", "after a turn of 90 degrees (b)"):
        assert told in text


def test_a_command_in_a_note_stays_one_line_that_can_be_copied():
    notes = {"clip_score": f"weights of no known size are not here, whatever was looked for:{GET_CLIP}", "image_reward": f"not installed:{GET}"}
    text = columns({"a": [Measurement(k, None, note=note) for k, note in notes.items()]}, KINDS, 44)
    lines = text.splitlines()
    for command in (download_command(VIT_B32), 'python -m venv reward && reward/bin/pip install image-reward "transformers<4.40"'):
        assert f"    {command}" in lines and f"\n  {command}\n" in "".join(notes.values())
    assert all(len(line) <= 44 for line in lines if not line.startswith("    "))
    assert " ".join(text.split()).count("or take --clip DIR") == 1 and "then --image-reward reward/bin/python" in " ".join(text.split())


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"distance": [2.6, 3.0], "fov": [40, 44]}, (2.8, 42.0)),
        ({"distance": [2.5, 2.5], "fov": [60.0, 70.0], "elevation": [-20.0, 90.0]}, (2.5, 65.0)),
        (None, cameras_of({}).middle),
    ],
)
def test_runs_are_measured_from_the_middle_of_where_they_were_trained(said, wanted):
    assert cameras_of(said).middle == pytest.approx(wanted)
    placed = Protocol().of(*wanted)
    assert (placed.distance, placed.fov) == wanted and Protocol(distance=5.0).of(*wanted).distance == 5.0
    eye = placed.cameras.world_to_camera[0, 2, 3]
    assert float(eye) == pytest.approx(wanted[0])
