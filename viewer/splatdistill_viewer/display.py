"""Controls of how the splats are looked at, and the line that says where the run is."""

from typing import Any

import viser

from splatdistill.io.text import escape
from splatdistill.train.config import Train
from splatdistill_viewer.pictures import MODES, Mode

SPLATS = "splats in the browser"
TEXT = '<div style="padding:0 0.75em 0.6em;font-size:14px;line-height:1.45;overflow-wrap:anywhere">{}</div>'


def text(html: str) -> str:
    """Return words as a page shows them. viser's Markdown renders raw HTML, so whatever holds words that are not ours is HTML
    from the beginning, with each of them escaped.
    """
    return TEXT.format(html)


class Display:
    """Controls of how the splats are looked at."""

    def __init__(self, gui: viser.GuiApi, particles: int, cameras: bool = True) -> None:
        options = (SPLATS, *(f"exact {m}" for m in MODES))
        self.mode = gui.add_dropdown("look at", options, initial_value=SPLATS, hint="exact: rendered here, with spherical harmonics")
        self.size = gui.add_slider("splat size", min=0.05, max=2.0, step=0.05, initial_value=1.0)
        self.cutoff = gui.add_slider("opacity cut-off", min=0.0, max=0.95, step=0.01, initial_value=0.0)
        self.frustums = gui.add_checkbox("training cameras", cameras, visible=cameras)
        self.turntable = gui.add_checkbox("turntable", False, hint="Go around the object")
        names = [str(k + 1) for k in range(particles)]
        self.particle = gui.add_dropdown("particle", names, visible=particles > 1)

    @property
    def exact(self) -> Mode | None:
        """Return which exact picture is wanted, if one is."""
        return next((m for m in MODES if self.mode.value == f"exact {m}"), None)

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what a picture depends on besides the splats."""
        return self.mode.value, self.size.value, self.cutoff.value, self.particle.value


class Status:
    """One line, and a bar."""

    def __init__(self, gui: viser.GuiApi, config: Train) -> None:
        self.text = gui.add_html(text(f"<b>{escape(config.prompt)}</b>"))
        self.bar = gui.add_progress_bar(0.0)

    def update(self, config: Train, step: int, splats: int, speed: float, state: str) -> None:
        """Show where the run is. speed: steps a second."""
        moves = f" ({config.inner} moves each)" if config.inner > 1 else ""
        now = text(f"<b>{escape(config.prompt)}</b>: {state}, step {step} of {config.steps}{moves}, {splats} splats, {speed:.3g} steps/s")
        if now != self.text.content:
            self.text.content = now
            self.bar.value = min(100.0, 100.0 * step / max(config.steps, 1))
