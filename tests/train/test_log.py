"""The log: a cut line harms nothing, what is no log is refused by line, nothing of a steered run is lost."""

import json

import pytest
from disk import room

from splatdistill.errors import UserError
from splatdistill.io.atomic import append
from splatdistill.train.commands import Prune, SetField
from splatdistill.train.events import Applied, Resumed, Saved, StepDone, Timing
from splatdistill.train.log import Given
from splatdistill.train.run import RunDir


def step(k: int) -> StepDone:
    return StepDone(k, 9, 1, 0.0, 0.0, 0.5, 0.5, Timing(0, 0, 0, 0), 0)


@pytest.fixture
def folder(tmp_path) -> RunDir:
    """Return a run of two steps with a command between them."""
    folder = RunDir(tmp_path)
    for event in (step(1), Applied(1, SetField("guidance.scale", 9.0)), step(2)):
        folder.record(event)
    return folder


@pytest.mark.parametrize("keep", range(1, 60, 7))
def test_a_cut_last_line_is_left_out_and_does_not_spoil_the_next(folder, keep):
    whole = folder.log.read_bytes()
    folder.log.write_bytes(whole + whole.splitlines()[0][:keep])
    assert len(folder.events()) == 3
    with folder.writing():
        folder.record(Resumed(2))
    assert [e["event"] for e in folder.events()] == ["StepDone", "Applied", "StepDone", "Resumed"]
    assert folder.log.read_bytes().startswith(whole)


def test_a_last_line_that_lacks_only_its_end_is_kept(folder):
    folder.log.write_bytes(folder.log.read_bytes()[:-1])
    with folder.writing():
        folder.record(Resumed(2))
    assert [e["event"] for e in folder.events()] == ["StepDone", "Applied", "StepDone", "Resumed"]


BAD = [
    b"{}",
    b"[]",
    b"7",
    b"",
    b"\xff\xfe",
    b"\0\0\0",
    b"[" * 3000,
    b'{"event": "StepDone"}',
    b'{"event": "StepDone", "step": -1}',
    b'{"event": "StepDone", "step": true}',
    b'{"event": "StepDone", "step": 1, "refused": "0"}',
    b'{"event": "StepDone", "step": 1, "timing": {"render": "x"}}',
    b'{"event": "StepDone", "step": 1, "timing": {"render": 1' + b"0" * 400 + b"}}",
    b'{"event": "Danced", "step": 1}',
    b'{"event": "Applied", "step": 1, "command": {"name": "Erase"}}',
    b'{"event": "Applied", "step": 1, "command": {"name": "SetField"}}',
    b'{"event": "Applied", "step": 1, "command": {"name": "SetField", "path": 3, "value": 1}}',
    b'{"event": "Applied", "step": 1, "command": {"name": "SetField", "path": "a", "value": []}}',
    b'{"event": "Applied", "step": 1, "command": {"name": "Choose", "part": "guidance", "kind": "sds", "fields": [1]}}',
    b'{"event": "Applied", "step": 1, "command": {"name": "Choose", "part": "init", "kind": "sds"}}',
    b'{"event": "Applied", "step": 1, "command": 1}',
    b'{"event": "Ended", "step": 1, "how": null}',
]


@pytest.mark.parametrize("line", BAD)
def test_what_is_no_event_is_refused_by_its_line(folder, line):
    first, rest = folder.log.read_bytes().split(b"\n", 1)
    folder.log.write_bytes(first + b"\n" + line + b"\n" + rest)
    with pytest.raises(UserError, match=r"line 2 of .*log\.jsonl is not what a run writes") as caught:
        folder.commands()
    assert str(caught.value).endswith("; if it was added by hand or by another program, take that line out, and try again") and "\n" not in str(caught.value)
    assert folder.last_events()["StepDone"]["step"] == 2, "progress can still be told"


def test_a_checkpoint_whose_line_was_not_written_still_has_its_commands(folder):
    """Killed between the checkpoint and the line that says so."""
    folder.record(Applied(2, Prune(0.1)))
    wanted = [Given(1, SetField("guidance.scale", 9.0)), Given(2, Prune(0.1))]
    assert folder.commands(2) == wanted
    for event in (Resumed(2), step(3)):
        folder.record(event)
    assert folder.commands() == wanted


def test_commands_after_the_checkpoint_that_a_run_went_back_to_are_forgotten(folder):
    for event in (Saved(2, "x"), Applied(2, Prune(0.1)), Resumed(2), Applied(2, Prune(0.2)), step(3)):
        folder.record(event)
    assert folder.commands() == [Given(1, SetField("guidance.scale", 9.0)), Given(2, Prune(0.2))]


def test_one_process_at_a_time_goes_on_with_a_run(folder):
    with folder.writing(), pytest.raises(UserError, match="another process is going on with"), RunDir(folder.path).writing():
        raise AssertionError
    with folder.writing():
        pass


def test_a_line_that_does_not_fit_on_the_disk_leaves_none_of_itself(folder):
    before = folder.log.read_bytes()
    with room(len(before) + 30), pytest.raises(UserError, match=r"cannot write .*log\.jsonl"):
        folder.record(step(3))
    assert folder.log.read_bytes() == before


def test_a_folder_that_has_gone_is_named(tmp_path):
    with pytest.raises(UserError, match=r"the folder .*gone has gone"):
        append(tmp_path / "gone" / "log.jsonl", "{}")


def test_config_says_what_was_in_force_when(folder):
    folder.config.write_text("# splatdistill 1; `splatdistill train --config x` repeats this run\nprompt: é\n", encoding="utf-8")
    for _ in range(2):
        folder.note_steering()
        text = folder.config.read_text(encoding="utf-8")
        assert text.count("#   before step 2: guidance.scale: 9.0") == 1 and "repeats this run but for" in text
    assert folder.settings() == {"prompt": "é", "guidance": {"scale": 9.0}}
    folder.log.write_text(json.dumps({"event": "StepDone", "step": 1}) + "\n", encoding="utf-8")
    folder.note_steering()
    assert "before step" not in folder.config.read_text(encoding="utf-8")
