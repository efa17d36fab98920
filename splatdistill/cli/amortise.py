"""splatdistill amortise: a corpus of prompts becomes one network that turns a text into splats."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from splatdistill import __version__
from splatdistill.cli.console import speaker, tell_tracker
from splatdistill.cli.run_with_progress import STOPPED, stopping
from splatdistill.cli.viewer import WATCHED, Corpus, Watched
from splatdistill.errors import UserError, WeightsError
from splatdistill.io.atomic import write_text
from splatdistill.priors import weights
from splatdistill.scene.generator.saved import WEIGHTS, read_prompts
from splatdistill.settings import yaml
from splatdistill.settings.commands import AMORTISE
from splatdistill.settings.files import expanded
from splatdistill.settings.layers import Parsed, parse, peek
from splatdistill.settings.recipes import Family
from splatdistill.settings.resolve import Weights, changed, device_again, refuse_prompt, resolved
from splatdistill.shell import as_typed
from splatdistill.train.amortised.config import Amortise
from splatdistill.train.amortised.corpus import read_corpus
from splatdistill.train.amortised.folder import SHEET, finished, write_corpus
from splatdistill.train.amortised.loop import resume, run
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.amortised.workers import Workers
from splatdistill.train.commands import Commands
from splatdistill.train.progress import Work, clock
from splatdistill.train.run import RunDir
from splatdistill.train.tracking import FOLDER, Tracker, Writer, available

NEUTRAL = ("steps", "checkpoint_every", "preview_every")  # what a resumed training may change


@dataclass(frozen=True)
class AmortiseOptions(Watched):
    """Options of `amortise` that are no part of a configuration."""

    resume: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Go on with the training in this directory, with the options it began with."""
    track: Annotated[Tracker | None, tyro.conf.arg(metavar="{tensorboard}")] = None
    """Write scalars and previews for TensorBoard too, into the run's folder: `tensorboard --logdir runs` (extra tensorboard)."""


COMMAND = replace(AMORTISE, beside=AmortiseOptions)


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    found = Weights()

    def family(source: str) -> Family | None:
        try:
            return found.family(source)
        except WeightsError:
            if {"-h", "--help"} & set(argv):
                return None
            raise

    if earlier := peek(argv, "--resume"):
        return go_on(argv, RunDir(expanded(earlier)), found)
    parsed = parse(argv, family, command=COMMAND)
    options(parsed)
    before: Amortise = parsed.config
    corpus = read_corpus(before.corpus)
    for prompt in corpus:
        refuse_prompt(prompt, before.negative, found.family(before.prior))
    at = found.find(before.prior)
    config = resolved(before, at)
    parsed = replace(parsed, config=config, chosen_by={**parsed.chosen_by, **changed(before, config)})
    with Workers.here() as workers:
        session = AmortisedSession(config, weights.load(at, views=config.prior_views, **config.loading()), corpus, workers=workers)
        if workers.rank:
            run(session, RunDir(Path()))
            return 0
        folder = RunDir.create(f"{len(corpus)} prompts", parsed.beside.out)
        again = f"splatdistill {__version__}; `{as_typed('splatdistill', 'amortise', '--config', folder.config)}` repeats this"
        write_text(folder.config, parsed.yaml([again, at.notice]))
        write_corpus(folder, corpus)
        return follow(session, folder, parsed, at.notice)


def options(parsed: Parsed) -> AmortiseOptions:
    """Return what was asked beside the configuration; UserError for a tracker that is not installed."""
    assert isinstance(parsed.beside, AmortiseOptions)
    available(parsed.beside.track)
    return parsed.beside


def go_on(argv: list[str], folder: RunDir, found: Weights) -> int:
    """Resume a training from its newest checkpoint."""
    if not folder.config.is_file():
        raise UserError(f"--resume {folder.path}: there is no {folder.config}; expected the directory of an earlier training")
    if fixed := [p for p in yaml.paths_in(argv) if p not in ("resume", "track", *NEUTRAL, *WATCHED)]:
        typed = "--" + fixed[0].replace("_", "-")
        raise UserError(f"--resume goes on with the options in {folder.config}: {typed} cannot be given again, only {', '.join('--' + n.replace('_', '-') for n in NEUTRAL)} can")
    parsed = parse([f"--config={folder.config}", *argv], lambda source: None, command=COMMAND)
    options(parsed)
    config: Amortise = parsed.config
    if (done := finished(folder)) is not None and done >= config.steps:
        more = as_typed("splatdistill", "amortise", "--resume", folder.path, "--steps", 2 * done)
        raise UserError(f"{folder.path} has done {done} steps, and {config.steps} were asked for; to go further, for example: {more}")
    config = replace(config, device=device_again(config.device, folder.path, folder.config))
    at = found.find(config.prior)
    prior = weights.load(at, views=config.prior_views, **config.loading())
    with Workers.here() as workers:
        session = AmortisedSession(config, prior, read_prompts(folder.path), workers=workers)
        resume(session, folder)
        if workers.rank:
            run(session, folder)
            return 0
        return follow(session, folder, parsed, at.notice)


def follow(session: AmortisedSession, folder: RunDir, parsed: Parsed, notice: str) -> int:
    """Train to the end or until told to stop; the exit status."""
    console, commands, config = speaker(), Commands(), session.config
    if notice:
        console.print(notice, style="bold yellow")
    images = config.prompts * config.batch * session.prior.views * session.workers.world
    visits = config.steps * config.prompts * session.workers.world / len(session.corpus)
    console.print(
        f"{len(session.corpus)} prompts by {parsed.spell['guidance']} into a {parsed.spell['generator']} generator: {images} views a step, "
        f"each prompt {f'about {visits:.0f} times' if visits >= 1 else 'once at most'}, with the prior {session.prior.name} on {config.device}, into {folder.path}"
    )
    beside = options(parsed)
    watching = beside.watching
    tell_tracker(console, beside.track, folder.path)
    curves = None if beside.track is None else Writer(folder.path / FOLDER, session.steps, folder.config)
    page = watching.corpus(session, folder, commands, console)
    try:
        with stopping(commands) as caught, Work(console, "distilling", config.steps) as work:
            how = run(session, folder, each(work.done, page), commands, page.waits if page else lambda: None, curves)
            took = clock(work.took)
        tell(session, folder, how, took, console)
        if page is not None and watching.wait and not caught:
            console.print("the page stays until Ctrl-C; --no-wait ends it with the training")
            page.hold(how)
    finally:
        if page is not None:
            page.close()
        if curves is not None:
            curves.close()
    return STOPPED + (caught[0] if caught else signal.SIGINT) if how == "stopped" else 0


def each(done: Callable[[int], None], page: Corpus | None) -> Callable[[int], None]:
    """Return what a training calls after each step: the bar, and the page if there is one."""

    def told(step: int) -> None:
        done(step)
        if page is not None:
            page.stepped(step)

    return told


def tell(session: AmortisedSession, folder: RunDir, how: str, took: str, console: Console) -> None:
    """Print the results of a training."""
    config = session.config
    console.print(f"{how} at step {session.steps} of {config.steps}, after {took}", style="bold")
    one = session.corpus[0]
    console.print(f"  {'generator':10}{folder.path / WEIGHTS}\n  {'sheet':10}{folder.path / SHEET}")
    console.print(f"splats of a prompt: {as_typed('splatdistill', 'generate', one, '--from', folder.path)}")
    if how == "stopped":
        console.print(f"to go on: {as_typed('splatdistill', 'amortise', '--resume', folder.path)}")

