"""splatdistill train: a prompt becomes splats, a turntable and a sheet."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from splatdistill import __version__, checks
from splatdistill.cli.already_finished import has_done
from splatdistill.cli.console import speaker, tell_tracker
from splatdistill.cli.missing_prompt import offer
from splatdistill.cli.run_with_progress import follow
from splatdistill.cli.variants import MOST, choose, refining
from splatdistill.cli.viewer import WATCHED, Watched
from splatdistill.errors import UserError, WeightsError
from splatdistill.io.atomic import write_text
from splatdistill.io.sog import unbundled
from splatdistill.priors.weights import Found
from splatdistill.settings import yaml
from splatdistill.settings.commands import TRAIN
from splatdistill.settings.files import expanded
from splatdistill.settings.layers import Parsed, parse, peek
from splatdistill.settings.phases import lengthened
from splatdistill.settings.recipes import Family
from splatdistill.settings.resolve import Weights, cards, changed, device_again, refuse_prompt, resolved
from splatdistill.shell import as_typed
from splatdistill.train.begin import begin
from splatdistill.train.config import Train
from splatdistill.train.log import description
from splatdistill.train.phases import read
from splatdistill.train.replay import Replay
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.steer import in_force
from splatdistill.train.tracking import Tracker, available, trackers
from splatdistill.train.variants import Variant

BEGINNINGS = ("--replay", "--refine")  # of a new run from an earlier one
NEUTRAL = ("steps", "checkpoint_every", "preview_every")  # what a resumed run may change
BESIDE = (*WATCHED, "track")  # what is no part of a run


@dataclass(frozen=True)
class TrainOptions(Watched):
    """Options of `train` that are no part of a configuration."""

    resume: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Go on with the run in this directory, with the options it began with."""
    from_image: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Begin with a picture of the object, beside --prompt or in its place: the same as --image.path FILE. Say --image.elevation and
    --image.azimuth where it was not taken from the front and 15 degrees above."""
    replay: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Repeat the run in this directory with every command that its log holds."""
    refine: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Go on from the splats of the finished run in this directory at a higher setting: a new run."""
    phase: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """With --refine: go on with this phase instead, detail or picture, or "NAME[share=0.5, OPTION=VALUE, ...]"; share is of the
    earlier run's steps."""
    variants: int = 1
    """Number of seeds to train side by side, on all CUDA cards that there are, to choose one that --refine goes on with."""
    track: Annotated[Tracker | None, tyro.conf.arg(metavar="{tensorboard}")] = None
    """Write scalars and previews for TensorBoard too, into the run's folder: `tensorboard --logdir runs` (extra tensorboard)."""

    def __post_init__(self) -> None:
        """Raise UserError for numbers that make no sense."""
        checks.types(self)
        checks.within(self, 1, MOST, "variants")


COMMAND = replace(TRAIN, beside=TrainOptions)


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    if {"-h", "--help"} & set(argv):
        return explain(argv)
    return fresh(argv) if peek(argv, "--resume") is None else resume(argv)


def explain(argv: list[str]) -> int:
    """Print the options, with the values of the recipe that applies (of none without weights). Ends the process."""

    def family(source: str) -> Family | None:
        try:
            return Weights().family(source)
        except WeightsError:
            return None

    parse(argv, family, command=COMMAND)
    return 0


def fresh(argv: list[str], server: Any = None) -> int:
    """Start a new run, or several; server: of a page that is already open."""
    weights, commands, unknown = Weights(), None, ""
    if len(given := [o for o in BEGINNINGS if peek(argv, o) is not None]) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other: a run begins as one or the other")
    if (source := peek(argv, "--replay")) is not None:
        earlier = RunDir(expanded(source))
        commands = Replay(given=earlier.commands())
        unknown = f"this may not repeat {earlier.path}: {told}" if (told := earlier.unknown_steering()) else ""
        argv = argv if peek(argv, "--config") else [f"--config={earlier.config}", *argv]
    source = peek(argv, "--refine")
    if (phase := peek(argv, "--phase")) is not None and source is None:
        raise UserError(f"--phase {phase} goes on from a finished run: give --refine DIR too, or --phases for phases of a new run")
    earlier = refining(RunDir(expanded(source)), phase) if source is not None else ()
    parsed = parse(from_image(from_splats(argv)), weights.family, command=COMMAND, earlier=earlier)
    asked = parsed.beside
    assert isinstance(asked, TrainOptions)
    watching = asked.watching  # checks it, before anything is loaded
    available(asked.track)
    if asked.variants > 1 and commands:
        raise UserError(f"a replayed run has no variants; got --variants {asked.variants}")
    pictured = parsed.config.image.path is not None
    if "prompt" not in parsed.chosen_by and not pictured:
        raise UserError(offer([]))
    refuse_prompt(parsed.config.prompt, parsed.config.negative, weights.family(parsed.config.prior), pictured)
    found = weights.find(parsed.config.prior)
    config = lengthened(resolved(parsed.config, found), parsed.chosen_by)
    console = speaker()
    if found.notice:
        console.print(found.notice, style="bold yellow")
    if unknown:
        console.print(unknown, style="yellow")
    session = begin(config, found)
    folder = RunDir.create(called(config), asked.out)
    session.config = config = folder.keep_picture(config)
    parsed = replace(parsed, config=config, chosen_by={**parsed.chosen_by, **changed(parsed.config, config)})
    console.print(
        f"{called(config)!r} by {parsed.spell['guidance']} with the prior {session.prior.name} on {config.device}, "
        f"into {folder.path}"
    )
    tell_tracker(console, asked.track, folder.path)
    if config.phases:
        console.print(f"phases: {', '.join(f'{read(said).name} from step {config.span(k)[0]}' for k, said in enumerate(config.phases))}")
    elif (slower := config.rates.over(config.steps / config.particles)) != config.rates:
        part = slower.means / config.rates.means
        console.print(f"learning rates are {part:.2g} of those given, which are meant for {config.rates.tuned_for_steps} steps (--rates.tuned-for-steps 0: for any)")
    if asked.variants > 1:
        return several(parsed, asked, session, folder, found, console)
    describe(parsed, folder, found.notice)
    try:
        return follow(session, folder, console, replace(watching, server=server), commands, trackers(asked.track, folder))
    finally:
        if commands is not None and commands.given:
            late = "; ".join(f"before step {g.attempt + 1}, {description(g.command)}" for g in commands.given)
            console.print(f"the run ended before these commands of the log: {late}", style="yellow")


