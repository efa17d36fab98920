"""Variants of one prompt as a grid in one page, and the choice of the one to go on with."""

from collections.abc import Callable, Sequence

import torch
import viser

from splatdistill.train.events import Applied, Callback, Command, Ended, Event, Paused, Refused, StepDone, Stop
from splatdistill.train.variants import Variant
from splatdistill_viewer.browsers import Browsers, View
from splatdistill_viewer.budget import Budget
from splatdistill_viewer.live import LEAST, MOVING, SHARE, TALL, TALL_WAITING
from splatdistill_viewer.page import Guard, lay_out, open_server, show, update
from splatdistill_viewer.serving import Serving
from splatdistill_viewer.snapshot import adjusted, snapshot
from splatdistill_viewer.steering import Recipe, Steering, Words, any_words, as_published, run_buttons
from splatdistill_viewer.tiles import Row, places, stand, tiled
from splatdistill_viewer.watching import Display, escape

APART = 1.9  # world units between two objects


class Choosing(Serving):
    """The page of several runs that take turns: what is steered is steered in all, one can be chosen."""

    def __init__(
        self,
        runs: Sequence[Variant],
        port: int = 8080,
        report: Callable[[str], None] = print,
        recipe: Recipe = as_published,
        words: Words = any_words,
    ) -> None:
        self.runs, self.chosen = list(runs), None
        self.guard = Guard(report, runs[0].folder.path.parent / "viewer-error.txt")
        self.server = open_server(port, "splatdistill")
        self.server.initial_camera.position = stand(len(runs), APART)
        self.browsers = Browsers(self.server, self.guard)
        self.share, self.states = Budget(SHARE, LEAST), ["waiting"] * len(self.runs)
        self.shown: list[object] = [None] * len(self.runs)
        self.turn = 0
        self.build(recipe, words)
        self.guard.on_off.append(self.close)

    def build(self, recipe: Recipe, words: Words) -> None:
        """The page."""
        gui, config = self.server.gui, self.runs[0].session.config
        gui.add_markdown(f"**{escape(config.prompt)}**: {len(self.runs)} variants")
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
        """Ask all for something."""
        for r in self.runs:
            r.commands.put(command)

    def choose(self, k: int) -> None:
        """This one; the others need not go on. One that went wrong cannot be chosen."""
        if self.runs[k].wrong is not None:
            self.browsers.tell("That one went wrong", str(self.runs[k].wrong))
            return
        self.chosen = k
        for other in self.runs:
            if other is not self.runs[k]:
                other.commands.put(Stop())
        self.browsers.tell(f"Seed {self.runs[k].session.config.seed}", "It is refined when its own steps are done.")

    def callback(self, k: int) -> Callback:
        """What one of the runs calls."""
        return lambda event: self.guard(self.receive, k, event)

    def receive(self, k: int, event: Event) -> None:
        """Take note, and use the time if there is some."""
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
        """Whatever is due."""
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
        """What has changed since the last time; of the splats one variant's, each in its turn, unless there is time."""
        d = self.display
        for note, state in zip(self.notes, self.states):
            if note.content != state:
                note.content = state
        total = sum(r.session.config.steps for r in self.runs)
        self.bar.value = 100.0 * sum(r.session.state.step for r in self.runs) / total
        if d.turntable.value:
            self.browsers.turn()
        if d.exact is not None:
            self.draw_exact(waiting)
            return
        self.row.face(self.browsers.azimuth())
        self.turn += 1
        for k in range(len(self.runs)) if waiting else (self.turn % len(self.runs),):
            s = self.runs[k].session
            if (key := (s.state.step, d.key)) != self.shown[k]:
                update(self.handles[k], snapshot(adjusted(s.gaussians(), d.size.value, d.cutoff.value), s.state.step))
                self.handles[k].visible, self.shown[k] = True, key
        self.browsers.clear()

    def draw_exact(self, waiting: bool) -> None:
        """Exact pictures in tiles, all from one camera."""
        d, key = self.display, (self.display.key, *(r.session.state.step for r in self.runs))
        for k, handle in enumerate(self.handles):
            if handle.visible:
                handle.visible, self.shown[k] = False, None
        looked = [(name(r), adjusted(r.session.gaussians(), d.size.value, d.cutoff.value)) for r in self.runs]
        for who, _, what in self.browsers.wanting(key, TALL_WAITING if waiting else TALL, MOVING):
            image = tiled(looked, what[1], what[2], self.runs[0].session.rasterizer, d.exact)  # type: ignore[arg-type]
            self.browsers.draw([View(who, what, image)])
            if not waiting:
                break  # one at a time

    def hold(self) -> None:
        """Keep the page until one is chosen, Ctrl-C, or an error of the viewer."""
        self.serve(lambda: self.tick(True), lambda: self.chosen is None)

    def hand_over(self) -> viser.ViserServer:
        """The server, its page cleared for a run's own viewer."""
        self.closed = True
        self.browsers.clear()
        lay_out(self.server)
        return self.server


def name(run: Variant) -> str:
    """What a variant is called on the page."""
    return f"seed {run.session.config.seed}"
