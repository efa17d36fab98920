"""splatdistill generate: splats of a prompt in one pass of a network that `splatdistill amortise` has trained."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console

from splatdistill import __version__
from splatdistill.cameras import orbit
from splatdistill.cli.console import speaker
from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io.extent import fitting
from splatdistill.io.ply import Provenance, write_ply
from splatdistill.io.video import write_mp4
from splatdistill.priors import weights
from splatdistill.render import rasterizer
from splatdistill.scene.generator.saved import Generator
from splatdistill.scene.splats import Splats
from splatdistill.settings.command_line import command_line
from splatdistill.settings.commands import parse_train
from splatdistill.settings.resolve import Weights, refuse_prompt
from splatdistill.shell import as_typed
from splatdistill.train.amortised.polish import polishing
from splatdistill.train.particle import Particle
from splatdistill.train.progress import Work
from splatdistill.train.run import slug
from splatdistill.train.session import Session

FOV, FPS = 42.0, 24  # of films
RADIUS = 1.0  # world units, of what films show


@dataclass(frozen=True)
class Generate:
    """Generate the splats of a prompt in one pass of a network that `splatdistill amortise` has trained.

      splatdistill generate "a red mug" --from runs/192-prompts
      splatdistill generate "a red mug" --from runs/192-prompts --polish 50 --out mug.ply
      splatdistill generate --from runs/192-prompts --corpus-out all
      splatdistill generate --from runs/192-prompts --between "a red ball" "a blue cube" --frames 96 --out between.mp4
    """

    prompt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROMPT")] = ""
    """Prompt; it need not be one of the corpus."""
    folder: Annotated[Path | None, tyro.conf.arg(name="from", metavar="DIR")] = None
    """Folder of a training by `splatdistill amortise`."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to write, .ply, or .mp4 for --between; by default in the folder, under `generated`."""
    seed: int | None = None
    """Another object of the prompt for each number, where the network was trained with `--generator.z`."""
    polish: int = 0
    """Steps of SDI on the splats of this one prompt, begun at t = 0.5."""
    corpus_out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the splats of every prompt of the corpus."""
    between: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="A B")] = None
    """Two prompts, for a film of what lies between them."""
    frames: int = 96
    """Frames of that film."""
    device: str = "cpu"
    """Device to compute on: cpu, cuda, or another device of torch."""


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    asked = command_line(Generate, argv, "splatdistill generate")
    if asked.folder is None:
        raise UserError('which network? Give its folder: splatdistill generate "a red mug" --from runs/192-prompts')
    ways = [bool(asked.prompt.strip()), asked.corpus_out is not None, asked.between is not None]
    if sum(ways) != 1:
        raise UserError("what to generate? Give one of a prompt, --corpus-out DIR, and --between A B")
    if not 0 <= asked.polish <= 100_000 or not 2 <= asked.frames <= 10_000:
        raise UserError(f"--polish is 0 to 100000 and --frames 2 to 10000; got {asked.polish} and {asked.frames}")
    if (asked.polish or asked.seed is not None) and not ways[0]:
        raise UserError(f"--{'polish' if asked.polish else 'seed'} is for the splats of one prompt; give a prompt")
    if asked.seed is not None and not 0 <= asked.seed < 2**63:
        raise UserError(f"--seed is 0 to {2**63 - 1}; got {asked.seed}")
    generator, console = Generator.load(asked.folder, asked.device), speaker()
    for prompt in asked.between or ([asked.prompt] if ways[0] else []):
        refuse_prompt(prompt, "", Weights().family(generator.prior.name))
    if ways[0]:
        one(asked, generator, asked.folder, console)
    elif asked.corpus_out is not None:
        every(asked.corpus_out.expanduser(), generator, console)
    else:
        film(asked, generator, asked.folder, console)
    return 0


def comments(generator: Generator, prompt: str) -> list[str]:
    """Return the comments of a file that say where it comes from."""
    prior = generator.prior
    return [*Provenance(prompt, prior.name, prior.licence, __version__).comments(), f"generator of {len(generator.corpus)} prompts"]


def place(asked: Generate, folder: Path, name: str) -> Path:
    """Return the file to write, in a folder that is there; UserError for a suffix that is not its kind's."""
    out = asked.out.expanduser() if asked.out else folder / "generated" / name
    if out.suffix.lower() != Path(name).suffix:
        raise UserError(f"--out {out} ends in {out.suffix or 'nothing'}; expected {Path(name).suffix} (`splatdistill export` makes other formats of a .ply)")
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def one(asked: Generate, generator: Generator, folder: Path, console: Console) -> None:
    """Write the splats of one prompt."""
    name = slug(asked.prompt) + ("" if asked.seed is None else f"-{asked.seed}")
    out, began = place(asked, folder, f"{name}.ply"), time.perf_counter()
    if (near := generator.nearest(asked.prompt)) is not None:
        console.print(f"{asked.prompt!r} is not one of its {len(generator.corpus)} prompts; the nearest is {near!r}")
        began = time.perf_counter()
    with torch.no_grad():
        g = generator(asked.prompt, asked.seed)
    took = time.perf_counter() - began
    if asked.polish:
        g = polished(g, asked.prompt, generator, asked.polish, console)
    written = write_ply(out, g.to("cpu"), comments(generator, asked.prompt))
    console.print(f"wrote {out}: {len(g) - written.dropped} splats, generated in {took:.2f} s")
    console.print(f"a film of it: {as_typed('splatdistill', 'render', out)}")


