"""Look of one page: every browser has its own controls of how the splats are rendered."""

from collections.abc import Callable
from functools import partial
from typing import Any

import viser

from splatdistill.io.text import escape
from splatdistill_viewer.lighting import BACKGROUNDS, DARK, LIGHTS, Background
from splatdistill_viewer.pictures import MODES, Mode, Style
from splatdistill_viewer.server import theme
from splatdistill_viewer.splats import look_from

SPLATS = "splats"
LABELS: dict[Mode, str] = {"rgb": "RGB (exact)", "depth": "depth", "normal": "normals", "alpha": "alpha", "clay": "clay"}
SIDES = {"front": (0.0, 10.0), "left": (90.0, 10.0), "back": (180.0, 10.0), "right": (-90.0, 10.0), "top": (0.0, 80.0)}
"""Named views: azimuth (0 sees the front, 90 the object's left) and elevation, degrees."""
RUN_KEYS = "space pause, N step, C checkpoint, "
KEYS = "M mode, B background, T turntable, 1 to 5 views, F full screen"
PREPARING = "preparing the exact picture …"  # page.html presses the button that says so
TEXT = '<div style="padding:0 0.75em 0.6em;font-size:14px;line-height:1.45;overflow-wrap:anywhere">{}</div>'
QUIET = '<div style="padding:0 0.85em 0.6em;font-size:13px;line-height:1.4;color:{colour};overflow-wrap:anywhere">{text}</div>'
GREY, RED = "#868e96", "#e03131"


def text(html: str) -> str:
    """Return HTML in the page's font. viser's Markdown renders raw HTML, so the caller escapes every text that is not a constant."""
    return TEXT.format(html)


def small(words: str, colour: str = GREY) -> str:
    """Return a paragraph in small print, escaped, without the line breaks that a terminal would show; "" for an empty text."""
    return QUIET.format(colour=colour, text=escape(" ".join(words.split("\n")))) if words else ""


class Display:
    """Controls of how one page shows the splats.

    particles: how many there are to choose from; cameras: whether a training
    has some to draw; steered: whether the page obeys the keys of a run.
    """

    def __init__(self, client: viser.ClientHandle, particles: int = 1, cameras: bool = False, steered: bool = False) -> None:
        gui = client.gui
        options = (SPLATS, *LABELS.values())
        hint = "splats: drawn by the browser; the others are rendered here, with spherical harmonics"
        self.mode = gui.add_dropdown("render mode", options, initial_value=SPLATS, hint=hint)
        self.decoded = False  # whether the browser has its exact picture; the page's script presses the button then
        self.preparing = gui.add_button(PREPARING, color="gray", visible=False)
        self.preparing.on_click(lambda _: self.arrive())
        self.backdrop = gui.add_dropdown("background", BACKGROUNDS, initial_value="white")
        self.light = gui.add_dropdown("light", LIGHTS, initial_value=LIGHTS[0], hint="Shades by the normals", visible=False)
        names = [str(k + 1) for k in range(particles)]
        self.particle = gui.add_dropdown("particle", names, visible=particles > 1)
        self.turntable = gui.add_checkbox("turntable", False, hint="Go around the object")
        self.frustums = gui.add_checkbox("training cameras", cameras, visible=cameras, hint="The cameras of the last batch")
        sides = gui.add_button_group("view from", tuple(SIDES))
        with gui.add_folder("splats", expand_by_default=False):
            self.size = gui.add_slider("splat scale", min=0.05, max=2.0, step=0.05, initial_value=1.0)
            self.cutoff = gui.add_slider("min. opacity", min=0.0, max=0.95, step=0.01, initial_value=0.0)
        gui.add_html(small(f"Keys: {RUN_KEYS if steered else ''}{KEYS}"))
        self.gui = gui
        sides.on_click(lambda event: look_from(client, *SIDES[event.target.value]))
        self.mode.on_update(lambda _: self.follow())
        self.backdrop.on_update(lambda _: self.darken())
        for number, (side, way) in enumerate(SIDES.items(), 1):
            self.command(f"view from {side}", str(number), partial(look_from, client, *way))
        self.command("next render mode", "M", lambda: self.next(self.mode))
        self.command("next background", "B", lambda: self.next(self.backdrop))
        self.command("turntable", "T", self.turn)

    def command(self, label: str, key: Any, do: Callable[[], None]) -> None:
        """Add a key binding of this page, which the palette also lists."""
        command = self.gui.add_command(label, hotkey=key)
        command.on_trigger(lambda _: do())

    def arrive(self) -> None:
        """Record that the browser has decoded an exact picture."""
        self.decoded = True

    def turn(self) -> None:
        """Start or stop the turntable."""
        self.turntable.value = not self.turntable.value

    def follow(self) -> None:
        """Show the controls of the chosen mode, and that an exact picture is being prepared."""
        self.light.visible = self.exact in ("rgb", "clay")
        self.preparing.visible = self.exact is not None

    def darken(self) -> None:
        """Make the panels dark or light like the background."""
        theme(self.gui, dark=self.background in DARK)

    def next(self, control: Any) -> None:
        """Select the next option of a control."""
        options = tuple(control.options)
        control.value = options[(options.index(control.value) + 1) % len(options)]

    @property
    def exact(self) -> Mode | None:
        """Return the mode of the exact picture that is wanted; None for splats."""
        return next((m for m in MODES if self.mode.value == LABELS[m]), None)

    @property
    def background(self) -> Background:
        """Return the name of the background."""
        return next(b for b in BACKGROUNDS if b == self.backdrop.value)

    @property
    def style(self) -> Style:
        """Return the style of exact pictures, whether one is wanted or not."""
        return Style(self.exact or "rgb", self.background, next(k for k in LIGHTS if k == self.light.value))

    @property
    def shown(self) -> int:
        """Return the index of the particle that is shown, from 0."""
        return int(self.particle.value) - 1

    @property
    def key(self) -> tuple[Any, ...]:
        """Return the settings that the splats on the page depend on, besides the run."""
        return self.shown, self.size.value, self.cutoff.value
