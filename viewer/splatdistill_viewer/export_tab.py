"""The tab that exports: checkpoint, splats, a picture, a turntable, the film of the run."""

from collections.abc import Callable
from pathlib import Path

import torch
import viser

from splatdistill.cameras import orbit
from splatdistill.io.images import write_png
from splatdistill.io.ply import write_ply
from splatdistill.io.video import write_mp4
from splatdistill.train.events import Command, Save
from splatdistill.train.loop import comments
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill_viewer.display import Display
from splatdistill_viewer.page_base import Page
from splatdistill_viewer.pictures import picture
from splatdistill_viewer.snapshot import adjusted

FRAMES, SIZE = 72, 256  # of a turntable
TALL = 1024  # pixels of a kept picture's height


class ExportTab:
    """Buttons. What each makes is written into the run's exports/ and sent to the browser that asked.

    put: takes the run's commands. replay: writes the film of the run, and returns its path.
    """

    def __init__(
        self, page: Page, session: Session, folder: RunDir, display: Display, put: Callable[[Command], None], replay: Callable[[], Path]
    ) -> None:
        self.page, self.session, self.display, self.folder = page, session, display, folder.path / "exports"
        gui = page.server.gui
        checkpoint = gui.add_button("Checkpoint", hint="Into the run's folder; --resume goes on from it")
        checkpoint.on_click(lambda _: put(Save()))
        self.offer("Splats (.ply)", lambda who: self.ply(), "All splats as they are, for any viewer")
        self.offer("Picture (.png)", self.png, "What you see, rendered exactly")
        self.offer("Turntable (.mp4)", lambda who: self.mp4(), "Once around")
        self.offer("Replay (.html)", lambda who: replay(), "The whole run as a film in one file that opens anywhere")
        gui.add_markdown("Files are also written to `exports/` in the run's folder.")

    def offer(self, label: str, make: Callable[[int | None], Path], hint: str) -> None:
        """Add a button that makes a file, on the run's thread, for the browser that asks."""
        button = self.page.server.gui.add_button(label, hint=hint)

        @button.on_click
        def _(event: viser.GuiEvent) -> None:
            self.page.asked.put((label, event.client_id), lambda: self.deliver(make, event.client_id))

    def deliver(self, make: Callable[[int | None], Path], who: int | None) -> None:
        """Make a file and send it."""
        path = make(who)
        self.page.browsers.send(who, path.name, path.read_bytes())

    @property
    def particle(self) -> int:
        """Return which particle is shown, from 0."""
        return int(self.display.particle.value) - 1

    def name(self, suffix: str) -> Path:
        """Return a file's path by its step; of another particle than the first also by that."""
        assert self.session.state is not None
        k = self.particle + 1
        return self.folder / f"step-{self.session.state.step:06d}{f'-{k}' if k > 1 else ''}.{suffix}"

    def ply(self) -> Path:
        """Write the splats of the particle that is shown."""
        return write_ply(self.name("ply"), self.session.gaussians(self.particle), comments(self.session)).path

    def png(self, who: int | None) -> Path:
        """Write the view of the browser that asked, exact; from the front if it has gone."""
        s, d, pose = self.session, self.display, self.page.browsers.pose(who)
        cameras = pose.cameras(TALL) if pose else orbit([0.0], 15.0, 2.8, 42.0, TALL)
        g = adjusted(s.gaussians(self.particle), d.size.value, d.cutoff.value)
        assert s.rasterizer is not None
        image = picture(g, cameras, s.rasterizer, d.exact or "rgb")
        path = self.name("png")
        write_png(path, torch.from_numpy(image.copy()).permute(2, 0, 1) / 255)
        return path

    def mp4(self) -> Path:
        """Write a turn around at 15 degrees, on white."""
        k, path = self.particle, self.name("mp4")
        turns = (torch.arange(FRAMES) * (360 / FRAMES)).split(8)
        frames = (f.cpu() for turn in turns for f in self.session.render(orbit(turn, 15.0, 2.8, 42.0, SIZE), particle=k))
        write_mp4(path, frames, fps=24)
        return path
