"""The quick answer to `train --resume` of a finished run: without torch, in the words of the slow one, and only where nothing is missing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml
from conftest import ROOT

from splatdistill import distil
from splatdistill.cli import main
from splatdistill.cli.already_finished import refuse_finished
from splatdistill.cli.train import resume
from splatdistill.errors import UserError
from splatdistill.guidance import GUIDANCES
from splatdistill.settings import yaml
from splatdistill.settings.commands import TRAIN
from splatdistill.settings.layers import parse
from splatdistill.train.commands import Choose, Commands, SetField
from splatdistill.train.plain import to_plain
from splatdistill.train.run import RunDir

SMALL = ["--prompt", "a red mushroom", "--steps", "2", "--batch", "1", "--init.count", "40", "--device", "cpu", "--guidance", "sds"]


@pytest.fixture(scope="module")
def finished(prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of 2 steps that went on to 3: its length was steered."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    assert main(["train", "--prior", str(prior), *SMALL, "--out", str(folder)]) == 0
    assert main(["train", "--resume", str(folder), "--steps", "3"]) == 0
    return folder


@pytest.fixture
def run(finished: Path, here: Path) -> RunDir:
    """Return a copy of the finished run."""
    shutil.copytree(finished, here / "copy")
    return RunDir(Path("copy"))


def test_the_answer_comes_before_torch(run: RunDir) -> None:
    code = "import sys; from splatdistill.cli import main; code = main(['train', '--resume', 'copy']); print(code, {'torch', 'numba'} & {*sys.modules})"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env={"PYTHONPATH": str(ROOT)})
    assert asked.stdout.split("\n")[0] == "2 set()", asked.stderr
    assert asked.stderr == "error: copy has done 3 steps, and 3 were asked for; to go further, for example: splatdistill train --resume copy --steps 6\n"


@pytest.mark.parametrize("argv", [["--resume", "copy"], ["--resume=copy", "--no-viewer"], ["--resume", "copy", "--steps=2"], ["--steps", "3", "--resume", "./copy"]])
def test_it_is_the_answer_of_the_whole_subcommand(run: RunDir, argv: list[str]) -> None:
    with pytest.raises(UserError) as quick:
        refuse_finished(argv)
    with pytest.raises(UserError) as slow:
        resume(argv)
    assert str(quick.value) == str(slow.value) and quick.value.code == slow.value.code == 2


STEERED: dict[str, dict[str, Any]] = {
    "another guidance": {"guidance": "sds", "asked": Choose("guidance", "csd", (("scale", 3.0),))},
    "another number": {"guidance": "sds", "asked": SetField("guidance.scale", 3.0)},
    "phases": {"guidance": "sds", "phases": ("a[share=1]", "b[share=1, guidance=csd, rates.means=0.002]")},
}


@pytest.mark.parametrize("changes", STEERED.values(), ids=STEERED)
def test_a_run_that_changed_while_it_went_on_needs_no_closer_look(changes: dict[str, Any], prior: Path, here: Path) -> None:
    commands, settings = Commands(), {**changes}
    if "asked" in settings:
        commands.put(settings.pop("asked"))
    distil("a red mushroom", prior=str(prior), out=here / "copy", commands=commands, steps=2, batch=1, resolutions=(16,), preview_every=0, device="cpu", **settings)
    with pytest.raises(UserError, match="has done 2 steps"):
        refuse_finished(["--resume", "copy"])
    config = here / "copy" / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("batch: 1 ", "batch: 2 "), encoding="utf-8")
    refuse_finished(["--resume", "copy"])  # edited: left to the subcommand


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("family", ["tiny", "sd"])
def test_the_configuration_of_every_recipe_reads_back_as_a_checkpoint_holds_it(guidance: str, family: str) -> None:
    parsed = parse(["--prompt", "a red mushroom", "--guidance", guidance], lambda source: family, command=TRAIN)
    written = pyyaml.safe_load(parsed.yaml([]))
    saved = json.loads(json.dumps(to_plain(parsed.config)))
    assert dict(yaml.leaves(written)) == dict(yaml.leaves(saved))


def damage(path: Path, change: Callable[[str], str]) -> None:
    before = path.read_text(encoding="utf-8")
    path.write_text(change(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before


NOT_SO = {
    "no splats": lambda run: run.splats.unlink(),
    "no film": lambda run: run.turntable.unlink(),
    "no sheet": lambda run: run.sheet.unlink(),
    "no configuration": lambda run: run.config.unlink(),
    "another configuration": lambda run: damage(run.config, lambda t: t.replace("seed: 0", "seed: -1")),
    "an option that there is none of": lambda run: damage(run.config, lambda t: t + "sede: 1\n"),
    "no end in the log": lambda run: damage(run.log, lambda t: "".join(t.splitlines(True)[:-1])),
    "a damaged log": lambda run: damage(run.log, lambda t: "{}\n" + t),
    "a damaged note": lambda run: damage(run.checkpoint(3) / "state.json", lambda t: t.replace('"refused": 0', '"refused": 1')),
    "damaged tensors": lambda run: (run.checkpoint(3) / "state.safetensors").write_bytes(b"\0" * 80),
    "no checkpoint of the end": lambda run: shutil.rmtree(run.checkpoint(3)),
    "no checkpoint": lambda run: shutil.rmtree(run.path / "checkpoints"),
    "a checkpoint of another step": lambda run: run.checkpoint(3).rename(run.checkpoint(4)),
}


@pytest.mark.parametrize("why", NOT_SO)
def test_what_is_not_plainly_so_is_left_to_the_subcommand(run: RunDir, why: str) -> None:
    with pytest.raises(UserError, match="has done 3 steps"):  # so it was, before
        refuse_finished(["--resume", "copy"])
    NOT_SO[why](run)
    assert refuse_finished(["--resume", "copy"]) is None


@pytest.mark.parametrize("more", [["--steps", "4"], ["--steps", "0"], ["--steps", "x"], ["--steps"], ["--seed", "1"], ["--no-viewer=1"], ["copy"], ["--resume", "elsewhere"], ["--track", "tensorboard"]])
def test_so_are_other_command_lines(run: RunDir, more: list[str]) -> None:
    assert refuse_finished(["--resume", "copy", *more]) is None


def test_what_is_missing_is_written(run: RunDir) -> None:
    splats = run.splats.read_bytes()
    run.splats.unlink()
    assert main(["train", "--resume", "copy"]) == 0
    assert run.splats.read_bytes() == splats
    with pytest.raises(UserError, match="has done 3 steps"):
        refuse_finished(["--resume", "copy"])
