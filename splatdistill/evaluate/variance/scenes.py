"""Scenes that are held fixed: those of runs that are there, or of a short run that is made for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from splatdistill.errors import UserError
from splatdistill.evaluate.variance.options import Variance
from splatdistill.settings.commands import parse_train
from splatdistill.settings.resolve import Weights, refuse_prompt, resolved
from splatdistill.train.begin import begin
from splatdistill.train.checkpoint import read_checkpoint
from splatdistill.train.config import Train
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.steer import in_force


@dataclass(frozen=True)
class Taken:
    """Scene of a run."""

    session: Session
    run: str
    saved: Path | None  # its checkpoint


def existing(path: Path) -> tuple[Train, RunDir, str]:
    """Read a run directory: its configuration, and how its guidance is asked for."""
    folder = RunDir(path.expanduser())
    if not folder.config.is_file():
        raise UserError(f"--checkpoint {path}: there is no {folder.config}; expected the directory of an earlier run")
    parsed = parse_train([f"--config={folder.config}"], lambda source: None)
    return in_force(parsed.config, folder, folder.newest_checkpoint()), folder, folder.settings()["guidance"]["name"]


def short(o: Variance, weights: Weights) -> Train:
    """Return the configuration of the short run."""
    argv = ["--prompt", o.prompt, "--guidance", o.run, "--prior", o.prior, "--device", o.device]
    config = parse_train([*argv, "--steps", str(o.steps), "--seed", str(o.seed)], weights.family).config
    refuse_prompt(config.prompt, config.negative, weights.family(config.prior))
    return resolved(config, weights.find(config.prior))


def steps_of(o: Variance, run: RunDir | None, config: Train) -> list[int] | list[Path]:
    """Return evenly spaced places of a run, the last one included: steps to be made, or checkpoints that there are."""
    if run is None:
        return sorted({max(1, round(config.steps * (k + 1) / o.scenes)) for k in range(o.scenes)})
    there = run.checkpoints()
    return [there[k] for k in sorted({round(len(there) * (k + 1) / o.scenes + 1e-9) - 1 for k in range(o.scenes)}) if k >= 0]


def scenes(o: Variance, runs: list[tuple[Train, RunDir | None, str]], weights: Weights) -> Iterator[Taken]:
    """Yield every scene in turn."""
    for config, folder, named in runs:
        found = weights.find(config.prior)
        going: Session | None = None
        for place in steps_of(o, folder, config):
            if isinstance(place, Path):
                here = in_force(config, RunDir(place.parents[1]), saved := read_checkpoint(place))
                going = begin(here, found, saved) if going is None else Session.resumed(here, going.prior, saved)
                yield Taken(going, str(folder.path if folder else ""), place)
                continue
            going = going or begin(config, found)
            assert going.state is not None
            while going.state.step < place:
                going.step()
                if going.state.refused > 10:
                    raise UserError("the short run's gradients stay non-finite; try another --run, or scenes of a run of your own")
            yield Taken(going, f"{config.steps} steps of {named}", None)
