"""splatdistill train: a prompt becomes splats, a turntable and a sheet."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from splatdistill import __version__
from splatdistill.cli import tree
from splatdistill.cli.follow import follow
from splatdistill.cli.offer import offer
from splatdistill.cli.parse import TYPED, Parsed, parse, peek
from splatdistill.cli.recipes import Family
from splatdistill.cli.start import Weights, begin, changed, refuse_unknown, resolved
from splatdistill.cli.variants import MOST, choose, refining
from splatdistill.errors import UserError, WeightsError
from splatdistill.io.atomic import replacing
from splatdistill.io.read import READERS
from splatdistill.train.config import Train
from splatdistill.train.replay import Replay, as_steered, commands_of
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.variants import Variant

BEGINNINGS = ("--replay", "--refine")  # of a new run from an earlier one
NEUTRAL = ("steps", "checkpoint_every", "preview_every")  # what a resumed run may change
BESIDE = ("viewer", "no_viewer", "wait", "no_wait", "port")  # what is no part of a run


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    if {"-h", "--help"} & set(argv):
        return explain(argv)
    return fresh(argv) if peek(argv, "--resume") is None else resume(argv)


def explain(argv: list[str]) -> int:
    """The options, with the values of the recipe that applies (of none without weights). Ends the process."""

    def family(source: str) -> Family | None:
        try:
            return Weights().family(source)
        except WeightsError:
            return None

    parse(argv, family)
    return 0


def fresh(argv: list[str], server: Any = None) -> int:
    """A new run, or several; server: of a page that is there already."""
    weights, commands = Weights(), None
    if len(given := [o for o in BEGINNINGS if peek(argv, o) is not None]) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other: a run begins as one or the other")
    if (source := peek(argv, "--replay")) is not None:
        earlier = RunDir(Path(source).expanduser())
        commands = Replay(given=commands_of(earlier.log))
        argv = argv if peek(argv, "--config") else [f"--config={earlier.config}", *argv]
    if (source := peek(argv, "--refine")) is not None:
        argv = [*refining(RunDir(Path(source).expanduser())), *argv]
    parsed = parse(from_splats(argv), weights.family)
    if not 1 <= parsed.variants <= MOST or (parsed.variants > 1 and commands):
        raise UserError(f"--variants lies within 1 and {MOST}, and a replayed run has none; got {parsed.variants}")
    if not parsed.config.prompt.strip():
        raise UserError(offer([]))
    refuse_unknown(parsed.config, weights.family(parsed.config.prior))
    found = weights.find(parsed.config.prior)
    config = resolved(parsed.config, found)
    console = speaker()
    if found.notice:
        console.print(found.notice, style="bold yellow")
    session = begin(config, found)
    folder = RunDir.create(config.prompt, parsed.out)
    parsed = replace(parsed, config=config, chosen_by={**parsed.chosen_by, **changed(parsed.config, config)})
    console.print(
        f"{config.prompt!r} by {parsed.spell['guidance']} with the prior {session.prior.name} on {config.device}, "
        f"into {folder.path}"
    )
    if (slower := config.rates.over(config.steps / config.particles)) != config.rates:
        part = slower.means / config.rates.means
        console.print(f"learning rates are {part:.2g} of those given, which are meant for {config.rates.steps} steps (--rates.steps 0: for any)")
    if parsed.variants > 1:
        return several(parsed, session, folder, found.notice, console)
    describe(parsed, folder, found.notice)
    return follow(session, folder, console, replace(parsed.watching, server=server), commands)


def from_splats(argv: list[str]) -> list[str]:
    """`--init thing.ply` is short for `--init file --init.path thing.ply`."""
    source = peek(argv, "--init") or ""
    if Path(source).suffix.lower().removeprefix(".") not in READERS:
        return argv
    at = max(i for i, word in enumerate(argv) if word.split("=")[0] == "--init")
    rest = argv[:at] + argv[at + (1 if "=" in argv[at] else 2) :]
    return [*rest, "--init=file", f"--init.path={source}"]


def several(parsed: Parsed, first: Session, folder: RunDir, notice: str, console: Console) -> int:
    """One run for each of some seeds, and then the one that was chosen at a higher setting."""
    runs = []
    for k in range(parsed.variants):
        config = replace(parsed.config, seed=parsed.config.seed + k)
        each = RunDir.create(config.prompt, folder.path / f"seed-{config.seed}")
        describe(replace(parsed, config=config), each, notice)
        runs.append(Variant(Session(config, first.prior) if k else first, each))
    status, page = choose(runs, console, parsed.watching)
    if page is None or page.chosen is None:
        return status
    chosen, w = runs[page.chosen].folder.path, parsed.watching
    out = chosen.with_name(f"{chosen.name}-refined")
    return fresh(["--refine", str(chosen), "--out", str(out), "--viewer", "--wait" if w.wait else "--no-wait"], page.hand_over())


def describe(parsed: Parsed, folder: RunDir, notice: str) -> None:
    """Write a new run's configuration."""
    again = f"splatdistill {__version__}; `splatdistill train --config {folder.config}` repeats this run"
    record(folder.config, parsed.yaml([again, notice]))


