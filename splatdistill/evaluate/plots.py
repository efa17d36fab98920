"""Charts by matplotlib, as tensors that are written and reported like any other picture."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.priors.exact import GaussianMixturePrior

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933", "#882255", "#44aa99")
"""Distinguishable by the colour-blind (Okabe & Ito, and Tol); the methods in turn."""
DPI = 100.0
CROWDED = 50  # letters below the x axis, which would overlap if they stood straight


def chart(
    title: str, x_label: str = "", log_y: bool = False, names: Mapping[float, str] | None = None, size: tuple[int, int] = (560, 340)
) -> "Axes":
    """Return the axes of an empty chart of `size` pixels. names: words at places of the x axis instead of numbers."""
    from matplotlib.figure import Figure  # not pyplot: no window, no state that is shared

    figure = Figure((size[0] / DPI, size[1] / DPI), DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(plain(title), fontsize=10)
    axes.set_xlabel(x_label)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    if log_y:
        axes.set_yscale("log")
    if names is not None:
        crowded = sum(map(len, names.values())) > CROWDED
        axes.set_xticks(list(names), list(map(plain, names.values())), rotation=20 if crowded else 0, ha="right" if crowded else "center")
        axes.set_xlim(min(names, default=0.0) - 0.5, max(names, default=0.0) + 0.5)
    return axes


def plain(text: str) -> str:
    """Return text as matplotlib shows it letter by letter: $ would begin a formula, and a leading _ hides an entry of the legend."""
    shown = text.replace("$", r"\$")
    return f"\u200b{shown}" if shown.startswith("_") else shown


def line(
    axes: "Axes",
    xs: Sequence[float],
    ys: Sequence[float | None],
    colour: str,
    name: str = "",
    intervals: Sequence[tuple[float | None, float | None]] | None = None,
) -> None:
    """Draw dots joined by a line, broken where there is no value; with (low, high) intervals where both ends are known."""
    known = np.array([math.nan if y is None else y for y in ys], dtype=float)
    axes.plot(xs, known, "o-", color=colour, label=plain(name), markersize=4)
    if intervals is not None:
        ends = [(x, low, high) for x, (low, high) in zip(xs, intervals, strict=True) if low is not None and high is not None]
        axes.vlines([x for x, _, _ in ends], [low for _, low, _ in ends], [high for _, _, high in ends], color=colour, linewidth=1)


def picture(axes: "Axes") -> Float[Tensor, "3 h w"]:
    """Return the chart with its legend, to the right of the axes, in [0, 1]."""
    figure = axes.figure
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    return drawn(figure)  # type: ignore[arg-type]  # axes of a subfigure, which we never make


def drawn(figure: "Figure") -> Float[Tensor, "3 h w"]:
    """Draw a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rgba = np.asarray(canvas.buffer_rgba())
    return torch.from_numpy(rgba[..., :3].copy()).permute(2, 0, 1).float() / 255


@torch.no_grad()
def over_density(
    x: Float[Tensor, "n 2"], prior: GaussianMixturePrior, prompt: str, reach: float = 2.6, size: int = 384
) -> Float[Tensor, "3 size size"]:
    """Draw particles as dots over p(x | prompt): square root of the density, white to blue, on [-reach, reach]^2."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    side = torch.linspace(-reach, reach, size, dtype=prior.dtype)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2).to(prior.device)
    density = prior.log_prob(grid, None, prior.embed([prompt]).expand(len(grid))).exp().sqrt().view(size, size).cpu()
    figure = Figure((size / DPI, size / DPI), DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    blues = LinearSegmentedColormap.from_list("density", ["white", (0.13, 0.35, 0.65)])
    axes.imshow(density.numpy(), blues, vmin=0.0, origin="lower", extent=(-reach, reach, -reach, reach))
    places = x.double().cpu().clamp(-reach, reach).numpy()  # what is outside stands on the border, and is not lost
    axes.scatter(places[:, 0], places[:, 1], s=4, color="#d55e00", linewidths=0, clip_on=False)
    return drawn(figure)
