"""Options of `splatdistill bench`, known without loading anything heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from splatdistill.bench.preset import Budget
from splatdistill.evaluate.options import Judge


@dataclass(frozen=True)
class Bench:
    """Compare methods: prompts x guidances x seeds, each a run of `splatdistill train`, then measured and tabulated.

    What is done is never done again: the same command goes on where it was stopped.
    """

    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """A bench by name (--list shows them), or a YAML file like those in configs/bench/. What is typed goes above it."""
    list: bool = False
    """Show the presets and end."""
    prompts: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file of prompts: one a line, or JSON lists."""
    prompt: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Prompts, typed here instead of in a file."""
    count: int | None = None
    """Number of prompts to take, from the first on; by default all."""
    guidances: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Methods, with options in brackets, of the guidance or of the run: sds "sdi[eta=0]" "vsd[particles=2]"; commas between
    them do as well as spaces."""
    seeds: tuple[int, ...] | None = None
    """Seeds; a run for each."""
    budget: Budget | None = None
    """Quantity that is equal for all: recipe (nothing; each as its recipe has it), steps, calls (images that networks are asked
    about), or seconds (of training on this machine, by a short run of each first)."""
    amount: float | None = None
    """Number of steps, images or seconds."""
    prior: str | None = None
    """auto; tiny or world (embedded: toys at 64 pixels; toys and real objects at 128, one view or four); a diffusers folder, or a hub id."""
    device: str = "auto"
    """Device to compute on: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A YAML file of options of `train` for all runs, above their recipes."""
    clip: str = "auto"
    """The CLIP that measures: auto is openai/clip-vit-base-patch32 where its weights are, else with an embedded prior
    tiny-clip or, where a prompt names a real object, world-clip, which know the toybox's words alone; or a folder, or a hub id."""
    judge: Judge = "clip"
    """imagenet: an ImageNet classifier measures too, see `evaluate`."""
    image_reward: Annotated[Path | None, tyro.conf.arg(metavar="PYTHON")] = None
    """A Python interpreter in whose environment the package image-reward is installed: it then measures too."""
    samples: int = 32
    """Pictures of the prior per prompt that renders are compared with (FID); 0: none."""
    against: str = ""
    """The arm that the others are compared with; by default the first."""
    threshold: float | None = None
    """The CLIP score that curves are timed to; by default, for each prompt, where --against ends."""
    points: int | None = None
    """Points of each convergence curve: so many checkpoints of each run are kept; 0: none."""
    workers: int | None = None
    """Runs at a time; by default as many as there are processors, one on a GPU."""
    threads: int | None = None
    """Threads of each run; by default one on a CPU, where several runs use it better than one."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or an existing Ray cluster whose machines all see --out at the same path."""
    address: str = "auto"
    """Address of the Ray cluster."""
    hours: float | None = None
    """Hours after which no run begins."""
    train: bool = True
    """Make the runs that are missing; --no-train only measures those that are there."""
    plan: bool = False
    """Say what would be done, method by method, and end; or why it cannot be."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of all of it; by default runs/bench- and the preset."""
