"""Finished work from disk: runs, checkpoints, .ply files from anywhere."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io.ply import read_ply
from splatdistill.io.read import read_splats
from splatdistill.scene.splats import PARAMETERS, Splats
from splatdistill.train.run import RunDir


@dataclass(frozen=True)
class Work:
    """One thing to look at."""

    name: str
    path: Path  # as it was asked for
    gaussians: Gaussians  # in our world, on the CPU


def load(path: Path) -> list[Work]:
    """What is at a path: the results of a run (or its newest checkpoint) or of several, the scenes of a checkpoint, the
    splats of a file.

    UserError for whatever is none of these.
    """
    path = path.expanduser()
    if path.is_file():
        return [Work(path.stem, path, read_splats(path, drop_invalid=True))]
    if not path.is_dir():
        raise UserError(f"there is no {path}; expected a run, a checkpoint or a .ply file")
    if (path / "state.json").is_file():
        return checkpoint(path)
    if found := sorted(path.glob("splats*.ply"), key=lambda p: (len(p.name), p.name)):
        return [Work(f"{path.name}{p.stem.removeprefix('splats')}", path, read_ply(p)) for p in found]
    if runs := sorted({p.parent for p in path.glob("*/splats.ply")}):  # variants of one prompt
        return [work for run in runs for work in load(run)]
    try:
        return checkpoint(RunDir(path).newest_checkpoint())
    except UserError:
        raise UserError(f"{path} holds neither splats.ply nor a checkpoint; expected a run, a checkpoint or a .ply file") from None


@torch.no_grad()
def checkpoint(folder: Path) -> list[Work]:
    """The scenes of a checkpoint, one for each particle."""
    try:
        saved, note = load_file(folder / "state.safetensors"), json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as e:
        raise UserError(f"{folder} is not a readable checkpoint: {e}") from e
    works = []
    for k in range(len(note.get("particles", [0]))):
        prefix = f"particle-{k + 1}.scene." if k else "scene."
        scene = Splats({n: saved[prefix + n] for n in PARAMETERS})
        name = f"{folder.parent.parent.name} {folder.name}" + (f" particle {k + 1}" if k else "")
        works.append(Work(name, folder, scene.gaussians().detach()))
    return works