def resume(argv: list[str]) -> int:
    """Go on with a run where its newest checkpoint is."""
    folder = RunDir(Path(peek(argv, "--resume") or "").expanduser())
    if not folder.config.is_file():
        raise UserError(
            f"--resume {folder.path}: there is no {folder.config}; expected the directory of an earlier run"
        )
    typed = [path for path in tree.paths_in(argv) if path not in ("resume", *BESIDE)]
    if fixed := [path for path in typed if path not in NEUTRAL]:
        raise UserError(
            f"--resume goes on with the options in {folder.config}: {option(fixed[0])} cannot be given again, only "
            f"{', '.join(map(option, NEUTRAL))} can.\n"
            f"For a new run with other options: splatdistill train --config {folder.config} ..."
        )
    checkpoint = folder.newest_checkpoint()
    parsed = parse([f"--config={folder.config}", *argv], lambda source: None)
    config = steered(parsed.config, folder, checkpoint, typed)
    session = begin(config, Weights().find(config.prior), checkpoint)
    assert session.state is not None
    done = session.state.step
    if done >= config.steps:
        raise UserError(
            f"{folder.path} has done {done} steps, and {config.steps} were asked for; "
            f"to go further: --steps {2 * done}, for example"
        )
    record(
        folder.config,
        amended(
            folder.config.read_text(encoding="utf-8"),
            {name: getattr(config, name) for name in NEUTRAL if name in typed},
            done,
        ),
    )
    console = speaker()
    console.print(f"{config.prompt!r}: going on at step {done} of {config.steps}, in {folder.path}")
    return follow(session, folder, console, parsed.watching)


def steered(config: Train, folder: RunDir, checkpoint: Path, typed: list[str]) -> Train:
    """A run's configuration as its commands had left it at a checkpoint; what is typed now has the last word."""
    if not folder.log.is_file():
        return config
    given = commands_of(folder.log, int(checkpoint.name.removeprefix("step-")))
    return replace(as_steered(config, given), **{name: getattr(config, name) for name in NEUTRAL if name in typed})


def amended(text: str, changes: dict[str, int], step: int) -> str:
    """A run's configuration with some numbers changed, and a note of when."""
    for name, value in changes.items():
        text = re.sub(
            rf"^{name}: .*$", f"{name}: {value}  # {TYPED}, when resumed at step {step}", text, flags=re.MULTILINE
        )
    return text


def option(path: str) -> str:
    """A field's path as it is typed."""
    return f"--{path}".replace("_", "-")


def record(path: Path, text: str) -> None:
    """Write a run's configuration, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def speaker() -> Console:
    """Where a run speaks to."""
    return Console(markup=False, highlight=False, soft_wrap=True)
