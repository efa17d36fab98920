"""Prompts of an amortised training as a grid in one page, made anew as its network learns."""

from collections.abc import Callable
from typing import Any

import torch
import viser

from splatdistill.errors import UserError
from splatdistill.io.text import printable
from splatdistill.train.amortised.corpus import LONGEST, sample
from splatdistill.train.amortised.session import AmortisedSession
from splatdistill.train.commands import Commands
from splatdistill.train.run import RunDir
from splatdistill_viewer.browsers import Browser, ExactPicture
from splatdistill_viewer.budget import LEAST, SHARE, Budget
from splatdistill_viewer.display import RED, Display, small
from splatdistill_viewer.history import Pace
from splatdistill_viewer.page_base import Page
from splatdistill_viewer.pictures import MOVING, TALL, TALL_WAITING, Kernels
from splatdistill_viewer.snapshot import Snapshot, adjusted, snapshot
from splatdistill_viewer.splats import show
from splatdistill_viewer.status import BUTTONS, RunButtons, Status, remaining
from splatdistill_viewer.steering import Words, any_words
from splatdistill_viewer.tiles import APART, NAMED, ObjectRow, places, stand, tiled
from splatdistill_viewer.work_queue import CommandQueue

SHOWN = 9  # prompts of the grid, spread over the corpus