def called(config: Train) -> str:
    """Return a run's name: its prompt, or that of its picture's file."""
    return config.prompt if config.prompt.strip() or config.image.path is None else config.image.path.stem


def from_image(argv: list[str]) -> list[str]:
    """Read `--from-image FILE` as `--image.path FILE`."""
    return [word.replace("--from-image", "--image.path", 1) if word.split("=")[0] == "--from-image" else word for word in argv]


def from_splats(argv: list[str]) -> list[str]:
    """Read `--init thing.ply` as `--init file --init.path thing.ply`; a name with any suffix is a file, so that what is read
    can be told where it is another format.
    """
    source = peek(argv, "--init") or ""
    if not re.fullmatch(r"\.\w+", Path(source).suffix) and (not source or unbundled(Path(source)) is None):
        return argv
    at = max(i for i, word in enumerate(argv) if word.split("=")[0] == "--init")
    rest = argv[:at] + argv[at + (1 if "=" in argv[at] else 2) :]
    return [*rest, "--init=file", f"--init.path={source}"]


def several(parsed: Parsed, asked: TrainOptions, first: Session, folder: RunDir, found: Found, console: Console) -> int:
    """Train one run for each of some seeds, spread over the cards that there are, and then the one that was chosen at a higher setting."""
    runs, priors, spread = [], {parsed.config.device: first.prior}, cards(parsed.config.device)
    for k in range(asked.variants):
        config = replace(parsed.config, seed=parsed.config.seed + k, device=spread[k % len(spread)])
        each = RunDir.create(called(config), folder.path / f"seed-{config.seed}")
        config = each.keep_picture(config)
        describe(replace(parsed, config=config), each, found.notice)
        if k == 0:
            first.config, session = config, first
        elif config.device in priors:
            session = Session(config, priors[config.device])
        else:
            session = begin(config, found)
            priors[config.device] = session.prior
        runs.append(Variant(session, each, callbacks=trackers(asked.track, each)))
    if len(priors) > 1:
        console.print(f"the variants are spread over {', '.join(priors)}")
    status, page = choose(runs, console, asked.watching)
    if page is None or page.chosen is None:
        return status
    chosen, w = runs[page.chosen].folder.path, asked.watching
    out = chosen.with_name(f"{chosen.name}-refined")
    return fresh(["--refine", str(chosen), "--out", str(out), "--viewer", "--wait" if w.wait else "--no-wait"], page.hand_over())


def describe(parsed: Parsed, folder: RunDir, notice: str) -> None:
    """Write a new run's configuration."""
    again = f"splatdistill {__version__}; `{as_typed('splatdistill', 'train', '--config', folder.config)}` repeats this run"
    write_text(folder.config, parsed.yaml([again, notice]))


def resume(argv: list[str]) -> int:
    """Resume a run from its newest checkpoint."""
    folder = RunDir(expanded(peek(argv, "--resume") or ""))
    if not folder.config.is_file():
        raise UserError(
            f"--resume {folder.path}: there is no {folder.config}; expected the directory of an earlier run"
        )
    typed = [path for path in yaml.paths_in(argv) if path not in ("resume", *BESIDE)]
    if fixed := [path for path in typed if path not in NEUTRAL]:
        raise UserError(
            f"--resume goes on with the options in {folder.config}: {option(fixed[0])} cannot be given again, only "
            f"{', '.join(map(option, NEUTRAL))} can.\n"
            f"For a new run with other options: {as_typed('splatdistill', 'train', '--config', folder.config)} ..."
        )
    parsed = parse([f"--config={folder.config}", *argv], lambda source: None, command=COMMAND)
    assert isinstance(parsed.beside, TrainOptions)
    available(parsed.beside.track)
    folder.begun()  # refuses what is no run's configuration
    checkpoint = folder.newest_checkpoint()
    wanted = {name: getattr(parsed.config, name) for name in NEUTRAL if name in typed}  # what is typed has the last word
    config = folder.with_picture(replace(in_force(parsed.config, folder, checkpoint), **wanted))
    done = checkpoint.note.step
    if done >= config.steps and folder.finished(config.particles):
        raise UserError(has_done(folder, done, config.steps))
    config = replace(config, device=device_again(config.device, folder.path, folder.config))
    session = begin(config, Weights().find(config.prior), checkpoint)
    console = speaker()
    console.print(f"{called(config)!r}: going on at step {done} of {config.steps}, in {folder.path}")
    tell_tracker(console, parsed.beside.track, folder.path)
    return follow(session, folder, console, parsed.beside.watching, callbacks=trackers(parsed.beside.track, folder, done))


def option(path: str) -> str:
    """Return a field's path as it is typed."""
    return f"--{path}".replace("_", "-")

