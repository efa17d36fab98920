"""A run, watched and steered from a browser.

The run calls `RunPage` with its events, on its own thread. There, within a share of the wall-clock time, a frame is made of
what the pages want: splats, exact pictures, curves. It goes through a single slot to a thread of the viewer, which sends
it; whatever that costs is charged to the same share. Without a page only the curves and the keyframes of the film are
kept. Everything that computes with the run does it on the run's thread, between steps or while it waits; what a person
asks for comes back as Commands. No error of the viewer reaches the run.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import viser

from splatdistill.gaussians import Gaussians
from splatdistill.shell import as_typed
from splatdistill.train.commands import Commands, Save
from splatdistill.train.events import Applied, Ended, Event, Paused, PhaseBegun, Refused, Saved, StepDone
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill_viewer.browsers import Browser, ExactPicture
from splatdistill_viewer.budget import LEAST, SHARE, SHARE_ALONE, Budget
from splatdistill_viewer.cameras import Frustum, frustums
from splatdistill_viewer.curves import Curves
from splatdistill_viewer.display import Display
from splatdistill_viewer.export_tab import ExportTab
from splatdistill_viewer.history import History
from splatdistill_viewer.page_base import Page
from splatdistill_viewer.pictures import MOVING, TALL, TALL_WAITING, Kernels, Wants, picture, wants
from splatdistill_viewer.prior_panel import PriorPanel, figures, prompted_by
from splatdistill_viewer.record import Recording, settings, write_html
from splatdistill_viewer.server import Server
from splatdistill_viewer.snapshot import Slot, Snapshot, adjusted, snapshot
from splatdistill_viewer.splats import show
from splatdistill_viewer.status import RunButtons, Status
from splatdistill_viewer.steering import Recipe, Steering, Words, any_words, as_published
from splatdistill_viewer.tiles import ObjectRow
from splatdistill_viewer.work_queue import CommandQueue

SLOW = 1.0  # seconds between drawings of curves and of the prior's panel


@dataclass
class Frame:
    """Contents of the pages for the next update; None leaves a part unchanged."""

    status: tuple[Any, ...]
    free: bool = False  # made while the run waits: what it costs is not the run's
    splats: list[tuple[Browser, Snapshot]] = field(default_factory=list)
    views: list[ExactPicture] = field(default_factory=list)
    frustums: list[Frustum] = field(default_factory=list)
    wants: Wants | None = None
    curves: bool = False


class RunPage(Page):
    """Viewer of one run: give it to `splatdistill.train.loop.run` as a callback."""

    def __init__(
        self,
        session: Session,
        folder: RunDir,
        commands: Commands,
        port: int = 8080,
        report: Callable[[str], None] = print,
        recipe: Recipe = as_published,
        words: Words = any_words,
        server: Server | None = None,
        hosts: Sequence[str] = (),
    ) -> None:
        assert session.state is not None
        super().__init__("splatdistill", port, report, folder.path / "viewer-error.txt", server, hosts)
        self.session, self.folder, self.commands, self.queue = session, folder, commands, CommandQueue(commands.put)
        self.history, self.recording = History(), Recording(session.config.steps)
        self.share, self.alone = Budget(SHARE, LEAST), Budget(SHARE_ALONE)
        self.made_by = session.config  # the settings of the last step: what is asked for later has not been at work yet
        self.slot: Slot[Frame] = Slot()
        self.state, self.slow = "running", 0.0
        self.newest = snapshot(session.gaussians(), session.state.step)  # for whoever comes while no frame is made
        self.saved = -1  # the step of the last checkpoint
        self.sent = 0  # frames
        self.build(recipe, words)
        self.guard.on_off.append(self.close)
        self.open()
        self.sender = threading.Thread(target=self.send, name="splatdistill-viewer", daemon=True)
        self.sender.start()

    def build(self, recipe: Recipe, words: Words) -> None:
        """Add the controls that all pages share."""
        gui, s, folder = self.server.gui, self.session, self.folder
        assert s.state is not None
        self.status = Status(gui, s.config.prompt)
        self.buttons = RunButtons(gui, self.queue.put)
        tabs = gui.add_tab_group()
        self.view = tabs.add_tab("Watch")
        with self.view:
            self.curves = Curves(gui)
        with tabs.add_tab("Steer"):
            self.steering = Steering(gui, s.config, self.queue.put, recipe, words)
        with tabs.add_tab("Keep"):
            self.exports = ExportTab(self, s, folder, self.queue.put, self.write_replay)
        assert s.rasterizer is not None
        self.kernels = Kernels(s.rasterizer, self.guard)

    def furnish(self, client: viser.ClientHandle) -> Browser:
        """Add a page's display controls, splats, and panel of the prior."""
        assert self.session.state is not None
        with self.view:
            display = Display(client, len(self.session.state.particles), cameras=True, steered=True)
        row = ObjectRow([show(client.scene, "/splats", self.newest)], [(0.0, 0.0, 0.0)])
        return Browser(client, display, row, panel=PriorPanel(client.gui, prompted_by(self.session.picture)))

    # what the run calls ------------------------------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        """Handle an event of the run, on its thread."""
        self.guard(self.receive, event)

    def receive(self, event: Event) -> None:
        """Record an event, and update the pages within the viewer's share of the time."""
        if isinstance(event, Applied | Refused):
            self.queue.done(event.command)
        match event:
            case StepDone():
                self.state, self.made_by = "running", self.session.config
                self.buttons.follow("running")
                last = self.session.last
                self.history.add(event, float(last.distilled.grad.std()) if last is not None else float("nan"))
                self.tick()
            case Paused():
                self.state = "paused"
                self.buttons.follow("paused")
                self.tick(waiting=True)
            case Applied():
                self.steering.applied(event.command, self.session.config)
                if isinstance(event.command, Save) and self.saved != event.step:
                    self.exports.say(f"no checkpoint of step {event.step}: its splats have values that are not finite")
            case PhaseBegun():
                self.steering.phase_begun(self.session.config)
                self.browsers.tell("Phase", event.phase)
            case Refused():
                self.steering.refused(event.command, self.session.config, event.message)
                self.browsers.tell("Refused", event.message)
            case Saved():
                self.saved = event.step
                self.exports.say(f"checkpoint of step {event.step} saved: {event.path}")
            case Ended():
                self.state = event.how
                self.record(always=True)
                self.buttons.follow(event.how)
                again = as_typed("splatdistill", "train", "--refine", self.folder.path)
                self.steering.end(f"The run has ended: {event.message}. To go on at a higher setting: {again}")
                self.exports.end()

    def tick(self, waiting: bool = False) -> None:
        """Serve requests and update the pages where due. waiting: the run is paused, and the viewer may use all the time."""
        self.steering.pending.flush()
        self.work()
        if self.recording.due(self.step) and (waiting or self.alone.due()):
            with self.alone.spend():
                self.record()
        if not self.browsers.any or self.slot.full:
            return
        if waiting:
            self.slot.put(self.frame(waiting))
        elif self.share.due():
            with self.share.spend():
                self.slot.put(self.frame(waiting))

    def record(self, always: bool = False) -> None:
        """Append a keyframe to the film."""
        if always or self.recording.due(self.step):
            self.recording.add(snapshot(self.session.gaussians(), self.step), settings(self.made_by))

    @property
    def step(self) -> int:
        """Return the number of steps done."""
        assert self.session.state is not None
        return self.session.state.step

    # on the run's thread: a frame -------------------------------------------------------------------------------

    @torch.no_grad()
    def frame(self, waiting: bool) -> Frame:
        """Return the parts of the pages that changed since the last frame."""
        s = self.session
        f = Frame((s.config, self.step, len(s.gaussians()), self.history.speed(), self.state), waiting)
        made: dict[Any, Snapshot] = {}
        for b in self.browsers.all():
            g, d = s.gaussians(b.display.shown), b.display
            key = self.step, len(g), d.key
            if d.exact is not None and self.kernels.there(g, d.style):
                if waiting or not f.views:  # one at a time, each in its turn
                    f.views += self.view_of(b, g, (*key, d.style), TALL_WAITING if waiting else TALL)
            elif b.shown != [key] or (d.exact is None and (b.has is not None or b.behind != d.background)):
                if key not in made:
                    made[key] = snapshot(adjusted(g, d.size.value, d.cutoff.value), self.step)
                f.splats.append((b, made[key]))
                b.shown, self.newest = [key], made[key]
        now = self.share.clock()
        if s.last is not None and now - self.slow > SLOW:
            self.slow = now
            self.history.look(self.step, self.terms())
            f.curves = True
            if any(b.panel is not None and b.panel.on.value for b in self.browsers.all()):
                f.wants = wants(s.last, s.prior)
        f.frustums = [] if s.last is None else frustums(s.last.out.cameras)
        self.browsers.move_on()
        return f

    def view_of(self, b: Browser, g: Gaussians, key: Any, tall: int) -> Iterator[ExactPicture]:
        """Yield the exact picture that a browser lacks."""
        assert self.session.rasterizer is not None
        if (wanted := b.wants(key, tall, MOVING)) is not None:
            d, (cameras, what) = b.display, wanted
            looked = adjusted(g, d.size.value, d.cutoff.value)
            yield ExactPicture(b.client.client_id, what, picture(looked, cameras, self.session.rasterizer, d.style))

    def terms(self) -> dict[str, float]:
        """Return the term of each regulariser at the last step's view."""
        last = self.session.last
        assert last is not None
        terms = self.session.config.regularise.terms(last.out, self.session.gaussians(last.particle), last.view.progress)
        return {name: float(term) for name, term in terms.items()}

    # on the viewer's thread: sending ----------------------------------------------------------------------------

    def send(self) -> None:
        """Draw the frames in the slot until the page is closed."""
        while not self.closed and not self.guard.off:
            frame = self.slot.take(0.5)
            if frame is not None:
                began = time.thread_time()
                self.guard(self.draw, frame)
                self.sent += 1
                if not frame.free:
                    self.share.charge(time.thread_time() - began)

    def draw(self, f: Frame) -> None:
        """Draw one frame on all pages."""
        with self.server.atomic():
            self.status.update(*f.status)
            if f.curves:
                self.curves.update(self.history)
        for b, splats in f.splats:
            b.draw_splats({0: splats})
        self.browsers.draw(f.views)
        html = "" if f.wants is None else figures(f.wants)
        for b in self.browsers.all():
            b.draw_cameras(f.frustums)
            if html and b.panel is not None:
                b.panel.update(html)

    # the end ------------------------------------------------------------------------------------------------------

    def replay(self) -> None:
        """Write the film of the run up to now."""
        self.guard(lambda: self.write_replay() and None)

    def write_replay(self) -> Path:
        """Write replay.html into the run's folder and return its path."""
        self.record(always=True)
        path = write_html(self.folder.path / "replay.html", self.recording.frames)
        self.browsers.tell("Replay written", str(path))
        return path

    def hold(self) -> None:
        """Serve the page until Ctrl-C or an error of the viewer."""
        self.serve(lambda: self.tick(True))
