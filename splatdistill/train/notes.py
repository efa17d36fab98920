"""The note of a checkpoint: everything but its tensors, with digests of both. Importing this loads no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from splatdistill.errors import UserError, out_of_memory, reason
from splatdistill.renamed import tree_now

TENSORS, NOTE = "state.safetensors", "state.json"
NEW, OLD = ".new", ".old"  # endings of a folder that is being written, and of one that is being replaced
FIRST = {"step", "refused", "threads", "torch", "particles"}  # what the notes of versions without digests hold
Plain = dict[str, Any]  # settings as nested dictionaries, such as JSON and YAML hold
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, SafetensorError)


@dataclass(frozen=True)
class Note:
    """Note of a checkpoint: everything but the tensors."""

    step: int
    refused: int  # steps not taken because a gradient was not finite
    particles: tuple[int, ...]  # optimizer steps of each
    settings: Plain | None = None  # those in force; None in checkpoints of earlier versions
    sign: str | None = None  # of divergence that was seen when it was written; None: it was looked at and is good
    tensors: str | None = None  # digest of their file
    phase: int = -1  # the one in force, from 0; -1 before the first, and in a run without

    def text(self) -> str:
        """Return the note as JSON, its own digest last, with the version and the threads of torch."""
        import torch

        said = {
            "step": self.step,
            "refused": self.refused,
            "particles": list(self.particles),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "sign": self.sign,
            "settings": self.settings,
            "tensors": self.tensors,
            "phase": self.phase,
        }
        return json.dumps(said | {"digest": digest(said)}) + "\n"


def digest(said: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain data, whatever the order of its keys and the spaces in its file."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


class explained:
    """Context that turns every error caused by a damaged checkpoint into a UserError that names it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserError):
            return
        if isinstance(error, UNREADABLE) and not out_of_memory(error):
            why = f"it has no {error}" if isinstance(error, KeyError) else reason(error)
            raise UserError(f"{self.folder} is not a whole checkpoint: {why[:300]}") from error


def read_note(folder: Path) -> Note:
    """Return the note of a checkpoint; UserError where it is damaged."""
    with explained(folder):
        said = json.loads((folder / NOTE).read_bytes().decode("utf-8"))
        if not isinstance(said, dict):
            raise ValueError(f"{NOTE} holds no mapping")
        if "digest" in said:
            if said.pop("digest") != digest(said):
                raise ValueError(f"{NOTE} does not agree with its digest")
        elif said.keys() - FIRST:
            raise ValueError(f"{NOTE} has no digest")
        steps = said.get("particles", [said["step"]])
        numbers = [said["step"], said["refused"], *steps]
        if not steps or not all(type(n) is int and n >= 0 for n in numbers) or sum(steps) != said["step"]:
            raise ValueError(f"the steps in {NOTE} are no counts, or do not add up")
        if not isinstance(said.get("settings"), dict | None) or not isinstance(said.get("sign"), str | None):
            raise ValueError(f"{NOTE} has fields of other types")
        settings, phase = said.get("settings"), said.get("phase", -1)
        if type(phase) is not int or phase < -1:
            raise ValueError(f"{NOTE} names a phase that is none")
        return Note(said["step"], said["refused"], tuple(steps), settings and tree_now(settings), said.get("sign"), said.get("tensors"), phase)


def read_tensors(folder: Path, note: Note) -> bytes:
    """Return the file of a checkpoint's tensors as it is; ValueError where it does not agree with the digest in its note."""
    data = (folder / TENSORS).read_bytes()
    if note.tensors is not None and hashlib.sha256(data).hexdigest() != note.tensors:
        raise ValueError(f"{TENSORS} does not agree with its digest")
    return data
