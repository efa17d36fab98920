"""Variants of one prompt as a grid in one page, and the choice of the one to go on with."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import viser

from splatdistill.train.commands import Command, Stop
from splatdistill.train.events import Applied, Callback, Ended, Event, Paused, PhaseBegun, Refused, StepDone
from splatdistill.train.variants import Variant
from splatdistill_viewer.browsers import Browser, ExactPicture
from splatdistill_viewer.budget import LEAST, SHARE, Budget
from splatdistill_viewer.display import Display
from splatdistill_viewer.history import Pace
from splatdistill_viewer.page_base import Page
from splatdistill_viewer.pictures import MOVING, TALL, TALL_WAITING, Kernels
from splatdistill_viewer.server import Server
from splatdistill_viewer.snapshot import Snapshot, adjusted, snapshot
from splatdistill_viewer.splats import show
from splatdistill_viewer.status import BUTTONS, RunButtons, Status, remaining
from splatdistill_viewer.steering import Recipe, Steering, Words, any_words, as_published
from splatdistill_viewer.tiles import APART, NAMED, ObjectRow, places, stand, tiled
from splatdistill_viewer.work_queue import CommandQueue


class VariantsPage(Page):
    """Page of several runs that take turns: a change applies to all, and one of them can be chosen."""

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
        self.over: set[int] = set()  # those that have ended
        self.share, self.states = Budget(SHARE, LEAST), ["waiting"] * len(self.runs)
        self.state, self.pace, self.turn = "running", Pace(), 0
        self.spots = places(len(self.runs), APART)
        self.newest = [snapshot(r.session.gaussians()) for r in self.runs]  # for whoever comes while nothing is drawn
        self.build(recipe, words)
        self.guard.on_off.append(self.close)
        self.open()

    def build(self, recipe: Recipe, words: Words) -> None:
        """Add the controls that all pages share."""
        gui, config = self.server.gui, self.runs[0].session.config
        self.status = Status(gui, config.prompt)
        self.buttons = RunButtons(gui, self.put)
        tabs = gui.add_tab_group()
        self.view = tabs.add_tab("Choose")
        with self.view:
            self.notes = []
            for k, r in enumerate(self.runs):
                with gui.add_folder(name(r)):
                    self.notes.append(gui.add_markdown(""))
                    button = gui.add_button("Refine this one", hint="The others end; this one goes on at a higher setting")
                    button.on_click(lambda _, k=k: self.choose(k))
        with tabs.add_tab("Steer"):
            self.steering = Steering(gui, config, self.put, recipe, words)
        rasterizer = self.runs[0].session.rasterizer
        assert rasterizer is not None
        self.rasterizer, self.kernels = rasterizer, Kernels(rasterizer, self.guard)

    def furnish(self, client: viser.ClientHandle) -> Browser:
        """Add a page's display controls, and all variants with their names."""
        with self.view:
            display = Display(client, steered=True)
        handles = [show(client.scene, f"/variant-{k}", s, at=at) for k, (s, at) in enumerate(zip(self.newest, self.spots))]
        for k, r in enumerate(self.runs):
            client.scene.add_label(f"/variant-{k}/name", name(r), position=NAMED, anchor="bottom-center")
        return Browser(client, display, ObjectRow(handles, self.spots))

    def put(self, command: Command) -> None:
        """Put a command into the queues of all runs."""
        for queue in self.queues:
            queue.put(command)

    def choose(self, k: int) -> None:
        """Choose the variant to refine; the others stop. A variant that has failed cannot be chosen."""
        if self.runs[k].wrong is not None:
            self.browsers.tell("That one went wrong", str(self.runs[k].wrong))
            return
        self.chosen = k
        for other in self.runs:
            if other is not self.runs[k]:
                other.commands.put(Stop())
        self.browsers.tell(f"Seed {self.runs[k].session.config.seed}", "It is refined when its own steps are done.")

    def callback(self, k: int) -> Callback:
        """Return the callback of one of the runs."""
        return lambda event: self.guard(self.receive, k, event)

    def receive(self, k: int, event: Event) -> None:
        """Record an event, and update the pages within the viewer's share of the time."""
        if isinstance(event, Applied | Refused):
            self.queues[k].done(event.command)
        match event:
            case StepDone():
                self.states[k], self.state = f"step {event.step} of {event.steps}, {event.gaussians} splats", "running"
                self.pace.step()
                self.tick()
            case Paused():
                self.state = "paused"
                self.pace.wait()
                self.tick(waiting=True)
            case Ended():
                self.states[k] = f"{event.how} at step {event.step}, {len(event.result)} splats"
                self.over.add(k)
                if len(self.over) == len(self.runs):
                    self.state = "done"
                    self.steering.end("All variants have ended. Refine the best one.")
                self.tick(waiting=True)
            case Applied() if k == 0:
                self.steering.applied(event.command, self.runs[0].session.config)
            case PhaseBegun() if k == 0:
                self.steering.phase_begun(self.runs[0].session.config)
            case Refused() if k == 0:
                self.steering.refused(event.command, self.runs[0].session.config, event.message)
                self.browsers.tell("Refused", event.message)

    def tick(self, waiting: bool = False) -> None:
        """Serve requests and update the pages where due."""
        self.steering.pending.flush()
        self.buttons.follow(self.state)
        if not self.browsers.any:
            return
        if waiting:  # what it costs is not the runs'
            self.draw(waiting)
        elif self.share.due():
            with self.share.spend():
                self.draw(waiting)

    @torch.no_grad()
    def draw(self, waiting: bool) -> None:
        """Draw the changed parts. Of the splats one variant is drawn a call, in turn, unless the runs wait."""
        for note, state in zip(self.notes, self.states):
            if note.content != state:
                note.content = state
        self.tell_progress()
        self.browsers.move_on()
        self.turn += 1
        now = range(len(self.runs)) if waiting else (self.turn % len(self.runs),)
        made: dict[Any, Snapshot] = {}
        pictures = 0
        for b in self.browsers.all():
            b.row.face(b.azimuth())
            if b.display.exact is not None and self.kernels.there(self.runs[0].session.gaussians(), b.display.style):
                if waiting or not pictures:  # one at a time
                    pictures += self.draw_exact(b, waiting)
            else:
                self.draw_splats(b, now, made)

    def tell_progress(self) -> None:
        """Show the progress of all variants together."""
        total, made = sum(r.session.config.steps for r in self.runs), sum(map(done, self.runs))
        left = remaining(sum(r.session.config.steps - done(r) for k, r in enumerate(self.runs) if k not in self.over), self.pace.speed())
        left = left if self.state in BUTTONS else ""
        facts = " · ".join(filter(None, (f"{len(self.runs)} variants", f"step {made} of {total}", left)))
        self.status.show(self.runs[0].session.config.prompt, self.state, facts, made / max(total, 1), left)

    def draw_splats(self, b: Browser, which: Iterable[int], made: dict[Any, Snapshot]) -> None:
        """Draw some of the variants in a browser's own view. made: snapshots that another browser needed as well."""
        d, changed = b.display, {}
        b.shown = b.shown or [None] * len(self.runs)
        for k in which:
            key = k, done(self.runs[k]), d.key
            if key != b.shown[k]:
                if key not in made:
                    g = self.runs[k].session.gaussians()
                    made[key] = self.newest[k] = snapshot(adjusted(g, d.size.value, d.cutoff.value), done(self.runs[k]))
                changed[k], b.shown[k] = made[key], key
        if changed or (d.exact is None and (b.has is not None or b.behind != d.background)):
            b.draw_splats(changed)

    def draw_exact(self, b: Browser, waiting: bool) -> bool:
        """Draw exact pictures in tiles, all from one camera, if a browser lacks them; return whether it did."""
        d = b.display
        key = (d.key, d.style, *map(done, self.runs))
        if (wanted := b.wants(key, TALL_WAITING if waiting else TALL, MOVING)) is None:
            return False
        looked = [(name(r), adjusted(r.session.gaussians(), d.size.value, d.cutoff.value)) for r in self.runs]
        what = wanted[1]
        self.browsers.draw([ExactPicture(b.client.client_id, what, tiled(looked, what[1], what[2], self.rasterizer, d.style))])
        return True

    def hold(self) -> None:
        """Serve the page until a variant is chosen, Ctrl-C, or an error of the viewer."""
        self.serve(lambda: self.tick(True), lambda: self.chosen is None)

    def hand_over(self) -> Server:
        """Return the server, its page cleared for a run's own viewer."""
        self.closed = True
        self.browsers.end()
        self.server.lay_out()
        return self.server


def done(run: Variant) -> int:
    """Return the number of steps done of a variant."""
    assert run.session.state is not None
    return run.session.state.step


def name(run: Variant) -> str:
    """Return the name of a variant on the page."""
    return f"seed {run.session.config.seed}"
