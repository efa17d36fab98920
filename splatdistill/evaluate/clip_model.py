"""The CLIP that measures: which one, which version of it, and the network itself once it is needed."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch

from splatdistill.errors import WeightsError
from splatdistill.estimators import EMBEDDED_CLIPS, TINY_CLIP, WORLD_CLIP, ClipScorer, load_judge
from splatdistill.estimators.test_time_augmentation import LOOKS
from splatdistill.estimators.weights import called, check, find
from splatdistill.toybox import Caption
from splatdistill.toybox.things import Thing
from splatdistill.weight_files import SharedWeights, download_command

VIT_B32 = "openai/clip-vit-base-patch32"
GET_CLIP = f"\n  {download_command(VIT_B32)}\nor take --clip DIR"


@dataclass(frozen=True)
class ClipModel:
    """CLIP for measurements. Its weights are read at the first use."""

    source: str  # how it was asked for
    folder: Path
    revision: str
    device: torch.device | str = "cpu"

    @cached_property
    def scorer(self) -> ClipScorer:
        """Load the network; WeightsError where that fails."""
        return load_judge(self.folder, self.device)

    @property
    def name(self) -> str:
        """Return what stands beside its numbers: its source and its revision."""
        own = called(self.folder)
        return f"{f'{own}, {len(LOOKS)} looks' if self.embedded else self.source} ({self.revision})"

    @property
    def embedded(self) -> bool:
        """Return whether this is one of the toybox's CLIPs, which know no other words."""
        return called(self.folder) in EMBEDDED_CLIPS

    def knows(self, thing: Thing | None) -> bool:
        """Return whether the CLIP knows the words of an object; None: one that the toybox does not have."""
        return not self.embedded or (isinstance(thing, Caption) if called(self.folder) == TINY_CLIP else thing is not None)


def clip_model(source: str, device: torch.device | str = "cpu") -> ClipModel:
    """Find the CLIP of a source: tiny-clip, world-clip, a folder, or a hub id in the local cache. WeightsError where there is none."""
    folder = find(source, "clip")
    check(folder, source, role="clip")
    return ClipModel(source, folder, revision(folder), device)


def embedded_for(things: Iterable[Thing | None]) -> str | None:
    """Return the smallest embedded CLIP that knows all of the objects that the toybox has; None where it has none of them."""
    known = [t for t in things if t is not None]
    return (TINY_CLIP if all(isinstance(t, Caption) for t in known) else WORLD_CLIP) if known else None


def best_clip_model(source: str, device: torch.device | str = "cpu", embedded: str | None = TINY_CLIP) -> tuple[ClipModel | None, str]:
    """Find the CLIP that is asked for, or with `auto` ViT-B/32 where its weights are, else the `embedded` one, which is named
    as itself; or None. With it, how to get a better one, where there is one.
    """
    if source != "auto":
        return clip_model(source, device), ""
    try:
        return clip_model(VIT_B32, device), ""
    except WeightsError:
        how = f"{VIT_B32} is not here:{GET_CLIP}"
    try:
        return (clip_model(embedded, device) if embedded else None), how
    except WeightsError:
        return None, how


def revision(folder: Path) -> str:
    """Return which version of its weights a folder holds: the hub's commit, or the beginning of the weights' SHA-256."""
    folder = Path(folder)
    if folder.parent.name == "snapshots":
        return f"revision {folder.name[:12]}"
    bundled = SharedWeights.of(folder)
    file = folder / "model.safetensors"
    file = bundled.file if bundled is not None and not file.is_file() else file
    if not file.is_file():
        return "revision unknown"
    return f"sha256 {sha256_of(file)[:12]}"


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = sha256()
    with open(file, "rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
