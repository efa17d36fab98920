"""Acceptance of files of splats: which there are, what they are of, and each judged once."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch

from splatdistill.errors import UserError
from splatdistill.estimators import TINY_CLIP, WORLD_CLIP
from splatdistill.evaluate.acceptance import AcceptanceRecord, Sight, judge, look
from splatdistill.evaluate.across_runs import identity
from splatdistill.evaluate.clip_model import ClipModel, clip_model, sha256_of
from splatdistill.evaluate.measure import FOLDER, KEPT
from splatdistill.evaluate.run_summary import holding
from splatdistill.gaussians import Gaussians
from splatdistill.io import read_splats
from splatdistill.io.atomic import write_text
from splatdistill.io.ply import read_comments
from splatdistill.priors import DiffusionPrior, weights
from splatdistill.priors.weights import Found
from splatdistill.render import Rasterizer, rasterizer
from splatdistill.toybox import Caption
from splatdistill.toybox.things import Thing


@dataclass(frozen=True)
class JudgeNetworks:
    """Networks that judge pictures, loaded when they are first needed."""

    clip: ClipModel | None  # None: of every object the embedded one that knows it
    found: Found | None  # weights of the prior that looks for second fronts; None: the truth alone does
    _embedded: dict[str, ClipModel] = field(default_factory=dict, init=False)

    def clip_of(self, thing: Thing) -> ClipModel:
        """Return the CLIP that recognises an object. Raises UserError where it does not know its words."""
        if self.clip is None:
            name = TINY_CLIP if isinstance(thing, Caption) else WORLD_CLIP
            if name not in self._embedded:
                self._embedded[name] = clip_model(name)
            return self._embedded[name]
        if not self.clip.knows(thing):
            raise UserError(f"{self.clip.source} does not know the words of {str(thing)!r}; leave --clip out, or take {WORLD_CLIP}")
        return self.clip

    @cached_property
    def prior(self) -> DiffusionPrior | None:
        """Load the prior."""
        return weights.load(self.found) if self.found is not None else None

    @cached_property
    def rasterizer(self) -> Rasterizer:
        """Return the rasteriser that draws what is judged."""
        return rasterizer("cpu")

    def key(self, file: Path, caption: Thing) -> str:
        """Return a digest of all that a judgement depends on: the splats' bytes, the caption, and the networks' weights."""
        told = [KEPT, sha256_of(file), str(caption), self.clip_of(caption).name, identity(self.found) if self.found else ""]
        return sha256(json.dumps(told).encode()).hexdigest()[:20]


def judge_file(file: Path, caption: Thing, judges: JudgeNetworks, seen: Sight | None = None) -> AcceptanceRecord:
    """Return the row of a file of splats: the one kept beside it where the same splats were judged by the same networks, else judged
    now. seen: how they look, where that is known already.
    """
    kept = file.parent / FOLDER / f"acceptance-{judges.key(file, caption)}.json"
    try:
        said = json.loads(kept.read_text(encoding="utf-8"))
        return AcceptanceRecord(**{**said, "taken_for": tuple(said["taken_for"])})
    except (OSError, ValueError, KeyError, TypeError):
        pass
    sight = seen or look(splats_of(file), judges.rasterizer)
    record = judge(sight, caption, judges.clip_of(caption).scorer, judges.prior, torch.Generator().manual_seed(0)).record()
    write_text(kept, json.dumps(asdict(record), indent=1, allow_nan=False) + "\n")
    return record


def splats_of(file: Path) -> Gaussians:
    """Read a run's splats; rows that are no Gaussians are left out, counted and told as a warning."""
    return read_splats(file, drop_invalid=True)


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """Return what can be judged among folders and at any depth inside them: splats, which say themselves what they are of. Unlike
    `splatdistill evaluate`, which counts what a run cost and how it ended, this needs no configuration and no log.
    """
    found = list(dict.fromkeys(run for folder in folders for run in holding(folder, "splats.ply")))
    if not found:
        raise UserError(f"no splats.ply in {', '.join(map(str, folders))}; give run directories, or --train")
    return found


def prompt_of(run: Path) -> str:
    """Return what a run was asked for, from the comments of its splats."""
    for line in read_comments(run / "splats.ply"):
        if line.startswith("prompt "):
            return line.removeprefix("prompt ")
    raise UserError(f"{run / 'splats.ply'} does not say which prompt it was made from")