def polished(g: Gaussians, prompt: str, generator: Generator, steps: int, console: Console) -> Gaussians:
    """Refine splats by some steps of SDI, see train.amortised.polish."""
    argv = [*polishing(steps), "--steps", str(steps), "--prior", generator.prior.name, "--prompt", prompt]
    config = parse_train(argv, Weights().family).config
    prior = generator.prior
    if config.prior_views != prior.views:  # a generator's reads words alone; the recipe may want sets of views
        prior = weights.load(weights.find(config.prior), str(prior.device), views=config.prior_views)
    session = Session(config, prior)
    scene = Splats.from_gaussians(g).to(prior.device)
    session.state.particles[0] = Particle.around(scene, torch.zeros(3, device=prior.device), config)
    with Work(console, "polishing", steps) as work:
        for _ in range(steps):
            session.step()
            work.done(session.state.step)
    return session.gaussians()


def every(out: Path, generator: Generator, console: Console) -> None:
    """Write the splats of all prompts of the corpus."""
    out.mkdir(parents=True, exist_ok=True)
    with Work(console, "generating", len(generator.corpus)) as work, torch.no_grad():
        for k, prompt in enumerate(generator.corpus):
            write_ply(out / f"{slug(prompt)}.ply", generator(prompt).to("cpu"), comments(generator, prompt))
            work.done(k + 1)
    console.print(f"wrote {len(generator.corpus)} files of splats into {out}")


@torch.no_grad()
def film(asked: Generate, generator: Generator, folder: Path, console: Console) -> None:
    """Write a film of what lies between two prompts, while the camera goes once around."""
    assert asked.between is not None
    first, second = asked.between
    out, render = place(asked, folder, f"{slug(first)}-to-{slug(second)}.mp4"), rasterizer(generator.prior.device)
    images, white = [], torch.ones(1, 3, device=generator.prior.device)
    with Work(console, "rendering", asked.frames) as work:
        for k in range(asked.frames):
            share = k / (asked.frames - 1)
            camera = orbit([360 * share], 15.0, fitting(RADIUS, FOV), FOV, 256).to(generator.prior.device)
            images.append(render(generator.between(first, second, share), camera, white).rgb.clamp(0, 1).cpu())
            work.done(k + 1)
    write_mp4(out, torch.cat(images), fps=FPS)
    console.print(f"wrote {out}: {first!r} to {second!r} in {asked.frames} frames")
