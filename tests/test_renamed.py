"""Settings under older names: a run's config.yaml and log.jsonl mean what they meant."""

import json
import re
import shutil
from functools import partial

from helpers import write_sd_folder

from splatdistill.cli import main
from splatdistill.guidance import CSD
from splatdistill.io.atomic import write_text
from splatdistill.renamed import RENAMED, tree_now
from splatdistill.settings.commands import parse_train
from splatdistill.train import loop
from splatdistill.train.commands import Choose, SetField
from splatdistill.train.log import command_of
from splatdistill.train.notes import NOTE, Note
from splatdistill.train.run import RunDir


def test_an_older_configuration_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "prompt: a ball\nguidance:\n  name: sds\n  times: {low: 0.1, high: 0.9, high_end: 0.6, low_end: null}\n", encoding="utf-8"
    )
    times = parse_train(["--config", str(tmp_path / "config.yaml")], lambda source: None).config.guidance.times
    assert (times.t_min, times.t_max, times.t_max_end, times.t_min_end) == (0.1, 0.9, 0.6, None)


def test_a_run_under_older_names_goes_on_with_the_values_that_it_had(tmp_path, monkeypatch):
    """`views` are the angles of view words, `rates.steps` the length that the rates are meant for; neither value is the default."""
    monkeypatch.setattr(loop, "finish", partial(loop.finish, size=16, frames=2))
    prior = write_sd_folder(tmp_path / "sd")
    argv = ["--prompt", "a ball", "--prior", str(prior), "--guidance", "sds", "--steps", "2", "--batch", "1", "--init.count", "30"]
    own = ["--directions.front-angle", "50", "--directions.no-left-right", "--rates.tuned-for-steps", "7", "--guidance.times.t-max", "0.7"]
    assert main(["train", *argv, *own, "--out", str(tmp_path / "new")]) == 0
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    folder = RunDir(tmp_path / "old")
    config, note = folder.config, folder.checkpoint(2) / NOTE
    said = json.loads(note.read_text(encoding="utf-8"))
    for path in (config, note):
        text = path.read_text(encoding="utf-8")
        for now, then in (("tuned_for_steps", "steps"), ("directions", "views"), ("front_angle", "front"), ("left_right", "directions"), ("t_max", "high")):
            assert now in text
            text = re.sub(rf"\b{now}\b", then, text)
        path.write_text(text, encoding="utf-8")
    old = json.loads(note.read_text(encoding="utf-8"))
    assert old["settings"]["views"]["front"] == 50 and old["settings"]["rates"]["steps"] == 7
    write_text(note, Note(2, 0, (2,), old["settings"], None, said["tensors"]).text())  # with a digest of its own
    after = {}
    for name in ("new", "old"):
        assert main(["train", "--resume", str(tmp_path / name), "--steps", "4"]) == 0
        after[name] = RunDir(tmp_path / name).settings()
        assert after[name]["directions"]["front_angle"] == 50 and after[name]["directions"]["left_right"] is False
        assert (after[name]["rates"]["tuned_for_steps"], after[name]["guidance"]["times"]["t_max"]) == (7, 0.7)
    assert after["old"] == after["new"] and (tmp_path / "old/splats.ply").read_bytes() == (tmp_path / "new/splats.ply").read_bytes()


def test_commands_of_an_older_log_are_read():
    assert command_of({"name": "SetField", "path": "guidance.times.high", "value": 0.5}) == SetField("guidance.times.t_max", 0.5)
    choose = {"name": "Choose", "part": "guidance", "kind": "sds", "fields": [["scale", 3.0], ["times.low", 0.1]]}
    assert command_of(choose) == Choose("guidance", "sds", (("scale", 3.0), ("times.t_min", 0.1)))


def test_what_a_method_no_longer_has_is_left_out(tmp_path):
    (tmp_path / "config.yaml").write_text("prompt: a ball\nguidance: {name: csd, scale: 3.0, rescale: 0.0}\n", encoding="utf-8")
    assert parse_train(["--config", str(tmp_path / "config.yaml")], lambda source: None).config.guidance == CSD(scale=3.0)
    choose = {"name": "Choose", "part": "guidance", "kind": "csd", "fields": [["rescale", 0.0], ["scale", 3.0]]}
    assert command_of(choose) == Choose("guidance", "csd", (("scale", 3.0),))
    assert tree_now({"guidance": {"name": "sds", "rescale": 0.5}}) == {"guidance": {"name": "sds", "rescale": 0.5}}


def test_todays_name_wins_and_other_keys_stay():
    tree = {"guidance": {"times": {"low": 0.1, "t_min": 0.2}}, "low": 1, "densify": {"times": {"low": 3}}}
    assert tree_now(tree) == {"guidance": {"times": {"t_min": 0.2}}, "low": 1, "densify": {"times": {"low": 3}}}
    assert all(old != new for old, new in RENAMED.items())
