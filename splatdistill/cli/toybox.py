"""splatdistill toybox: what the embedded models know, in words and pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from splatdistill.cameras import Cameras, orbit
from splatdistill.errors import UserError
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.settings.command_line import command_line
from splatdistill.toybox import COLOURS, NAMED, PRIMITIVES, Caption, parse
from splatdistill.toybox.captions import plain_captions
from splatdistill.toybox.parts import PATTERNS
from splatdistill.toybox.real import RealCaption, parse_real, real_captions
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import Thing, understood
from splatdistill.toybox.things import draw as drawn

Word = Literal["front", "side", "back", "overhead"]
PLACES: dict[str, tuple[float, float]] = {
    "front": (0.0, 15.0),
    "side": (90.0, 15.0),
    "back": (180.0, 15.0),
    "overhead": (0.0, 70.0),
}
"""Azimuth and elevation that show what a view word means, degrees."""
CELLS = 8  # pictures in a row of the sheet, about


@dataclass(frozen=True)
class Toybox:
    """Show the words and captions that the embedded models know, and pictures of the truth."""

    sheet: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Write a contact sheet of objects."""
    caption: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Captions to show on it; by default every kind of object once."""
    view: tuple[Word, ...] = ("front", "side", "back", "overhead")
    """View of the pictures."""
    size: int = 96
    """Pixels per side of a picture."""
    captions: bool = False
    """List every caption of one plain object, one a line: toys and primitives first, then the real objects of the prior `world`."""


def command(argv: list[str]) -> int:
    """Run the subcommand; its exit status."""
    options = command_line(Toybox, argv, "splatdistill toybox")
    if options.captions:
        print("\n".join(map(str, (*plain_captions(), *real_captions()))))
    if options.sheet is not None or options.caption:
        draw(options)
    elif not options.captions:
        print(words())
    return 0


def words() -> str:
    """Return the grammar of captions."""
    return (
        f"toys        {', '.join(NAMED)}\n"
        f"primitives  {', '.join(PRIMITIVES)}\n"
        f"colours     {', '.join(COLOURS)}\n"
        f"patterns    {', '.join(PATTERNS[1:])} (of primitives)\n"
        f"real        {', '.join(SPLIT.kinds)} (of the prior `world` alone; most take a colour)\n"
        'captions    "a red mushroom", "a striped red and white ball", "a red ball on a blue cube", "a hamburger", "an orange armchair"\n'
        "`splatdistill toybox --captions` lists the plain ones, `splatdistill toybox --sheet FILE.png` shows them."
    )


def examples() -> list[Caption]:
    """Return every kind of object once, the colours in turn; then patterns and stacks."""
    colours = list(COLOURS)
    plain = [Caption(kind, colours[i % len(colours)]) for i, kind in enumerate((*NAMED, *PRIMITIVES))]
    patterned = [parse(f"a {pattern} {c} and white {p}") for pattern, c, p in zip(PATTERNS[1:], colours, PRIMITIVES)]
    stacked = [
        parse(f"a {a} {p} on a {b} {q}") for a, p, b, q in zip(colours[3:6], PRIMITIVES, colours, PRIMITIVES[1:])
    ]
    return plain + patterned + stacked


def real_examples() -> list[RealCaption]:
    """Return the acceptance prompts of real objects."""
    return [c for prompt in SPLIT.truth if (c := parse_real(prompt))]


def pictures(thing: Thing, cameras: Cameras) -> Tensor:
    """Return (b,3,h,w) of what a caption names."""
    return drawn(thing, cameras).rgb.clamp(0, 1)


def draw(options: Toybox) -> None:
    """Render the pictures and write the sheet, a group of views for each caption."""
    if options.size < 8 or options.size > 1024:
        raise UserError(f"--size is pixels per side, 8 to 1024; got {options.size}")
    shown = [understood(text) for text in options.caption] or [*examples(), *real_examples()]
    path = options.sheet or Path("toybox.png")
    views = list(options.view) or list(PLACES)
    cameras = Cameras.cat([orbit([PLACES[v][0]], PLACES[v][1], 2.8, 42.0, options.size) for v in views])
    labels = [str(c) if i == 0 else v for c in shown for i, v in enumerate(views)]
    columns = len(views) * max(1, CELLS // len(views))
    write_png(path, contact_sheet(torch.cat([pictures(c, cameras) for c in shown]), columns, labels))
    print(f"wrote {path}: {len(shown)} objects, each from {', '.join(views)}")
