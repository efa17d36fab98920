"""splatdistill image: a prompt becomes one picture or many, by the same guidances; under --prior exact, points."""

import dataclasses
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, cast

import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from splatdistill import __version__
from splatdistill.cli.console import speaker
from splatdistill.cli.run_with_progress import STOPPED, stopping
from splatdistill.errors import UserError, WeightsError
from splatdistill.evaluate.particles import Coverage, coverage, diversity
from splatdistill.evaluate.plots import COLOURS, chart, line, over_density, picture
from splatdistill.io.atomic import write_text
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.priors import DiffusionPrior, plane, weights
from splatdistill.priors.exact import GaussianMixturePrior
from splatdistill.settings.commands import CHOICES
from splatdistill.settings.layers import Beside, Layer, Parsed, Subcommand, parse
from splatdistill.settings.recipes import Family
from splatdistill.settings.resolve import Weights, changed, device_of, refuse_prompt, resolved
from splatdistill.shell import as_typed
from splatdistill.train.commands import Commands
from splatdistill.train.image2d import Image2D, Image2DSession, Scatter
from splatdistill.train.progress import Work, clock
from splatdistill.train.run import RunDir

TAKEN = ("guidance",)  # of a recipe for splats: its steps and rates are for splats


@dataclass(frozen=True)
class Folder(Beside):
    """Options of `image` that are no part of a configuration."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The folder of the pictures; by default runs/ and the prompt. One that exists gets a number."""
    variance_every: int = 0
    """Steps between measurements of how much the gradient scatters, into log.jsonl and a chart; 0: none. Each takes as long as some sixteen steps."""

    def __post_init__(self) -> None:
        """Raise UserError for a number that makes no sense."""
        if self.variance_every < 0:
            raise UserError(f"--variance-every must be at least 0, got {self.variance_every}")


COMMAND = Subcommand(
    "image",
    Image2D,
    CHOICES[:1],
    TAKEN,
    ("guidance.baselines", "guidance.view_weight"),  # they compare with a render; there are no views
    beside=Folder,
)
EXACT = Layer(
    "the exact prior",
    {
        "steps": 1000,
        "particles": 512,
        "init": 1.0,
        "guidance": {"scale": 1.0, "weight": "one", "times": {"t_max_end": 0.1}, "adapter_rate": 0.02},
    },
)
"""Points in the plane: what the density is, with no guidance beyond it, is the question there."""
MANY = 64  # pictures on the sheet at most
LOG_EVERY = 10  # steps between lines of the log


@dataclass(frozen=True)
class Record:
    """Content of image.json."""

    version: str
    prompt: str
    guidance: str
    prior: str
    licence: str
    space: str
    particles: int
    seed: int
    steps: int  # done
    how: str  # done, or stopped by a signal
    seconds: float
    images_per_step: float
    """Pictures that the networks were evaluated on, per step and particle."""
    diversity: float | None
    """Root mean square difference between two pictures; None for points."""
    coverage: Coverage | None
    """Of the density by points; None for pictures."""
    variance: float | None
    """Trace of the gradient's covariance, mean over the measurements along the run; None without --variance-every."""


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    found = Weights()

    def family(source: str) -> Family | Layer | None:
        return EXACT if source == plane.NAME else found.family(source)

    def lenient(source: str) -> Family | Layer | None:
        try:
            return family(source)
        except WeightsError:
            return None

    asked_for_help = bool({"-h", "--help"} & set(argv))
    parsed = parse(argv, lenient if asked_for_help else family, command=COMMAND)
    parsed, prior, notice = settled(parsed, found)
    console = speaker()
    if notice:
        console.print(notice, style="bold yellow")
    config = parsed.config
    pictures = Image2DSession(config, prior)
    folder = RunDir.create(config.prompt, parsed.beside.out)
    write_text(
        folder.config,
        parsed.yaml([f"splatdistill {__version__}; `{as_typed('splatdistill', 'image', '--config', folder.config)}` repeats this", notice]),
    )
    console.print(
        f"{config.prompt!r} by {parsed.spell['guidance']}: {config.particles} "
        f"{'points' if points(prior) else 'pictures'} with the prior {prior.name} on {config.device}, into {folder.path}"
    )
    assert isinstance(parsed.beside, Folder)
    return distil(pictures, parsed.spell["guidance"], folder, console, parsed.beside.variance_every)


