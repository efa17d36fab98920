"""The tabs that show: progress and curves, what the prior wants, and how the splats are looked at."""

import base64
import io
from itertools import cycle
from typing import Any

import numpy as np
import viser
from PIL import Image
from viser import uplot

from splatdistill.train.config import Train
from splatdistill_viewer.history import STAGES, History
from splatdistill_viewer.pictures import MODES, Wants

WIDTH = 222  # pixels of the prior's panel; its contents want 220
SPLATS = "splats in the browser"
COLOURS = ("#1971c2", "#e8590c", "#2f9e44", "#9c36b5", "#c92a2a", "#0c8599")
CAPTIONS = ("a view of the splats", "with noise: x_t", "what the prior sees in it: x_0", "the change it wants")
FIGURE = """<figure style="margin:0 8px 8px 4px;text-align:center;font-size:12px;color:#868e96"><img src="{src}" style="display:block;
margin:auto;height:calc(25vh - 62px);max-width:100%;image-rendering:pixelated;border-radius:6px;border:1px solid #e9ecef">
<figcaption>{caption}</figcaption></figure>"""


class Display:
    """How the splats are looked at."""

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
    def exact(self) -> str | None:
        """Which exact picture is wanted, if one is."""
        return None if self.mode.value == SPLATS else self.mode.value.removeprefix("exact ")

    @property
    def key(self) -> tuple[Any, ...]:
        """What a picture depends on besides the splats."""
        return self.mode.value, self.size.value, self.cutoff.value, self.particle.value


class Plot:
    """Some columns of the history over the steps."""

    def __init__(self, gui: viser.GuiApi, title: str, columns: tuple[str, ...], names: tuple[str, ...]) -> None:
        self.columns = columns
        self.handle = plot(gui, title, names)

    def update(self, history: History) -> None:
        """Draw what there is now."""
        draw(self.handle, history.column("step", *self.columns))


class Terms:
    """What each regulariser adds to the loss. Which there are may change while the run goes on."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self.names: tuple[str, ...] = ("none",)
        self.handle = plot(gui, "terms of the loss, where looked at", self.names)

    def update(self, history: History) -> None:
        """Draw what there is now."""
        names, columns = history.terms()
        if names and names != self.names:
            self.names, self.handle.series = names, series(names)
        draw(self.handle, columns)


def plot(gui: viser.GuiApi, title: str, names: tuple[str, ...]) -> viser.GuiUplotHandle:
    """An empty plot over steps."""
    scales = {"x": uplot.Scale(time=False, auto=True), "y": uplot.Scale(auto=True)}
    empty = tuple(np.zeros(0) for _ in range(1 + len(names)))
    return gui.add_uplot(empty, series(names), title=title, scales=scales, legend=uplot.Legend(show=True), height=120, visible=False)


def draw(handle: viser.GuiUplotHandle, columns: tuple[np.ndarray, ...]) -> None:
    """Curves in place of those before. A plot that a page has seen without a stretch of x never finds one, so it is hidden until then."""
    if len(columns[0]) > 1:
        handle.data = columns
        handle.visible = True


def series(names: tuple[str, ...]) -> tuple[uplot.Series, ...]:
    """Curves over steps, each of its own colour."""
    curves = (uplot.Series(label=n, stroke=c, width=1.5) for n, c in zip(names, cycle(COLOURS)))
    return (uplot.Series(label="step"), *curves)


class Curves:
    """Live plots."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self.plots = [
            Plot(gui, "gradient", ("grad_norm", "spread"), ("root mean square", "deviation")),
            Plot(gui, "splats", ("gaussians",), ("splats",)),
            Plot(gui, "noise level t, coverage", ("t", "coverage"), ("t", "coverage")),
            Plot(gui, "seconds a step by stage", STAGES, STAGES),
        ]
        self.terms = Terms(gui)

    def update(self, history: History) -> None:
        """Draw what there is now."""
        for each in (*self.plots, self.terms):
            each.update(history)


class PriorPanel:
    """What the prior wants, as pictures; made only while someone asks for them."""

    def __init__(self, gui: viser.GuiApi) -> None:
        panel = gui.add_panel()
        with panel.add_tab("What the prior wants"):
            self.pictures = gui.add_html("")
            self.on = gui.add_checkbox("update", True, hint="The pictures cost the run a little of its time")
        panel.dock_left()
        panel.set_width(WIDTH)

    def update(self, w: Wants) -> None:
        """The pictures of one step."""
        captions = (CAPTIONS[0], f"{CAPTIONS[1]}, t = {w.t:.2f}", *CAPTIONS[2:])
        images = (w.render, w.noised, w.estimate, w.gradient)
        self.pictures.content = "".join(FIGURE.format(src=source(i), caption=c) for i, c in zip(images, captions))


class Status:
    """One line, and a bar."""

    def __init__(self, gui: viser.GuiApi, config: Train) -> None:
        self.text = gui.add_markdown(f"**{escape(config.prompt)}**")
        self.bar = gui.add_progress_bar(0.0)

    def update(self, config: Train, step: int, splats: int, speed: float, state: str) -> None:
        """Where the run is."""
        text = f"**{escape(config.prompt)}**: {state}, step {step} of {config.steps}, {splats} splats, {speed:.3g} steps/s"
        if text != self.text.content:
            self.text.content = text
            self.bar.value = min(100.0, 100.0 * step / max(config.steps, 1))


def escape(text: str) -> str:
    """A person's words, which are not to be read as markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()<>#+-!|" else c for c in text)


def source(image: np.ndarray) -> str:
    """A picture as the address of itself."""
    data, small = io.BytesIO(), image.shape[0] <= 128
    Image.fromarray(image).save(data, format="PNG" if small else "JPEG", quality=85)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(data.getvalue()).decode()}"
