"""Live plots of a run."""

from itertools import cycle

import numpy as np
import viser
from viser import uplot

from splatdistill_viewer.history import STAGES, History

LAST = 1e6  # among the controls of a tab: those that a page gets when it comes stand before
PADDING = (10, 12, 0, 0)  # pixels above, right, below and left: a number at the end of an axis is half a line beyond it
COLOURS = ("#1971c2", "#e8590c", "#2f9e44", "#9c36b5", "#c92a2a", "#0c8599")


class Plot:
    """Plot of some columns of the history over the steps."""

    def __init__(self, gui: viser.GuiApi, title: str, columns: tuple[str, ...], names: tuple[str, ...]) -> None:
        self.columns = columns
        self.handle = plot(gui, title, names)

    def update(self, history: History) -> None:
        """Draw the plot's columns of the history."""
        draw(self.handle, history.column("step", *self.columns))


class Terms:
    """Plot of the term that each regulariser adds to the loss; the set of terms may change during the run."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self.names: tuple[str, ...] = ("none",)
        self.handle = plot(gui, "regularisation losses", self.names)

    def update(self, history: History) -> None:
        """Draw the terms of the history."""
        names, columns = history.terms()
        if names and names != self.names:
            self.names, self.handle.series = names, series(names)
        draw(self.handle, columns)


class Curves:
    """All plots of a run."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self.plots = [
            Plot(gui, "guidance gradient", ("grad_norm", "spread"), ("RMS", "standard deviation")),
            Plot(gui, "number of splats", ("gaussians",), ("splats",)),
            Plot(gui, "timestep and coverage", ("t", "coverage"), ("t", "mean alpha")),
            Plot(gui, "time per step, seconds", STAGES, STAGES),
        ]
        self.terms = Terms(gui)

    def update(self, history: History) -> None:
        """Draw all plots."""
        for each in (*self.plots, self.terms):
            each.update(history)


def plot(gui: viser.GuiApi, title: str, names: tuple[str, ...]) -> viser.GuiUplotHandle:
    """Add an empty plot over steps."""
    scales = {"x": uplot.Scale(time=False, auto=True), "y": uplot.Scale(auto=True)}
    empty = tuple(np.zeros(0) for _ in range(1 + len(names)))
    look = {"legend": uplot.Legend(show=True), "height": 120, "padding": PADDING}
    return gui.add_uplot(empty, series(names), title=title, scales=scales, **look, order=LAST, visible=False)


def draw(handle: viser.GuiUplotHandle, columns: tuple[np.ndarray, ...]) -> None:
    """Replace the curves of a plot. viser's page never finds the range of a plot without an interval of x, so a plot is
    hidden until it has one.
    """
    if len(columns[0]) > 1:
        handle.data = columns
        handle.visible = True


def series(names: tuple[str, ...]) -> tuple[uplot.Series, ...]:
    """Return the options of the curves over steps, each with its own colour."""
    curves = (uplot.Series(label=n, stroke=c, width=1.5) for n, c in zip(names, cycle(COLOURS)))
    return (uplot.Series(label="step"), *curves)
