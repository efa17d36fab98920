"""Finished work from disk: runs, checkpoints, files of splats from anywhere."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import read_splats
from splatdistill.io.ply import MADE_BY, read_comments
from splatdistill.io.read import READERS, format_of
from splatdistill.scene.splats import PARAMETERS, Splats
from splatdistill.train.run import RunDir

WANTED = f"a run, a checkpoint or a file of splats ({', '.join(f'.{k}' for k in READERS)})"


@dataclass(frozen=True)
class Work:
    """One thing that was made."""

    name: str
    path: Path  # as it was asked for
    gaussians: Gaussians  # in our world, on the CPU
    file: Path  # that it was read from
    comments: tuple[str, ...] = ()  # where it comes from, one fact each


def load(path: Path, drop_invalid: bool = True) -> list[Work]:
    """What is at a path: the results of a run (or its newest checkpoint), the scenes of a checkpoint, the splats of a
    file. UserError for whatever is none of these.
    """
    path = path.expanduser()
    if path.is_file():
        return [Work(path.stem, path, read_splats(path, drop_invalid), path, provenance(path))]
    if not path.is_dir():
        raise UserError(f"there is no {path}; expected {WANTED}")
    if (path / "state.json").is_file():
        return checkpoint(path)
    if found := sorted(path.glob("splats*.ply"), key=lambda p: (len(p.name), p.name)):
        return [
            Work(f"{path.name}{p.stem.removeprefix('splats')}", path, read_splats(p, drop_invalid), p, provenance(p))
            for p in found
        ]
    try:
        return checkpoint(RunDir(path).newest_checkpoint())
    except UserError:
        raise UserError(f"{path} holds neither splats.ply nor a checkpoint; expected {WANTED}") from None


def chosen(path: Path, particle: int) -> Work:
    """The one result that was asked for."""
    works = load(path)
    if not 1 <= particle <= len(works):
        raise UserError(
            f"{path} has {len(works)} result{'s' if len(works) > 1 else ''}; there is no --particle {particle}"
        )
    return works[particle - 1]


@torch.no_grad()
def checkpoint(folder: Path) -> list[Work]:
    """The scenes of a checkpoint, one for each particle."""
    file = folder / "state.safetensors"
    try:
        saved, note = load_file(file), json.loads((folder / "state.json").read_text())
        works = []
        for k in range(len(note.get("particles", [0]))):
            prefix = f"particle-{k + 1}.scene." if k else "scene."
            scene = Splats({n: saved[prefix + n] for n in PARAMETERS})
            name = f"{folder.parent.parent.name} {folder.name}" + (f" particle {k + 1}" if k else "")
            works.append(Work(name, folder, scene.gaussians().detach(), file))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
        raise UserError(f"{folder} is not a readable checkpoint: {e}") from e
    return works


def provenance(path: Path) -> tuple[str, ...]:
    """What our own .ply says of where it comes from; nothing for files of others."""
    comments = read_comments(path) if format_of(path) == "ply" else ()
    return comments[3:] if comments[:1] == (MADE_BY,) else ()
