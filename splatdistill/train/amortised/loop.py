"""Loop of an amortised training: steps until done or stopped, a log, previews, checkpoints, and the generator at the end."""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass

from splatdistill.errors import RunEnded, UserError
from splatdistill.io.atomic import append
from splatdistill.io.images import write_png
from splatdistill.train.amortised.folder import SHEET, sheet, write_generator
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.checkpoint import read_checkpoint, write_checkpoint
from splatdistill.train.commands import Commands, Continue, Once, Pause, Save, Stop
from splatdistill.train.divergence import EXPLANATIONS, DivergenceMonitor, Limits, peak_memory
from splatdistill.train.notes import Note
from splatdistill.train.run import RunDir
from splatdistill.train.tracking import Writer

LOG_EVERY = 10  # steps between lines of the log
PAUSE = 0.03  # seconds between looks at what is asked while a training waits


@dataclass
class Asked:
    """Wishes of the commands that have come: to stop, to pause after some steps, to save."""

    commands: Commands
    stop: bool = False
    save: bool = False
    granted: float = math.inf  # steps until a pause

    def take(self) -> None:
        """Read the commands that have come since the last time; those that an amortised training does not know have no effect."""
        for command in self.commands.take():
            match command:
                case Stop():
                    self.stop = True
                case Save():
                    self.save = True
                case Pause():
                    self.granted = 0
                case Once():
                    self.granted = 1
                case Continue():
                    self.granted = math.inf

    @property
    def pausing(self) -> bool:
        """Return whether no further step is to be taken now."""
        return self.granted < 1 and not self.stop


def run(
    session: AmortisedSession,
    folder: RunDir,
    told: Callable[[int], None] = lambda step: None,
    commands: Commands | None = None,
    waits: Callable[[], None] = lambda: None,
    curves: Writer | None = None,
) -> str:
    """Step until the end or until told to stop; return "done" or "stopped". RunEnded where gradients stay non-finite, or the
    splats show a sign of divergence for long; the last good state was saved. Of several
    processes the first writes; all stop when one is told to, and wait when one is paused.

    told: called with each step. waits: called again and again while the training is paused. curves: given the scalars and sheets.
    """
    first, calls = session.workers.rank == 0, session.prior.calls
    with folder.writing() if first else nullcontext():
        how, said = _steps(session, folder, Asked(commands or Commands()), told, waits, curves)
        if first and not said:
            save(session, folder)
            write_generator(session, folder)
            write_png(folder.path / SHEET, sheet(session))
        if first:
            spent = {"calls": session.prior.calls - calls, "peak_memory": peak_memory(session.prior.device)}
            append(folder.log, json.dumps({"event": "Ended", "step": session.steps, "how": how, "message": said, **spent}))
    if said:
        raise RunEnded(f"the run went wrong at step {session.steps} {said}.")
    return how


def _steps(
    session: AmortisedSession, folder: RunDir, asked: Asked, told: Callable[[int], None], waits: Callable[[], None], curves: Writer | None
) -> tuple[str, str]:
    """Step until the end, until told to stop, or until a sign of divergence has lasted; return "done", "stopped" or the verdict, and
    what went wrong.
    """
    c, monitor, first = session.config, DivergenceMonitor(), session.workers.rank == 0
    began, calls, stopped = time.perf_counter(), session.prior.calls, False
    while session.steps < c.steps and not stopped:
        done = session.step()
        if session.refused >= Limits().refused:
            return "nan", f"(nan): {EXPLANATIONS['nan']}"
        if not done.taken:
            continue
        step = session.steps
        if first and (step % LOG_EVERY == 0 or step == c.steps):
            spent = {"steps": c.steps, "seconds": round(time.perf_counter() - began, 2), "calls": session.prior.calls - calls}
            append(folder.log, json.dumps({"event": "AmortisedStep", "step": step, **asdict(done), **spent}))
        if curves is not None:
            curves.scalars({"loss": done.loss, "gradient": done.grad_norm, "noise level": done.t, "coverage": done.coverage}, step)
        if step % Limits().every == 0:
            verdict = monitor.look(session.generate(done.prompts[0]), done.coverage)
            if session.workers.any(verdict is not None):
                return verdict or "nan", f"({verdict}): {EXPLANATIONS[verdict]}" if verdict else "in another process"
        told(step)
        obey(asked, session, folder, waits)
        stopped = session.workers.any(asked.stop)
        if first and step < c.steps and not stopped:
            if c.preview_every and step % c.preview_every == 0:
                write_png(folder.preview(step), seen := sheet(session))
                if curves is not None:
                    curves.picture("previews", seen, step)
            if c.checkpoint_every and step % c.checkpoint_every == 0:
                save(session, folder)
    return "stopped" if stopped and session.steps < c.steps else "done", ""


def obey(asked: Asked, session: AmortisedSession, folder: RunDir, waits: Callable[[], None]) -> None:
    """Save where that is asked, and wait as long as the training is paused."""
    asked.granted -= 1
    while True:
        asked.take()
        if asked.save:
            save(session, folder)
            asked.save = False
        if not asked.pausing:
            return
        waits()
        asked.commands.wait(PAUSE)


def save(session: AmortisedSession, folder: RunDir) -> None:
    """Write a checkpoint; a network that is not finite is of no use and not written."""
    if all(bool(p.detach().isfinite().all()) for p in session.network.parameters()):
        note = Note(session.steps, session.refused, (session.steps,), sign=None)
        write_checkpoint(folder.checkpoint(session.steps), session.tensors(), note)


def resume(session: AmortisedSession, folder: RunDir) -> int:
    """Load the newest whole checkpoint into a session; return its step. UserError where there is none."""
    damaged: list[str] = []
    for path in reversed(folder.checkpoints()):
        try:
            session.restore(read_checkpoint(path))
            return session.steps
        except UserError as e:
            damaged.append(str(e))
    raise UserError(f"{folder.path} has no whole checkpoint to resume from" + (f": {damaged[0]}" if damaged else ""))
