"""A whole run: steps, commands between them, events out, and files at the end."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from math import inf

import torch

from splatdistill.errors import RunEnded, UserError
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.io.ply import Provenance
from splatdistill.train.events import (
    Applied,
    Callback,
    Commands,
    Continue,
    Ended,
    Event,
    Once,
    Pause,
    Paused,
    Preview,
    Refused,
    Resumed,
    Save,
    Saved,
    Stop,
    Verdict,
)
from splatdistill.train.finish import Artefacts, finish
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.steer import steer
from splatdistill.train.watch import EXPLANATIONS, Watch, Watcher, peak_memory

PAUSE = 0.03  # seconds between looks at what is asked while a run waits


def comments(session: Session) -> list[str]:
    """What an exported file says about where it comes from."""
    from splatdistill import __version__

    c, prior = session.config, session.prior
    made_of = Provenance(c.prompt, prior.name, prior.licence, __version__)
    return [*made_of.comments(), f"guidance {type(c.guidance).__name__}"]


Result = tuple[Ended, Artefacts | None]


def run(session: Session, folder: RunDir, callbacks: Sequence[Callback] = (), commands: Commands | None = None) -> Result:
    """Step until done, stopped, or going wrong; then write the results.

    Events go to log.jsonl and every callback. A verdict raises RunEnded after its last good state was saved.
    """
    going = advance(session, folder, callbacks, commands)
    while True:
        try:
            next(going)
        except StopIteration as end:
            return end.value


def advance(
    session: Session, folder: RunDir, callbacks: Sequence[Callback] = (), commands: Commands | None = None
) -> Generator[None, None, Result]:
    """`run`, which rests after every step and every wait, so that several can take turns."""
    commands, watcher = commands or Commands(), Watcher(Watch())
    config, how, verdict = session.config, "done", None
    asked = session.prior.calls  # before: a prior may serve several runs

    def tell(event: Event) -> None:
        folder.record(event)
        for callback in callbacks:
            callback(event)

    def rest() -> Generator[None, None, None]:
        nonlocal asked
        before = session.prior.calls
        yield
        asked += session.prior.calls - before  # what others asked meanwhile is theirs

    def save() -> None:
        path = folder.checkpoint(session.state.step)
        session.state.save(path)
        tell(Saved(session.state.step, str(path)))

    def picture() -> None:
        views, x0 = session.preview().cpu(), session.estimate()
        write_png(folder.preview(session.state.step), contact_sheet(views, columns=4))
        tell(Preview(session.state.step, views, None if x0 is None else x0.cpu()))

    if session.state.step:
        tell(Resumed(session.state.step))
    granted: float = inf  # steps until a pause
    while session.state.step < session.config.steps:
        for command in commands.take(session.state.step + session.state.refused):
            match command:
                case Stop():
                    how = "stopped"
                case Save():
                    save()
                case Pause():
                    granted = 0
                case Once():
                    granted = 1
                case Continue():
                    granted = inf
                case _:
                    try:
                        steer(session, command)
                    except UserError as e:
                        tell(Refused(session.state.step, command, str(e)))
                        continue
            tell(Applied(session.state.step, command))
        if how == "stopped":
            break
        if granted < 1:
            tell(Paused(session.state.step))
            commands.wait(PAUSE)
            yield from rest()
            continue
        granted -= 1
        verdict = one(session, watcher, tell)
        if verdict is not None:
            break
        step, c = session.state.step, session.config
        taken = session.last is not None and session.last.taken
        if taken and c.preview_every and step % c.preview_every == 0 and step < c.steps:
            picture()
        if taken and c.checkpoint_every and step % c.checkpoint_every == 0 and step < c.steps:
            save()
        yield from rest()

    save()
    message = EXPLANATIONS[verdict] if verdict else {"done": "all steps done", "stopped": f"stopped at step {session.state.step} of {config.steps}"}[how]
    scenes = [session.gaussians(k) for k in range(len(session.state.particles))]
    artefacts = None
    if verdict is None or all(len(g) for g in scenes):
        first, *others = (finish(folder, g, session.rasterizer, comments(session), particle=k) for k, g in enumerate(scenes))
        artefacts = replace(first, others=tuple(others))
    cost = session.prior.calls - asked, peak_memory(session.prior.device)
    ended = Ended(session.state.step, verdict or how, message, scenes[0], tuple(scenes[1:]), *cost)
    tell(ended)
    if verdict:
        raise RunEnded(f"the run went wrong at step {session.state.step} ({verdict}): {message}.\nIts last good state is in {folder.newest_checkpoint()}")
    return ended, artefacts


def one(session: Session, watcher: Watcher, tell: Callback) -> Verdict | None:
    """A step, its event, and whether the run is still all right."""
    try:
        done = session.step()
    except (torch.OutOfMemoryError, MemoryError):
        return "oom"
    tell(done)
    verdict = watcher.step(session.last.taken)
    if verdict is None and session.last.taken and done.step % watcher.limits.every == 0:
        verdict = watcher.look(session.gaussians(session.last.particle), done.coverage, session.last.particle)
    return verdict
