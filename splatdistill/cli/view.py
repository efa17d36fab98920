"""splatdistill view: finished work in a browser, side by side, and tools that clean it up."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from splatdistill.cli.viewer import PORT, Watching
from splatdistill.errors import UserError
from splatdistill.settings.command_line import command_line


@dataclass(frozen=True)
class ViewOptions:
    """Look at runs, checkpoints and .ply files in a browser, and clean them up."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH...")] = ()
    """Runs, checkpoints, or .ply files of splats from anywhere; several stand side by side."""
    port: int = PORT
    """Port of the page, at 127.0.0.1; one that is taken moves on to the next."""
    viewer_host: tuple[str, ...] = ()
    """Names beside 127.0.0.1 by which a browser reaches the page through a tunnel or a proxy: localhost:9000, box.lan."""
    out: Path | None = None
    """Folder of cleaned splats; by default they are written beside what they came from."""


def command(argv: list[str]) -> int:
    """Run the subcommand; return its exit status."""
    asked = command_line(ViewOptions, argv, "splatdistill view")
    if not asked.paths:
        raise UserError("what to look at? Give runs, checkpoints or .ply files: splatdistill view runs/a-red-mushroom")
    Watching(port=asked.port, hosts=asked.viewer_host)
    from splatdistill_viewer.gallery import Gallery

    from splatdistill.export.prepare import recentred
    from splatdistill.export.saved_splats import load_all

    console = Console(markup=False, highlight=False, soft_wrap=True)
    shown = []
    for saved in (each for path in asked.paths for each in load_all(path)):
        splats, moved = recentred(saved.gaussians)
        for line in (*saved.notes, *([f"{saved.file}: {moved}"] if moved else [])):
            console.print(line)
        shown.append(replace(saved, gaussians=splats))
    gallery = Gallery(shown, asked.port, asked.out, console.print, asked.viewer_host)
    here, elsewhere = gallery.where
    console.print(f"{len(shown)} to see at {here}  (from another machine: {elsewhere}  and then the same address there)")
    console.print("until Ctrl-C")
    try:
        gallery.hold()
    finally:
        gallery.close()
    return 1 if gallery.guard.off else 0
