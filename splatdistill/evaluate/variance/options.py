"""Options of `splatdistill variance`, known without loading anything heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from splatdistill.errors import UserError

Weight = Literal["sigma2", "sigma", "sigma_alpha", "alpha_sigma2", "one_minus_alpha", "inverse_alpha", "one"]  # as in guidance.shaping, whose room loads torch; a test holds them equal


@dataclass(frozen=True)
class Variance:
    """Measure how noisy the gradients of several methods are on the same scenes."""

    guidances: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("sds", "sdi")
    """Methods, with options of their own in brackets: sds sdi "sdi[eta=0,inversion_steps=10]"; commas between them do as well
    as spaces. stein stands for the seven forms of SSD; @wrong-view behind a name shows it the render of another camera."""
    prompt: str = ""
    """Prompt of the scenes, where no run is given."""
    checkpoint: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN ...")] = ()
    """Run directories: their checkpoints are the scenes, and what the run's guidance has learned is taken up."""
    run: str = "sds"
    """Guidance of the short run that is made where no run is given."""
    steps: int = 120
    """Steps of the short run."""
    scenes: int = 2
    """Number of scenes of each run, evenly spaced, the last one included."""
    draws: int = 256
    """Gradients per method and scene: cameras x encodings x times x noises."""
    times: int = 4
    """Noise levels per encoding."""
    noises: int = 4
    """Noises per noise level."""
    encodings: int | None = None
    """Samples of the encoder per camera; by default 2, or 1 where the encoder has no spread."""
    matched: bool = True
    """Give all methods one guidance scale, weight of the view's words, weight and distribution of times; otherwise each as its
    recipe has it."""
    scale: float = 7.5
    """The guidance scale of all methods."""
    view_weight: float = 0.0
    """Extra pull of the words of the view, in all methods."""
    weight: Weight = "sigma2"
    """w(t) of all methods."""
    low: float = 0.02
    """Least noise."""
    high: float = 0.98
    """Most noise."""
    reference: int = 4
    """Factor on the number of draws for the KL gradient, SDS's mean."""
    learn: int = 50
    """Steps for which a method that learns (VSD) does so on each scene, unless its run has taught it."""
    noise_error: bool = False
    """Measure also how well each network tells the noise in renders, by noise level."""
    prior: str = "auto"
    """auto; tiny or world (embedded: toys at 64 pixels; toys and real objects at 128, one view or four); a diffusers folder, or a hub id."""
    device: str = "auto"
    """Device to compute on: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""
    seed: int = 0
    """Seed of everything random."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the report; by default runs/variance- and the prompt. A folder that exists gets a number."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        if not self.prompt.strip() and not self.checkpoint:
            raise UserError(
                "variance needs scenes: --prompt TEXT for a short run of its own, or --checkpoint RUN for those of a run.\n"
                'For example: splatdistill variance --guidances sds sdi --prompt "a red mushroom"'
            )
        least = {"steps": 1, "scenes": 1, "times": 2, "noises": 2, "reference": 1, "learn": 0, "draws": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise UserError(f"--{name} must be at least {low}, got {getattr(self, name)}")
        if self.encodings is not None and self.encodings < 1:
            raise UserError(f"--encodings must be at least 1, got {self.encodings}")
        if not 0 < self.low < self.high < 1:
            raise UserError(f"--low and --high must rise within (0, 1), got {self.low} and {self.high}")
        if self.draws < 3 * self.times * self.noises * (self.encodings or 1):
            need = 3 * self.times * self.noises * (self.encodings or 1)
            raise UserError(f"--draws {self.draws} are too few: three cameras of --times {self.times} x --noises {self.noises} take {need}")
