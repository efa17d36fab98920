"""Loop of a whole run: steps, commands between them, events out, and files at the end."""

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from splatdistill.errors import RunEnded, UserError, out_of_memory
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.io.ply import Provenance
from splatdistill.train.commands import Choose, Command, Commands, Continue, Densify, Once, Pause, Prune, Save, SetField, Stop
from splatdistill.train.divergence import DivergenceMonitor, explanation, peak_memory
from splatdistill.train.events import Applied, Callback, Ended, Event, Paused, PhaseBegun, Preview, Refused, Resumed, Saved, Verdict
from splatdistill.train.finish import Artefacts, finish
from splatdistill.train.plain import differences, to_plain
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.steer import steer

PAUSE = 0.03  # seconds between looks at what is asked while a run waits
Result = tuple[Ended, Artefacts | None]
logger = logging.getLogger(__name__)


def comments(session: Session) -> list[str]:
    """Return the comments of an exported file that say where it comes from."""
    from splatdistill import __version__

    c, prior = session.config, session.prior
    made_of = Provenance(c.prompt, prior.name, prior.licence, __version__)
    return [*made_of.comments(), f"guidance {type(c.guidance).__name__}"]


def run(session: Session, folder: RunDir, callbacks: Sequence[Callback] = (), commands: Commands | None = None) -> Result:
    """Step until done, stopped, or going wrong; then write the results.

    Events go to log.jsonl and every callback. A verdict raises RunEnded after its last good state was saved; UserError where
    files cannot be written, or another process is going on with the run.
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
    """Run as `run` does, yielding after every step and every wait, so that several runs can take turns."""
    loop = Loop(session, folder, callbacks, commands or Commands())
    with folder.writing():
        loop.begin()
        while loop.verdict is None and session.state.step < session.config.steps:
            loop.obey()
            if loop.stopped:
                break
            loop.step_or_wait()
            before = session.prior.calls
            yield
            loop.calls_of_others += session.prior.calls - before  # a prior may serve several runs
        return loop.end()


@dataclass
class Loop:
    """State of a running run: its session, folder, callbacks and commands."""

    session: Session
    folder: RunDir
    callbacks: Sequence[Callback]
    commands: Commands
    monitor: DivergenceMonitor = field(default_factory=DivergenceMonitor)
    granted: float = inf  # steps until a pause
    stopped: bool = False
    verdict: Verdict | None = None
    calls_of_others: int = 0  # images that the prior was asked about before, and between the steps

    def tell(self, event: Event) -> None:
        """Write an event to the log and give it to every callback."""
        self.folder.record(event)
        for callback in self.callbacks:
            callback(event)

    def begin(self) -> None:
        """Report that the run continues from a checkpoint, and with which settings other than that one's."""
        session = self.session
        self.calls_of_others = session.prior.calls
        saved = session.resumed_from
        if session.state.step or saved:
            self.tell(Resumed(session.state.step))
        if saved is None or saved.path.parent.parent.resolve() != self.folder.path.resolve():
            return
        now, before = to_plain(session.config), saved.note.settings
        if now != before:
            session.resumed_from = saved.amended(now)  # or a process that is killed now would go on as before
            for change in differences(before or now, now):
                self.tell(Applied(session.state.step, change))
        self.note_steering()

    def obey(self) -> None:
        """Apply what was asked since the last step, in order, up to the command to stop."""
        state = self.session.state
        for command in self.commands.take(state.step + state.refused):
            try:
                self.apply(command)
            except UserError as e:
                self.tell(Refused(state.step, command, str(e)))
                continue
            self.tell(Applied(state.step, command))
            if isinstance(command, SetField | Choose | Densify | Prune):
                self.note_steering()

    def apply(self, command: Command) -> None:
        """Apply one command; UserError where it cannot be done."""
        match command:
            case Stop():
                self.stopped = True
            case Save():
                self.save()
            case Pause():
                self.granted = 0
            case Once():
                self.granted = 1
            case Continue():
                self.granted = inf
            case _:
                steer(self.session, command)

    def step_or_wait(self) -> None:
        """Make a step with its event, preview and checkpoint; while the run is paused, wait a moment instead."""
        session = self.session
        if self.granted < 1:
            self.tell(Paused(session.state.step))
            self.commands.wait(PAUSE)
            return
        self.granted -= 1
        if (phase := session.enter_phase()) is not None:
            self.tell(PhaseBegun(session.state.step, phase))
        self.verdict = self.step()
        step, c = session.state.step, session.config
        if self.verdict is not None or session.last is None or not session.last.taken or step >= c.steps:
            return
        if c.preview_every and step % c.preview_every == 0:
            self.preview()
        if c.checkpoint_every and step % c.checkpoint_every == 0:
            self.save()

    def step(self) -> Verdict | None:
        """Make a step and tell it; the verdict if the run is going wrong."""
        session, monitor = self.session, self.monitor
        try:
            done = session.step()
        except (RuntimeError, MemoryError) as e:
            if not out_of_memory(e):
                raise
            return "oom"
        self.tell(done)
        assert session.last is not None
        verdict = monitor.step(session.last.taken)
        if verdict is None and session.last.taken and done.step % monitor.limits.every == 0:
            verdict = monitor.look(session.gaussians(session.last.particle), done.coverage, session.last.particle)
        return verdict

    def sign(self) -> Verdict | None:
        """Return the first sign of divergence that any particle shows now, without patience."""
        session = self.session
        for k in range(len(session.state.particles)):
            if (sign := self.monitor.sign(session.gaussians(k), session.coverage(k))) is not None:
                return sign
        return None

    def save(self) -> None:
        """Write a checkpoint, with what a look at it shows. A state that is not finite is of no use and not written."""
        session = self.session
        if not session.state.finite:
            logger.warning("step %d is not saved: its splats have values that are not finite", session.state.step)
            return
        path = self.folder.checkpoint(session.state.step)
        session.state.save(path, session.config, self.sign())
        self.tell(Saved(session.state.step, str(path)))

    def preview(self) -> None:
        """Write a picture of the object and tell it, with the prior's estimate."""
        step, views, x0 = self.session.state.step, self.session.preview().cpu(), self.session.estimate()
        write_png(self.folder.preview(step), contact_sheet(views, columns=4))
        self.tell(Preview(step, views, None if x0 is None else x0.cpu()))

    def note_steering(self) -> None:
        """Write the changed settings into config.yaml. A log that cannot be read is no reason to end the run."""
        try:
            self.folder.note_steering()
        except UserError as e:
            logger.warning("%s does not say what was changed: %s", self.folder.config, e)

    def end(self) -> Result:
        """Judge a run that has done its steps, save it, write its files and report the end. RunEnded for a verdict, whose event
        is told even if nothing else can be written.
        """
        session, state = self.session, self.session.state
        if self.verdict is None and not self.stopped:
            self.verdict = self.sign()
        if self.verdict is None:
            self.save()
            files: Artefacts | None = self.write()
            how, message = ("stopped", f"stopped at step {state.step} of {session.config.steps}") if self.stopped else ("done", "all steps done")
        else:
            how, message = self.verdict, explanation(self.verdict, session.config)
            files = None
            for attempt in (self.save, self.write):
                try:
                    files = attempt() or files
                except Exception as e:  # of whatever kind: it must not hide the verdict
                    logger.warning("after the verdict %s, not all could be written: %s", self.verdict, e)
        scenes = [session.gaussians(k) for k in range(len(state.particles))]
        cost = session.prior.calls - self.calls_of_others, peak_memory(session.prior.device)
        ended = Ended(state.step, how, message, scenes[0], tuple(scenes[1:]), *cost)
        self.tell(ended)
        if self.verdict is not None:
            good = self.folder.good_checkpoint()
            where = f"Its last good state is in {good}" if good else "No good state of it was saved; --checkpoint-every N saves some on the way"
            raise RunEnded(f"the run went wrong at step {state.step} ({self.verdict}): {message}.\n{where}")
        return ended, files

    def write(self) -> Artefacts:
        """Write the splats, the turntable and the sheet of every particle."""
        session = self.session
        first, *others = (
            finish(self.folder, session.gaussians(k), session.rasterizer, comments(session), particle=k)
            for k in range(len(session.state.particles))
        )
        return replace(first, others=tuple(others))
