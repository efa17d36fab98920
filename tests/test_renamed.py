"""Settings under older names: a run's config.yaml and log.jsonl mean what they meant."""

from splatdistill.guidance import CSD
from splatdistill.renamed import RENAMED, tree_now
from splatdistill.settings.commands import parse_train
from splatdistill.train.events import Choose, SetField
from splatdistill.train.log import command_of


def test_an_older_configuration_is_read(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "prompt: a ball\nguidance:\n  name: sds\n  times: {low: 0.1, high: 0.9, high_end: 0.6, low_end: null}\n", encoding="utf-8"
    )
    times = parse_train(["--config", str(tmp_path / "config.yaml")], lambda source: None).config.guidance.times
    assert (times.t_min, times.t_max, times.t_max_end, times.t_min_end) == (0.1, 0.9, 0.6, None)


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