def settled(parsed: Parsed, found: Weights) -> tuple[Parsed, DiffusionPrior, str]:
    """Return the configuration with nothing left open, its prior, and what the person must be told."""
    before = parsed.config
    if before.prior == plane.NAME:
        after = replace(before, device=device_of(before.device))
        if after.space == "pixels":
            raise UserError("--prior exact has no pixels: its particles are points in the plane; use --space latents")
        if after.pictures:
            raise UserError("--prior exact has points in the plane and no --pictures; take another prior")
        if after.prompt not in plane.PROMPTS:
            raise UserError(f"--prior exact knows the prompts {', '.join(plane.PROMPTS)}; got {before.prompt!r}")
        prior, notice = cast(DiffusionPrior, plane.plane(after.device)), ""
    else:
        for prompt in (before.prompt, *([before.original] if before.original else [])):
            refuse_prompt(prompt, before.negative, found.family(before.prior))
        at = found.find(before.prior)
        after, notice = resolved(before, at), at.notice
        prior = weights.load(at, **after.loading())
    return replace(parsed, config=after, chosen_by={**parsed.chosen_by, **changed(before, after)}), prior, notice


def points(prior: DiffusionPrior) -> bool:
    """Return True if particles are points in the plane."""
    return isinstance(prior, GaussianMixturePrior) and tuple(prior.shape) == (2,)


def distil(pictures: Image2DSession, guidance: str, folder: RunDir, console: Console, variance_every: int = 0) -> int:
    """Step to the end or until told to stop; write what came of it. The exit status."""
    config, prior, commands = pictures.config, pictures.prior, Commands()
    scatters: dict[int, Scatter] = {}  # by the steps that were done
    calls, began = prior.calls, time.perf_counter()
    with (
        stopping(commands) as caught,
        Work(console, "distilling", config.steps) as work,
        (folder.path / "log.jsonl").open("a", encoding="utf-8") as log,
    ):
        more = True
        while more and not commands.take():
            if variance_every and pictures.done % variance_every == 0 and pictures.done not in scatters:
                scatters[pictures.done] = pictures.scatter()
                log.write(json.dumps({"step": pictures.done, **dataclasses.asdict(scatters[pictures.done])}) + "\n")
            more = pictures.step()
            work.done(pictures.done)
            if pictures.done % LOG_EVERY == 0 or not more:
                seconds = round(time.perf_counter() - began, 3)
                log.write(json.dumps({"step": pictures.done, "seconds": seconds, "calls": prior.calls - calls}) + "\n")
    seconds = time.perf_counter() - began
    kept = Record(
        version=__version__,
        prompt=config.prompt,
        guidance=guidance,
        prior=prior.name,
        licence=prior.licence,
        space=config.space,
        particles=config.particles,
        seed=config.seed,
        steps=pictures.done,
        how="stopped" if more else "done",
        seconds=round(seconds, 2),
        images_per_step=(prior.calls - calls) / max(pictures.done, 1) / config.particles,
        diversity=None if points(prior) else diversity(pictures.images()),
        coverage=covered(pictures) if points(prior) else None,
        variance=sum(s.variance for s in scatters.values()) / len(scatters) if scatters else None,
    )
    sheet, note = folder.path / "image.png", folder.path / "image.json"
    if points(prior):
        write_png(sheet, over_density(pictures.latents(), cast(GaussianMixturePrior, prior), config.prompt))
    else:
        shown = pictures.images()[:MANY]
        write_png(sheet, contact_sheet(shown, columns=max(1, round(len(shown) ** 0.5))))
    write_text(note, json.dumps(dataclasses.asdict(kept), indent=2) + "\n")
    console.print(f"{kept.how} at step {kept.steps} of {config.steps}, after {clock(seconds)}", style="bold")
    if c := kept.coverage:
        console.print(
            f"  against draws from the density: spread {c.spread:.2f}, inside the modes {c.within:.2f}, "
            f"likelihood {c.likelihood:.2f}, mass missed {c.missed:.2f}"
        )
    elif config.particles > 1:
        console.print(f"  two pictures differ by {kept.diversity:.3f} (root mean square)")
    if kept.variance is not None:
        drawn = folder.path / "variance.png"
        write_png(drawn, scattered(scatters))
        console.print(f"  the gradient's variance is {kept.variance:.3g} over the run, at {len(scatters)} of its steps\n  {'chart':10}{drawn}")
    console.print(f"  {'picture':10}{sheet}\n  {'record':10}{note}")
    return STOPPED + caught[0] if more and caught else 0


def scattered(scatters: dict[int, Scatter]) -> Float[Tensor, "3 h w"]:
    """Draw the gradient's variance and the square of its mean along a run."""
    axes = chart("the gradient along the run", "step", log_y=True)
    line(axes, list(scatters), [s.variance for s in scatters.values()], COLOURS[0], "variance")
    line(axes, list(scatters), [max(s.mean_square, 0.0) or None for s in scatters.values()], COLOURS[1], "square of the mean")
    return picture(axes)


def covered(pictures: Image2DSession) -> Coverage:
    """Measure how well points cover the density."""
    prior = cast(GaussianMixturePrior, pictures.prior)
    return coverage(pictures.latents(), prior, pictures.config.prompt, torch.Generator().manual_seed(0))
