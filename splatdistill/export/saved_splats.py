"""Finished splats from disk: runs, checkpoints, files of splats from anywhere."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import load_splats
from splatdistill.io.opening import Name
from splatdistill.io.ply import MADE_BY, MODE, read_comments
from splatdistill.io.read import KNOWN, format_of
from splatdistill.io.rows import Model, judged
from splatdistill.io.sog import unbundled
from splatdistill.train.checkpoint import Checkpoint, read_checkpoint
from splatdistill.train.notes import NOTE, TENSORS
from splatdistill.train.run import RunDir

WANTED = f"a run, a checkpoint or a file of splats ({KNOWN})"
RESULT = re.compile(r"splats(?:-([2-9]|[1-9]\d+))?\.ply")  # as a run names them: whatever else lies there is no particle


@dataclass(frozen=True)
class SavedSplats:
    """Saved set of splats."""

    name: str
    path: Path  # as it was asked for
    gaussians: Gaussians  # in our world, on the CPU; means may be double
    file: Path  # that it was read from
    comments: tuple[str, ...] = ()  # where it comes from, one fact each
    notes: tuple[str, ...] = ()  # what reading it left out or changed, a line each
    model: Model = "default"  # renderer that it was made for

    @property
    def prompt(self) -> str:
        """Return what it was made for; "" where its file does not say."""
        return next((c.removeprefix("prompt ") for c in self.comments if c.startswith("prompt ")), "")


def load(path: Name) -> list[SavedSplats]:
    """Return what is at a path: the results of a run (or its newest checkpoint), the scenes of a checkpoint, the splats of
    a file. UserError for whatever is none of these, or holds no usable splats.
    """
    path = Path(path).expanduser()
    if os.path.isfile(path) or unbundled(path) is not None:
        return [from_file(path, path.stem, path)]
    if not os.path.isdir(path):
        raise UserError(f"there is no {path}; expected {WANTED}")
    if (path / NOTE).is_file():
        return scenes(read_checkpoint(path))
    if found := results(path):
        return [from_file(path, f"{path.name}{file.stem.removeprefix('splats')}", file) for file in found]
    run = RunDir(path)
    if not run.checkpoints():
        raise UserError(f"{path} holds neither splats.ply nor a checkpoint; expected {WANTED}")
    return scenes(run.newest_checkpoint())


def load_all(path: Name) -> list[SavedSplats]:
    """Return what `load` does; or for a folder of several runs, such as the variants of one prompt, the results of all."""
    path = Path(path).expanduser()
    alone = (path / NOTE).is_file() or bool(results(path))
    runs = [] if alone else sorted({p.parent for p in path.glob("*/splats.ply")})
    return [each for run in runs for each in load(run)] if runs else load(path)


def results(folder: Path) -> list[Path]:
    """Return the files of a run's particles in their order: splats.ply, splats-2.ply and so on, and no other."""
    named = [(found, file) for file in folder.glob("splats*.ply") if (found := RESULT.fullmatch(file.name))]
    return [file for _, file in sorted(named, key=lambda each: int(each[0][1] or 1))]


def from_file(path: Path, name: str, file: Path) -> SavedSplats:
    """Read one file of splats, which was asked for as `path`."""
    read = load_splats(file)
    return SavedSplats(name, path, read.gaussians, file, provenance(file), read.messages(), read.model)


def chosen(path: Name, particle: int) -> SavedSplats:
    """Return the one result that was asked for."""
    saved = load(path)
    if not 1 <= particle <= len(saved):
        raise UserError(f"{path} has {len(saved)} result{'s' if len(saved) > 1 else ''}; there is no --particle {particle}")
    return saved[particle - 1]


def scenes(checkpoint: Checkpoint) -> list[SavedSplats]:
    """Return the scenes of a checkpoint, one for each particle."""
    folder, file = checkpoint.path, checkpoint.path / TENSORS
    name = f"{folder.parent.parent.name} {folder.name}"
    read = [judged(file, gaussians) for gaussians in checkpoint.scenes()]
    return [
        SavedSplats(name + (f" particle {k + 1}" if k else ""), folder, each.gaussians, file, notes=each.messages())
        for k, each in enumerate(read)
    ]


def provenance(path: Path) -> tuple[str, ...]:
    """Return what our own .ply says of where it comes from; nothing for files of others."""
    comments = read_comments(path) if format_of(path) == "ply" else ()
    facts = comments[3:] if comments[:1] == (MADE_BY,) else ()
    return tuple(fact for fact in facts if not fact.startswith(f"{MODE}:"))