class CorpusPage(Page):
    """Page of an amortised training: some prompts in a grid, all from one camera, and a field for any other."""

    def __init__(
        self,
        session: AmortisedSession,
        folder: RunDir,
        commands: Commands,
        port: int = 8080,
        report: Callable[[str], None] = print,
        words: Words = any_words,
        hosts: tuple[str, ...] = (),
    ) -> None:
        super().__init__("splatdistill amortise", port, report, folder.path / "viewer-error.txt", hosts=hosts)
        self.session, self.refuse = session, words
        self.queue = CommandQueue(commands.put)
        self.prompts = sample(session.corpus, SHOWN)
        self.spots = places(len(self.prompts), APART)
        self.server.initial_camera.position = stand(len(self.prompts), APART)
        self.share, self.pace, self.state, self.turn = Budget(SHARE, LEAST), Pace(), "running", 0
        self.kernels = Kernels(session.rasterizer, self.guard)
        self.newest = [snapshot(session.generate(p)) for p in self.prompts]  # for whoever comes while nothing is drawn
        self.build()
        self.guard.on_off.append(self.close)
        self.open()

    def build(self) -> None:
        """Add the controls that all pages share."""
        gui = self.server.gui
        self.status = Status(gui, self.title)
        self.buttons = RunButtons(gui, self.queue.put)
        with gui.add_folder("try a prompt"):
            self.words = gui.add_text("prompt", "", hint="Any prompt that the prior knows, of the corpus or not")
            self.reason = gui.add_html("", visible=False)
            button = gui.add_button("Show", hint="In the place of the last one of the grid")
            button.on_click(lambda _: self.ask())

    def ask(self) -> None:
        """Queue the prompt of the field on the thread that trains."""
        self.asked.put("prompt", lambda: self.change(str(self.words.value)))

    @property
    def title(self) -> str:
        """Return the number of prompts, which is the page's title."""
        return f"{len(self.session.corpus)} prompts"

    def furnish(self, client: viser.ClientHandle) -> Browser:
        """Add a page's display controls, and the objects with their prompts."""
        display = Display(client, steered=True)
        handles = [show(client.scene, f"/prompt-{k}", s, at=at) for k, (s, at) in enumerate(zip(self.newest, self.spots))]
        for k in range(len(self.prompts)):
            self.name(client, k)
        return Browser(client, display, ObjectRow(handles, self.spots))

    def name(self, client: viser.ClientHandle, k: int) -> None:
        """Write a prompt above its object."""
        client.scene.add_label(f"/prompt-{k}/name", printable(self.prompts[k]), position=NAMED, anchor="bottom-center")

    def change(self, prompt: str) -> None:
        """Show another prompt in the place of the last one; a refused one stays in its field, with the reason."""
        prompt = " ".join(prompt.split())
        try:
            if not prompt or len(prompt) > LONGEST:
                raise UserError(f"a prompt has 1 to {LONGEST} characters")
            self.refuse(prompt, "")
        except UserError as e:
            self.reason.content, self.reason.visible = small(str(e), RED), True
            return
        self.reason.visible = False
        self.prompts[-1] = prompt
        for b in self.browsers.all():
            self.name(b.client, len(self.prompts) - 1)

    def stepped(self, step: int) -> None:
        """Record a step, and update the pages within the viewer's share of the time."""
        self.guard(self._stepped)

    def _stepped(self) -> None:
        self.state = "running"
        self.pace.step()
        self.tick()

    def waits(self) -> None:
        """Serve the pages of a training that is paused."""
        self.guard(self._waits)

    def _waits(self) -> None:
        self.state = "paused"
        self.pace.wait()
        self.tick(waiting=True)

    def hold(self, how: str) -> None:
        """Serve the page until Ctrl-C, or an error of the viewer. how: "done" or "stopped"."""
        self.state = how
        self.serve(lambda: self.tick(waiting=True))

    def tick(self, waiting: bool = False) -> None:
        """Serve requests and update the pages where due."""
        self.work()
        self.buttons.follow(self.state)
        if not self.browsers.any:
            return
        if waiting:  # what it costs is not the training's
            self.draw(waiting)
        elif self.share.due():
            with self.share.spend():
                self.draw(waiting)

    @torch.no_grad()
    def draw(self, waiting: bool) -> None:
        """Draw the changed parts. Of the splats one prompt is generated a call, in turn, unless the training waits."""
        s, c = self.session, self.session.config
        left = remaining(c.steps - s.steps, self.pace.speed()) if self.state in BUTTONS else ""
        facts = " · ".join(filter(None, (f"step {s.steps} of {c.steps}", left)))
        self.status.show(self.title, self.state, facts, s.steps / max(c.steps, 1), left)
        self.browsers.move_on()
        self.turn += 1
        now = range(len(self.prompts)) if waiting else (self.turn % len(self.prompts),)
        made: dict[Any, Snapshot] = {}
        pictures = 0
        for b in self.browsers.all():
            b.row.face(b.azimuth())
            if b.display.exact is not None and self.kernels.there(s.generate(self.prompts[0]), b.display.style):
                if waiting or not pictures:  # one at a time
                    pictures += self.draw_exact(b, waiting)
                continue
            b.shown = b.shown or [None] * len(self.prompts)
            self.draw_splats(b, now, made)

    def draw_splats(self, b: Browser, which: Any, made: dict[Any, Snapshot]) -> None:
        """Draw some of the objects in a browser's own view. made: snapshots that another browser needed as well."""
        d, changed = b.display, {}
        for k in which:
            key = self.prompts[k], self.session.steps, d.key
            if key == b.shown[k]:
                continue
            if key not in made:
                g = self.session.generate(self.prompts[k])
                made[key] = self.newest[k] = snapshot(adjusted(g, d.size.value, d.cutoff.value), self.session.steps)
            changed[k], b.shown[k] = made[key], key
        if changed or (d.exact is None and (b.has is not None or b.behind != d.background)):
            b.draw_splats(changed)

    def draw_exact(self, b: Browser, waiting: bool) -> bool:
        """Draw exact pictures in tiles, all from one camera, if a browser lacks them; return whether it did."""
        d = b.display
        key = (d.key, d.style, self.session.steps, tuple(self.prompts))
        if (wanted := b.wants(key, TALL_WAITING if waiting else TALL, MOVING)) is None:
            return False
        looked = [(p, adjusted(self.session.generate(p), d.size.value, d.cutoff.value)) for p in self.prompts]
        what = wanted[1]
        self.browsers.draw([ExactPicture(b.client.client_id, what, tiled(looked, what[1], what[2], self.session.rasterizer, d.style))])
        return True
