"""Variants of one prompt as a grid in one page, and the choice of the one to go on with."""

from collections.abc import Callable, Sequence

import torch

from splatdistill.io.text import escape
from splatdistill.train.events import Applied, Callback, Command, Ended, Event, Paused, Refused, StepDone, Stop
from splatdistill.train.variants import Variant
from splatdistill_viewer.browsers import View
from splatdistill_viewer.budget import LEAST, SHARE, Budget
from splatdistill_viewer.display import Display, text
from splatdistill_viewer.page_base import Page
from splatdistill_viewer.pictures import MOVING, TALL, TALL_WAITING, Mode
from splatdistill_viewer.server import Server
from splatdistill_viewer.snapshot import adjusted, snapshot
from splatdistill_viewer.splats import show, update
from splatdistill_viewer.steering import Recipe, Steering, Words, any_words, as_published, run_buttons
from splatdistill_viewer.tiles import Row, places, stand, tiled
from splatdistill_viewer.work_queue import CommandQueue

APART = 1.9  # world units between two objects


class VariantsPage(Page):
    """The page of several runs that take turns: what is steered is steered in all, one can be chosen."""

    def __init__(
        self,
        runs: Sequence[Variant],
        port: int = 8080,
        report: Callable[[str], None] = print,
        recipe: Recipe = as_published,
        words: Words = any_words,
        hosts: Sequence[str] = (),
    ) -> None:
        super().__init__("splatdistill", port, report, runs[0].folder.path.parent / "viewer-error.txt", hosts=hosts)
        self.runs, self.queues = list(runs), [CommandQueue(r.commands.put) for r in runs]
        self.chosen: int | None = None
        self.server.initial_camera.position = stand(len(runs), APART)
        self.share, self.states = Budget(SHARE, LEAST), ["waiting"] * len(self.runs)
        self.shown: list[object] = [None] * len(self.runs)
        self.turn = 0
        self.build(recipe, words)
        self.guard.on_off.append(self.close)

    def build(self, recipe: Recipe, words: Words) -> None:
        """Make the page."""
        gui, config = self.server.gui, self.runs[0].session.config
        gui.add_html(text(f"<b>{escape(config.prompt)}</b>: {len(self.runs)} variants"))
        self.bar = gui.add_progress_bar(0.0)
        run_buttons(gui, self.put)
        tabs = gui.add_tab_group()
        with tabs.add_tab("Choose"):
            self.display = Display(gui, 1, cameras=False)
            self.notes = []
            for k, r in enumerate(self.runs):
                with gui.add_folder(name(r)):
                    self.notes.append(gui.add_markdown(""))
                    button = gui.add_button("Refine this one", hint="The others end; this one goes on at a higher setting")
                    button.on_click(lambda _, k=k: self.choose(k))
        with tabs.add_tab("Steer"):
            self.steering = Steering(gui, config, self.put, recipe, words)
        self.handles, spots = [], places(len(self.runs), APART)
        for k, (r, at) in enumerate(zip(self.runs, spots)):
            self.handles.append(show(self.server, f"/variant-{k}", snapshot(r.session.gaussians()), at=at))
            self.server.scene.add_label(f"/variant-{k}/name", name(r), position=(0.0, 0.0, 0.48 * APART))
        self.row = Row(self.handles, spots)

    def put(self, command: Command) -> None:
        """Ask all runs for something."""
        for queue in self.queues:
            queue.put(command)

    def choose(self, k: int) -> None:
        """Go on with this one; the others need not. One that went wrong cannot be chosen."""
        if self.runs[k].wrong is not None:
            self.browsers.tell("That one went wrong", str(self.runs[k].wrong))
            return
        self.chosen = k
        for other in self.runs:
            if other is not self.runs[k]:
                other.commands.put(Stop())
        self.browsers.tell(f"Seed {self.runs[k].session.config.seed}", "It is refined when its own steps are done.")

    def callback(self, k: int) -> Callback:
        """Return what one of the runs calls."""
        return lambda event: self.guard(self.receive, k, event)

    def receive(self, k: int, event: Event) -> None:
        """Take note, and use the time if there is some."""
        if isinstance(event, Applied | Refused):
            self.queues[k].done(event.command)
        match event:
            case StepDone():
                self.states[k] = f"step {event.step} of {event.steps}, {event.gaussians} splats"
                self.tick()
            case Paused():
                self.tick(waiting=True)
            case Ended():
                self.states[k] = f"{event.how} at step {event.step}, {len(event.result)} splats"
                self.tick(waiting=True)
            case Applied() if k == 0:
                self.steering.applied(event.command, self.runs[0].session.config)
            case Refused() if k == 0:
                self.steering.refused(event.command, self.runs[0].session.config)
                self.browsers.tell("Refused", event.message)

    def tick(self, waiting: bool = False) -> None:
        """Do whatever is due."""
        self.steering.pending.flush()
        if not self.browsers.any:
            return
        if waiting:  # what it costs is not the runs'
            self.draw(waiting)
        elif self.share.due():
            with self.share.spend():
                self.draw(waiting)

    @torch.no_grad()
    def draw(self, waiting: bool) -> None:
        """Draw what has changed since the last time; of the splats one variant's, each in its turn, unless there is time."""
        d = self.display
        for note, state in zip(self.notes, self.states):
            if note.content != state:
                note.content = state
        total = sum(r.session.config.steps for r in self.runs)
        self.bar.value = 100.0 * sum(map(done, self.runs)) / total
        if d.turntable.value:
            self.browsers.turn()
        if (mode := d.exact) is not None:
            self.draw_exact(mode, waiting)
            return
        self.row.face(self.browsers.azimuth())
        self.turn += 1
        for k in range(len(self.runs)) if waiting else (self.turn % len(self.runs),):
            s = self.runs[k].session
            if (key := (done(self.runs[k]), d.key)) != self.shown[k]:
                update(self.handles[k], snapshot(adjusted(s.gaussians(), d.size.value, d.cutoff.value), done(self.runs[k])))
                self.handles[k].visible, self.shown[k] = True, key
        self.browsers.clear()

    def draw_exact(self, mode: Mode, waiting: bool) -> None:
        """Draw exact pictures in tiles, all from one camera."""
        d, key = self.display, (self.display.key, *map(done, self.runs))
        for k, handle in enumerate(self.handles):
            if handle.visible:
                handle.visible, self.shown[k] = False, None
        looked = [(name(r), adjusted(r.session.gaussians(), d.size.value, d.cutoff.value)) for r in self.runs]
        rasterizer = self.runs[0].session.rasterizer
        assert rasterizer is not None
        for who, _, what in self.browsers.wanting(key, TALL_WAITING if waiting else TALL, MOVING):
            image = tiled(looked, what[1], what[2], rasterizer, mode)
            self.browsers.draw([View(who, what, image)])
            if not waiting:
                break  # one at a time

    def hold(self) -> None:
        """Keep the page until one is chosen, Ctrl-C, or an error of the viewer."""
        self.serve(lambda: self.tick(True), lambda: self.chosen is None)

    def hand_over(self) -> Server:
        """Give the server away, its page cleared for a run's own viewer."""
        self.closed = True
        self.browsers.clear()
        self.server.lay_out()
        return self.server


def done(run: Variant) -> int:
    """Return how many steps of a variant are done."""
    assert run.session.state is not None
    return run.session.state.step


def name(run: Variant) -> str:
    """Return what a variant is called on the page."""
    return f"seed {run.session.config.seed}"
