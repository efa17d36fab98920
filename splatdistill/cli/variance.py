"""splatdistill variance: how noisy the gradients of several methods are on the same scenes, from what, and how biased."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from torch import Tensor

from splatdistill import __version__
from splatdistill.cli.console import speaker
from splatdistill.cli.missing_prompt import OFFERS
from splatdistill.cli.progress import Work
from splatdistill.errors import UserError
from splatdistill.evaluate.variance import SOURCES, SPACES, Design
from splatdistill.evaluate.variance_draws import Arm, Draws, Still, learn, noise_errors, splats
from splatdistill.evaluate.variance_report import ErrorPoint, Report, SceneNote, diagrams, rows
from splatdistill.guidance import SDS, Times
from splatdistill.guidance.shaping import Weight
from splatdistill.io.atomic import write_text
from splatdistill.io.images import write_png
from splatdistill.settings.commands import parse_train
from splatdistill.settings.methods import guidance_of, split
from splatdistill.settings.resolve import Weights, refuse_unknown, resolved
from splatdistill.train.begin import begin
from splatdistill.train.checkpoint import read_checkpoint
from splatdistill.train.config import Train
from splatdistill.train.run import RunDir, slug
from splatdistill.train.session import Session
from splatdistill.train.steer import in_force

LEVELS = tuple(round(0.05 + 0.1 * k, 2) for k in range(10))  # of the noise error
VIEWS = 16  # of the noise error


@dataclass(frozen=True)
class Variance:
    """Measure how noisy the gradients of several methods are on the same scenes."""

    guidances: Annotated[str, tyro.conf.arg(metavar="NAME,...")] = "sds,sdi"
    """Methods, with options of their own in brackets: "sds,sdi,sdi[eta=0,inversion_steps=10]". stein stands for the
    seven forms of SSD; @strange behind a name shows it the render of another camera."""
    prompt: str = ""
    """What the scenes show, where no run is given."""
    checkpoint: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN ...")] = ()
    """Run directories: their checkpoints are the scenes, and what the run's guidance has learned is taken up."""
    run: str = "sds"
    """Guidance of the short run that is made where no run is given."""
    steps: int = 120
    """Its length."""
    scenes: int = 2
    """How many scenes of each run, evenly spaced, the last one included."""
    draws: int = 256
    """Gradients per method and scene: cameras x encodings x times x noises."""
    times: int = 4
    """Noise levels per encoding."""
    noises: int = 4
    """Noises per noise level."""
    encodings: int | None = None
    """Samples of the encoder per camera; by default 2, or 1 where the encoder has no spread."""
    matched: bool = True
    """All methods at one guidance scale, weight of the view's words, weight and distribution of times; otherwise each as its
    recipe has it."""
    scale: float = 7.5
    """The guidance scale of all methods."""
    view_weight: float = 0.0
    """How much harder the words of the view pull, in all methods."""
    weight: Weight = "sigma2"
    """w(t) of all methods."""
    low: float = 0.02
    """Least noise."""
    high: float = 0.98
    """Most noise."""
    reference: int = 4
    """The KL gradient, SDS's mean, is taken over this many times the draws."""
    learn: int = 50
    """Steps that a method which learns (VSD) does so on each scene, unless its run has taught it."""
    noise_error: bool = False
    """Also how well each network tells the noise in renders, by noise level."""
    prior: str = "auto"
    """auto, tiny (the embedded model of the toybox world), a diffusers folder, or a hub id."""
    device: str = "auto"
    """Where to run: auto (a CUDA card if there is one), cpu, cuda, or another device of torch, such as cuda:1 or mps."""
    seed: int = 0
    """Everything random comes from it."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the report goes; by default runs/variance- and the prompt. A folder that exists gets a number."""

    def common(self) -> dict[str, Any]:
        """The options of a guidance that all methods are given."""
        times = Times(t_min=self.low, t_max=self.high)
        told = {"scale": self.scale, "view_weight": self.view_weight, "weight": self.weight, "times": times}
        return told if self.matched else {}


@dataclass(frozen=True)
class Taken:
    """A scene of a run."""

    session: Session
    run: str
    named: str  # how the run's guidance is asked for
    saved: Path | None  # its checkpoint


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    options = tyro.cli(Variance, args=argv, prog="splatdistill variance")
    check(options)
    weights, console = Weights(), speaker()
    runs = [existing(path) for path in options.checkpoint] or [(short(options, weights), None, options.run)]
    source, matched = runs[0][0].prior, options.common()
    arms = [arm(name, text, source, weights, matched) for name, text in split(options.guidances).items()]
    found = weights.find(runs[0][0].prior)
    if found.notice:
        console.print(found.notice, style="bold yellow")
    prompt = runs[0][0].prompt
    folder = RunDir.create(prompt, options.out or Path("runs") / f"variance-{slug(prompt)}")
    report, total = None, 0
    with Work(console, "measuring", 1) as work:
        for taken in scenes(options, runs, weights):
            still = still_of(taken)
            design = designed(options, still)
            if report is None:
                report = started(options, taken.session, design)
                count = sum(len(steps_of(options, path, config)) for config, path, _ in runs)
                work.retotal(count * design.cameras * design.below * (len(arms) + options.reference))
            total = measure(options, report, taken, still, design, arms, work, total)
            save(report, folder)
    assert report is not None
    show(report, console)
    console.print(f"  {'record':10}{folder.path / 'variance.json'}\n  {'diagrams':10}{folder.path}/*.png")
    return 0


