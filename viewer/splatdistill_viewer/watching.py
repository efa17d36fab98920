"""The tabs that show: progress and curves, what the prior wants, and how the splats are looked at."""

from typing import Any

import numpy as np
import viser
from viser import uplot

from splatdistill.train.config import Train
from splatdistill_viewer.history import STAGES, History
from splatdistill_viewer.pictures import MODES, Wants

SPLATS = "splats in the browser"
COLOURS = ("#1971c2", "#e8590c", "#2f9e44", "#9c36b5", "#c92a2a", "#0c8599")
CAPTIONS = ("the view as it is", "x_t: with noise, decoded", "x_0: what the prior makes of it", "the change it wants (gray: none)")


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

    def __init__(self, gui: viser.GuiApi, title: str, columns: tuple[str, ...], names: tuple[str, ...], log: bool = False) -> None:
        self.columns = columns
        series = [uplot.Series(label="step")]
        series += [uplot.Series(label=n, stroke=c, width=1.5) for n, c in zip(names, COLOURS)]
        scales = {"x": uplot.Scale(time=False, auto=True), "y": uplot.Scale(auto=True, **({"distr": 3} if log else {}))}
        empty = tuple(np.zeros(0) for _ in range(1 + len(columns)))
        self.handle = gui.add_uplot(empty, tuple(series), title=title, scales=scales, legend=uplot.Legend(show=len(names) > 1), height=150)

    def update(self, history: History) -> None:
        """Draw what there is now."""
        if len(history):
            self.handle.data = history.column("step", *self.columns)


class Curves:
    """Live plots."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self.plots = [
            Plot(gui, "gradient: root mean square, standard deviation", ("grad_norm", "spread"), ("rms", "deviation")),
            Plot(gui, "loss of the regularisers", ("loss",), ("loss",)),
            Plot(gui, "splats", ("gaussians",), ("splats",)),
            Plot(gui, "noise level t, coverage", ("t", "coverage"), ("t", "coverage")),
            Plot(gui, "seconds a step by stage", STAGES, STAGES),
        ]
        self.terms = gui.add_markdown("")

    def update(self, history: History, terms: dict[str, float]) -> None:
        """Draw what there is now."""
        for plot in self.plots:
            plot.update(history)
        if terms:
            self.terms.content = "Terms of the loss: " + ", ".join(f"{k} {v:.4g}" for k, v in terms.items())


class PriorPanel:
    """What the prior wants, as pictures; made only while someone asks for them."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self.on = gui.add_checkbox("show", True, hint="Each costs the run a little of its time")
        blank = np.full((64, 64, 3), 255, np.uint8)
        self.images = [gui.add_image(blank, label=c, format="jpeg") for c in CAPTIONS]
        self.note = gui.add_markdown("")

    def update(self, w: Wants) -> None:
        """The pictures of one step."""
        for handle, image in zip(self.images, (w.render, w.noised, w.estimate, w.gradient)):
            handle.image = enlarged(image)
        self.note.content = f"First view of the last step, at noise level t = {w.t:.3f}."


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


def enlarged(image: np.ndarray, least: int = 256) -> np.ndarray:
    """Small pictures with their pixels repeated, so that they are seen as they are."""
    k = max(1, least // image.shape[0])
    return image.repeat(k, 0).repeat(k, 1)
