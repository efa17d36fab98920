"""A checkpoint on disk: the tensors of a state, and a note of all else, with digests of both.

    step-000600/  state.safetensors  state.json

The note holds the settings in force, so that a run goes on as it was steered whatever else is lost; the digest of the
tensors' file; and its own. Checkpoints of versions that wrote no digest are read too.
"""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from splatdistill.errors import UserError, reason
from splatdistill.gaussians import Gaussians
from splatdistill.io.atomic import sync_folder, write_bytes, write_text
from splatdistill.scene.splats import PARAMETERS, ParameterName, Splats
from splatdistill.train.notes import NEW, NOTE, OLD, TENSORS, Note, Plain, explained, read_note, read_tensors


@dataclass(frozen=True)
class Checkpoint:
    """Checkpoint that was read and verified."""

    path: Path
    note: Note
    tensors: dict[str, Tensor]

    @torch.no_grad()
    def scenes(self) -> tuple[Gaussians, ...]:
        """Return the scene of every particle, without history; those of earlier versions may hold values that are not finite."""
        with explained(self.path):
            return tuple(splats(self.tensors, prefix(k), finite=False).gaussians().detach() for k in range(len(self.note.particles)))

    def amended(self, settings: Plain) -> "Checkpoint":
        """Return the same checkpoint with other settings in force, on disk too."""
        data = self.note.tensors or hashlib.sha256((self.path / TENSORS).read_bytes()).hexdigest()
        note = replace(self.note, settings=settings, tensors=data)
        write_text(self.path / NOTE, note.text())
        return replace(self, note=note)


def write_checkpoint(folder: Path, tensors: Mapping[str, Tensor], note: Note) -> None:
    """Write a checkpoint beside its final name, then move it there. UserError where that fails; what was there stays."""
    new, old = (folder.with_name(folder.name + ending) for ending in (NEW, OLD))
    shutil.rmtree(new, ignore_errors=True)
    data = save(dict(tensors))
    try:
        write_bytes(new / TENSORS, data)
        write_text(new / NOTE, replace(note, tensors=hashlib.sha256(data).hexdigest()).text())
        sync_folder(new)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        sync_folder(folder.parent)
    except (OSError, UserError) as e:
        shutil.rmtree(new, ignore_errors=True)
        if old.exists() and not folder.exists():
            with suppress(OSError):
                old.rename(folder)
        why = reason(e.__cause__ if isinstance(e, UserError) and isinstance(e.__cause__, Exception) else e)
        raise UserError(f"could not write the checkpoint {folder}: {why}. Make room or choose another --out; earlier checkpoints are untouched") from e
    shutil.rmtree(old, ignore_errors=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return a checkpoint, if all of it is there and agrees with its digests; else a UserError that says what does not."""
    note = read_note(folder)
    with explained(folder):
        return Checkpoint(folder, note, load(read_tensors(folder, note)))


def prefix(particle: int) -> str:
    """Return the prefix of the names of a particle's tensors."""
    return f"particle-{particle + 1}." if particle else ""


def splats(saved: Mapping[str, Tensor], under: str = "", finite: bool = True) -> Splats:
    """Return the scene among named tensors; ValueError for shapes and types that are no scene's, and unless finite is False for values
    that are not finite.
    """
    values: dict[ParameterName, Tensor] = {n: saved[f"{under}scene.{n}"] for n in PARAMETERS}
    n, bands = len(values["means"]) if values["means"].dim() else 0, values["sh_rest"].shape[1] if values["sh_rest"].dim() == 3 else 0
    shapes = {"means": (n, 3), "quats": (n, 4), "log_scales": (n, 3), "logits": (n,), "sh_dc": (n, 1, 3), "sh_rest": (n, bands, 3)}
    if bands not in (0, 3, 8, 15):
        raise ValueError(f"{bands + 1} bands of colour are no whole degree")
    for name, value in values.items():
        expect(f"{under}scene.{name}", value, shapes[name], torch.float32, numbers=finite)
        if finite and not bool(value.isfinite().all()):
            raise ValueError(f"{under}scene.{name} holds values that are not finite")
    return Splats(values)


def expect(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype, numbers: bool = True) -> None:
    """Raise ValueError for a tensor of another shape or type, and unless numbers is False for one that holds NaN."""
    if tuple(value.shape) != tuple(shape) or value.dtype != dtype:
        raise ValueError(f"{name} is {value.dtype} of shape {tuple(value.shape)}, not {dtype} of shape {tuple(shape)}")
    if numbers and value.is_floating_point() and bool(value.isnan().any()):
        raise ValueError(f"{name} holds values that are not numbers")