def arm(name: str, text: str, prior: str, weights: Weights, matched: dict[str, Any]) -> Arm:
    """Return a method of the list: its recipe's options, those in brackets, and on top what all are matched in."""
    guidance, strange = guidance_of(text, prior, weights)
    return Arm(name, replace(guidance, **matched), strange=strange)


def check(o: Variance) -> None:
    """UserError for numbers that make no sense."""
    if not o.prompt.strip() and not o.checkpoint:
        raise UserError(
            "variance needs scenes: --prompt TEXT for a short run of its own, or --checkpoint RUN for those of a run.\n"
            f'For example: splatdistill variance --guidances sds,sdi --prompt "{OFFERS[0]}"'
        )
    least = {"steps": 1, "scenes": 1, "times": 2, "noises": 2, "reference": 1, "learn": 0, "draws": 1}
    for name, low in least.items():
        if getattr(o, name) < low:
            raise UserError(f"--{name} must be at least {low}, got {getattr(o, name)}")
    if o.encodings is not None and o.encodings < 1:
        raise UserError(f"--encodings must be at least 1, got {o.encodings}")
    if not 0 < o.low < o.high < 1:
        raise UserError(f"--low and --high must rise within (0, 1), got {o.low} and {o.high}")
    if o.draws < 3 * o.times * o.noises * (o.encodings or 1):
        need = 3 * o.times * o.noises * (o.encodings or 1)
        raise UserError(f"--draws {o.draws} are too few: three cameras of --times {o.times} x --noises {o.noises} take {need}")


def existing(path: Path) -> tuple[Train, RunDir, str]:
    """A run directory: its configuration, and how its guidance is asked for."""
    folder = RunDir(path.expanduser())
    if not folder.config.is_file():
        raise UserError(f"--checkpoint {path}: there is no {folder.config}; expected the directory of an earlier run")
    parsed = parse_train([f"--config={folder.config}"], lambda source: None)
    return in_force(parsed.config, folder, folder.newest_checkpoint()), folder, folder.settings()["guidance"]["name"]


def short(o: Variance, weights: Weights) -> Train:
    """The configuration of the short run."""
    argv = ["--prompt", o.prompt, "--guidance", o.run, "--prior", o.prior, "--device", o.device]
    config = parse_train([*argv, "--steps", str(o.steps), "--seed", str(o.seed)], weights.family).config
    refuse_unknown(config, weights.family(config.prior))
    return resolved(config, weights.find(config.prior))


def steps_of(o: Variance, run: RunDir | None, config: Train) -> list[int] | list[Path]:
    """Evenly spaced places of a run, the last one included: steps to be made, or checkpoints that there are."""
    if run is None:
        return sorted({max(1, round(config.steps * (k + 1) / o.scenes)) for k in range(o.scenes)})
    there = run.checkpoints()
    return [there[k] for k in sorted({round(len(there) * (k + 1) / o.scenes + 1e-9) - 1 for k in range(o.scenes)}) if k >= 0]


def scenes(o: Variance, runs: list[tuple[Train, RunDir | None, str]], weights: Weights) -> Iterator[Taken]:
    """Every scene in turn."""
    for config, folder, named in runs:
        found = weights.find(config.prior)
        going: Session | None = None
        for place in steps_of(o, folder, config):
            if isinstance(place, Path):
                here = in_force(config, RunDir(place.parents[1]), saved := read_checkpoint(place))
                going = begin(here, found, saved) if going is None else Session.resumed(here, going.prior, saved)
                yield Taken(going, str(folder.path if folder else ""), named, place)
                continue
            going = going or begin(config, found)
            while going.state.step < place:
                going.step()
                if going.state.refused > 10:
                    raise UserError("the short run's gradients stay non-finite; try another --run, or scenes of a run of your own")
            yield Taken(going, f"{config.steps} steps of {named}", named, None)


def still_of(taken: Taken) -> Still:
    """The scene as the run sees it."""
    s = taken.session
    progress = min(s.state.step / s.config.steps, 1.0)
    return splats(s.state.scene, s.config, s.prior, s.prompts, s.rasterizer, progress, s.state.background.detach())


