"""The tab that keeps: checkpoint, splats, a picture, a turntable, the film of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import viser

from splatdistill.cameras import orbit
from splatdistill.io.images import write_png
from splatdistill.io.ply import write_ply
from splatdistill.io.video import write_mp4
from splatdistill.train.events import Save
from splatdistill.train.loop import comments
from splatdistill_viewer.pictures import picture
from splatdistill_viewer.snapshot import adjusted

if TYPE_CHECKING:
    from splatdistill_viewer.live import Live

FRAMES, SIZE = 72, 256  # of a turntable
TALL = 1024  # pixels of a kept picture's height


def buttons(live: Live) -> None:
    """The buttons. What each makes is written into the run's exports/ and sent to the browser that asked."""
    gui = live.server.gui

    def offer(label: str, make: Callable[[Path, int | None], Path], hint: str) -> None:
        button = gui.add_button(label, hint=hint)

        @button.on_click
        def _(event: viser.GuiEvent) -> None:
            live.asked.put(lambda: deliver(live, make, event.client_id))

    checkpoint = gui.add_button("Checkpoint", hint="Into the run's folder; --resume goes on from it")
    checkpoint.on_click(lambda _: live.commands.put(Save()))
    offer("Splats (.ply)", lambda folder, who: export_ply(live, folder), "All splats as they are, for any viewer")
    offer("Picture (.png)", lambda folder, who: export_png(live, folder, who), "What you see, rendered exactly")
    offer("Turntable (.mp4)", lambda folder, who: export_mp4(live, folder), "Once around")
    offer("Replay (.html)", lambda folder, who: export_replay(live), "The whole run as a film in one file that opens anywhere")
    gui.add_markdown("Files are also written to `exports/` in the run's folder.")


def deliver(live: Live, make: Callable[[Path, int | None], Path], who: int | None) -> None:
    """Make a file and send it."""
    path = make(live.folder.path / "exports", who)
    live.browsers.send(who, path.name, path.read_bytes())


def name(live: Live, suffix: str) -> str:
    """A file's name by its step; of another particle than the first also by that."""
    k = int(live.display.particle.value)
    return f"step-{live.step:06d}{f'-{k}' if k > 1 else ''}.{suffix}"


def export_ply(live: Live, folder: Path) -> Path:
    """The splats of the particle that is shown."""
    g = live.session.gaussians(int(live.display.particle.value) - 1)
    return write_ply(folder / name(live, "ply"), g, comments(live.session)).path


def export_png(live: Live, folder: Path, who: int | None) -> Path:
    """The view of the browser that asked, exact; from the front if it has gone."""
    s, d, pose = live.session, live.display, live.browsers.pose(who)
    cameras = pose.cameras(TALL) if pose else orbit([0.0], 15.0, 2.8, 42.0, TALL)
    g = adjusted(s.gaussians(int(d.particle.value) - 1), d.size.value, d.cutoff.value)
    assert s.rasterizer is not None
    image = picture(g, cameras, s.rasterizer, d.exact or "rgb")  # type: ignore[arg-type]
    path = folder / name(live, "png")
    write_png(path, torch.from_numpy(image.copy()).permute(2, 0, 1) / 255)
    return path


def export_mp4(live: Live, folder: Path) -> Path:
    """Once around at 15 degrees, on white."""
    k, path = int(live.display.particle.value) - 1, folder / name(live, "mp4")
    turns = (torch.arange(FRAMES) * (360 / FRAMES)).split(8)
    frames = (f.cpu() for turn in turns for f in live.session.render(orbit(turn, 15.0, 2.8, 42.0, SIZE), particle=k))
    write_mp4(path, frames, fps=24)
    return path


def export_replay(live: Live) -> Path:
    """The film so far."""
    live.write_replay()
    return live.folder.path / "replay.html"
