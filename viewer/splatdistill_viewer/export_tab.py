"""The tab that exports: files of the splats in several formats, the film of the run, checkpoints."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.train.commands import Command, Save
from splatdistill.train.loop import comments
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill_viewer.display import small
from splatdistill_viewer.exports import FORMATS, SIZES, ExportRequest, Format, write
from splatdistill_viewer.page_base import Page
from splatdistill_viewer.pictures import Style
from splatdistill_viewer.work_queue import WorkQueue

TELL = 0.5  # seconds between two words on how far a file is


class ExportTab:
    """Controls of file export, and the thread that writes. Files go into the run's exports/ and to the browser that asked; the
    run continues, since a copy of its splats is written.

    put: takes the run's commands. replay: writes the film of the run, and returns its path.
    """

    def __init__(self, page: Page, session: Session, folder: RunDir, put: Callable[[Command], None], replay: Callable[[], Path]) -> None:
        self.page, self.session, self.folder = page, session, folder.path / "exports"
        self.waiting, self.told = WorkQueue(), 0.0
        gui = page.server.gui
        labels = tuple(FORMATS.values())
        self.format = gui.add_dropdown("format", labels, initial_value=labels[0])
        self.size = gui.add_dropdown("size, pixels", SIZES, initial_value="512", visible=False, hint="Height of a picture, side of a film")
        self.clear = gui.add_checkbox("transparent", False, visible=False, hint="In place of the page's background")
        export = gui.add_button("Export")
        self.film = gui.add_button("Film of the run (replay.html)", hint="The whole run in one file that opens anywhere")
        self.checkpoint = gui.add_button("Save a checkpoint", hint="Into the run's folder; --resume goes on from it", color="gray")
        self.state = gui.add_html(small("Files go to this browser and to exports/ in the run's folder."))
        self.format.on_update(lambda _: self.follow())
        export.on_click(lambda event: self.ask(event.client_id))
        self.film.on_click(lambda event: self.ask_film(replay, event.client_id))
        self.checkpoint.on_click(lambda _: put(Save()))
        self.thread = threading.Thread(target=self.serve, name="splatdistill-viewer-export", daemon=True)
        self.thread.start()

    @property
    def kind(self) -> Format:
        """Return the chosen format."""
        return next(kind for kind, label in FORMATS.items() if label == self.format.value)

    def follow(self) -> None:
        """Show the controls of the chosen format."""
        self.size.visible = self.kind in ("png", "mp4")
        self.clear.visible = self.kind == "png"

    def say(self, words: str) -> None:
        """Show a line of status in the tab."""
        self.state.content = small(words)

    def end(self) -> None:
        """Disable the button for checkpoints: the run has ended and saved one."""
        self.checkpoint.disabled = True

    def ask(self, who: int | None) -> None:
        """Queue an export: the splats are copied on the run's thread and written on the tab's own."""
        if self.page.asked.put(("export", self.kind, who), lambda: self.order(who)):
            self.say(f"preparing {self.kind} …")

    def ask_film(self, replay: Callable[[], Path], who: int | None) -> None:
        """Queue the film of the run: it is written on the run's thread, then sent."""
        self.page.asked.put(("film", who), lambda: self.deliver(replay(), who))

    def order(self, who: int | None) -> None:
        """Copy the splats, with the settings of the page that asks, and queue their writing."""
        kind = self.kind
        browser = self.page.browsers.there.get(-1 if who is None else who)
        shown, style, scale, cutoff = 0, Style(), 1.0, 0.0
        if browser is not None:
            d = browser.display
            shown, style, scale, cutoff = d.shown, d.style, d.size.value, d.cutoff.value
        if kind == "png" and self.clear.value:
            style = replace(style, background="transparent")
        g = self.session.gaussians(shown)
        copy = Gaussians(*(t.clone() for t in (g.means, g.quats, g.scales, g.opacities, g.sh)))
        wanted = ExportRequest(kind, copy, style, self.page.browsers.pose(who), int(self.size.value), scale, cutoff)
        path = self.name(kind, shown)
        self.waiting.put(path, lambda: self.write(wanted, path, who))

    def name(self, suffix: str, particle: int) -> Path:
        """Return the path of a file, named by its step, and by the particle unless it is the first."""
        assert self.session.state is not None
        return self.folder / f"step-{self.session.state.step:06d}{f'-{particle + 1}' if particle else ''}.{suffix}"

    def write(self, wanted: ExportRequest, path: Path, who: int | None) -> None:
        """Write a file and send it to the browser."""
        assert self.session.rasterizer is not None
        self.say(f"writing {path.name} …")
        try:
            write(wanted, path, self.session.rasterizer, comments(self.session), lambda share: self.progress(path, share))
        except UserError as e:
            self.say(f"{path.name} was not written: {e}")
            self.page.browsers.tell("That did not work", str(e))
            return
        self.deliver(path, who)

    def progress(self, path: Path, share: str) -> None:
        """Show the progress of a file, at most once in `TELL` seconds."""
        if time.monotonic() - self.told > TELL:
            self.told = time.monotonic()
            self.say(f"writing {path.name}: {share}")

    def deliver(self, path: Path, who: int | None) -> None:
        """Send a file to the browser and show its path."""
        content = path.read_bytes()
        self.say(f"wrote {path} ({len(content) / 1e6:.2g} MB)")
        self.page.browsers.send(who, path.name, content)

    def serve(self) -> None:
        """Write queued files until the page is closed."""
        while not self.page.closed and not self.page.guard.off:
            if (do := self.waiting.take()) is None:
                time.sleep(0.05)
            else:
                self.page.guard(do)