def designed(o: Variance, still: Still) -> Design:
    """How many draws of what; how many encodings is asked of the encoder itself."""
    shot = still.shoot(torch.Generator().manual_seed(0))
    one, other = (shot.encode(torch.Generator().manual_seed(k)).detach() for k in (1, 2))
    encodings = o.encodings or (1 if torch.equal(one, other) else 2)
    return Design(max(3, round(o.draws / (encodings * o.times * o.noises))), encodings, o.times, o.noises)


def started(o: Variance, session: Session, design: Design) -> Report:
    """A report without rows."""
    told = {"scale": o.scale, "view_weight": o.view_weight, "weight": o.weight, "low": o.low, "high": o.high}
    matched = told if o.matched else None
    prior, prompt = session.prior, session.config.prompt
    return Report(__version__, prompt, prior.name, prior.licence, o.seed, dataclasses.asdict(design), matched)


def measure(
    o: Variance, report: Report, taken: Taken, still: Still, design: Design, arms: list[Arm], work: Work, total: int
) -> int:
    """Add one scene to the report; the draws made so far."""
    session, scene = taken.session, len(report.scenes)
    report.scenes.append(SceneNote(taken.run, session.state.step, still.progress, len(session.state.scene)))
    rng = torch.Generator().manual_seed(o.seed)
    ready = [taught(a, o, taken, still, rng) for a in arms]
    done = [total]

    def tick(count: int) -> None:
        done[0] += count
        work.done(done[0])

    many = replace(design, times=o.reference * design.times)
    first = ready[0].guidance
    common = {"scale": first.scale, "view_weight": first.view_weight, "weight": first.weight, "times": first.value("times")}
    reference = Draws(still, many, o.seed + scene, "reference").measure(Arm("reference", SDS(**common)), tick)
    draws = Draws(still, design, o.seed + scene)
    report.rows.extend(rows(scene, ready, [draws.measure(a, tick) for a in ready], reference))
    if o.noise_error:
        for network, t, error in noise_errors(ready, still, LEVELS, VIEWS, rng):
            spread = float(error.std() / len(error) ** 0.5)
            report.noise_errors.append(ErrorPoint(scene, network, t, float(error.mean()), spread))
    return done[0]


def taught(a: Arm, o: Variance, taken: Taken, still: Still, rng: torch.Generator) -> Arm:
    """The arm with what its run has taught it, or else after learning on the scene."""
    state: dict[str, Tensor] = taken.session.state.memory.state_dict()
    if type(a.guidance) is type(taken.session.config.guidance) and state:
        return replace(a, learned={k: v.clone() for k, v in state.items()})
    return learn(a, still, taken.session.config.batch, o.learn, rng)


def save(report: Report, folder: RunDir) -> None:
    """Write the record and the diagrams as far as they are."""
    write_text(folder.path / "variance.json", json.dumps(report.record(), indent=1, default=str) + "\n")
    for name, picture in diagrams(report).items():
        write_png(folder.path / f"{name}.png", picture)


def show(report: Report, console: Console) -> None:
    """Tables for the screen, one for each scene and space."""
    told = ", ".join(f"{k} {v}" for k, v in report.matched.items()) if report.matched else "each method as its recipe has it"
    drawn = " x ".join(f"{v} {k}" for k, v in report.design.items())
    console.print(f"{report.prompt!r} with the prior {report.prior}; {drawn}; {told}")
    wide = max(len(row.name) for row in report.rows) + 2
    for k, scene in enumerate(report.scenes):
        for space in SPACES:
            shown = [s for s in SOURCES if not (space == "latents" and s == "camera")]
            console.print(f"\n{space}, step {scene.step} of {scene.run}, {scene.splats} splats", style="bold")
            heads = f"{'images':>7}  {'variance / mean^2':24}{'x images':>9}  {'against the first':22}"
            console.print(f"  {'':{wide}}{heads}{''.join(f'{s:>8}' for s in shown)}  {'cosine to KL':21}{'bias':>6}")
            for row in (r for r in report.rows if r.scene == k):
                f = row.of(space)
                parts = "".join(f"{'?' if (v := f.shares[s].value) is None else f'{v:.0%}':>8}" for s in shown)
                numbers = f"{row.calls:7.3g}  {f.ratio!s:24}{short_of(f.per_call.value):>9}  {f.against_first!s:22}"
                name = row.name + (" *" if row.alone else "")
                console.print(f"  {name:{wide}}{numbers}{parts}  {f.cosine!s:21}{short_of(f.bias.value):>6}")
    if any(r.alone for r in report.rows):
        console.print("* measured one view at a time, without what views of one batch do to each other")


def short_of(value: float | None) -> str:
    """A number without its interval."""
    return "?" if value is None else f"{value:.3g}"
