"""Diagrams drawn with Pillow alone: lines and points with error bars, stacked bars, points over a density."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from splatdistill.priors.exact import GaussianMixturePrior

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933", "#882255", "#44aa99")
"""Distinguishable by the colour-blind (Okabe & Ito, and Tol); the methods in turn."""
TWICE = 2  # drawn this much larger and averaged down: Pillow does not smooth lines


def rgb(picture: Image.Image) -> Float[Tensor, "3 h w"]:
    """A Pillow picture as a tensor in [0, 1]."""
    small = picture.resize((picture.width // TWICE, picture.height // TWICE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small.convert("RGB"))).permute(2, 0, 1).float() / 255


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers within the range, about five; powers of ten on a logarithmic axis, thirds between if it is short."""
    if log:
        inside = [m * 10.0**e for e in range(-12, 13) for m in (1, 3) if low <= m * 10.0**e <= high]
        return inside if len(inside) < 8 else [v for v in inside if round(math.log10(v), 6) % 1 == 0]
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= min((m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6), default=10)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass
class Chart:
    """An empty diagram to draw on, in the units of its axes."""

    x: tuple[float, float]
    y: tuple[float, float]
    title: str = ""
    x_label: str = ""
    log_y: bool = False
    names: Mapping[float, str] | None = None  # words at places of the x axis, in the place of numbers
    size: tuple[int, int] = (560, 340)
    entries: list[tuple[str, str]] = field(default_factory=list)  # of the legend: colour, text

    def __post_init__(self) -> None:
        width, height = self.size
        self.picture = Image.new("RGB", (TWICE * width, TWICE * height), "white")
        self.draw = ImageDraw.Draw(self.picture)
        self.font = ImageFont.load_default(size=11 * TWICE)
        self.box = (TWICE * 58, TWICE * 28, TWICE * (width - 150), TWICE * (height - 40))
        self._axes()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is on the canvas; what is outside the axes is put on the border."""
        left, top, right, bottom = self.box
        low, high, y = (math.log10(v) for v in (*self.y, max(y, 1e-30))) if self.log_y else (*self.y, y)
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - low) / (high - low)
        return left + min(max(across, 0), 1) * (right - left), bottom - min(max(up, 0), 1) * (bottom - top)

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str, name: str = "") -> None:
        """A line through points, broken where y is not finite."""
        for (x0, y0), (x1, y1) in zip(zip(xs, ys), zip(xs[1:], ys[1:])):
            if math.isfinite(y0) and math.isfinite(y1):
                self.draw.line([self.at(x0, y0), self.at(x1, y1)], fill=colour, width=2 * TWICE)
        self.entries += [(colour, name)] if name else []

    def point(self, x: float, y: float, colour: str, low: float | None = None, high: float | None = None) -> None:
        """A dot with its interval."""
        if not math.isfinite(y):
            return
        (px, py), r = self.at(x, y), 3 * TWICE
        self.draw.ellipse([px - r, py - r, px + r, py + r], fill=colour)
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
            self.draw.line([self.at(x, low), self.at(x, high)], fill=colour, width=TWICE)

    def bar(self, x: float, width: float, low: float, high: float, colour: str) -> None:
        """A bar from low to high."""
        (x0, y0), (x1, y1) = self.at(x - width / 2, low), self.at(x + width / 2, high)
        if y0 - y1 >= 1:
            self.draw.rectangle([x0, y1, x1, y0], fill=colour)

    def image(self) -> Float[Tensor, "3 h w"]:
        """The diagram with its legend."""
        x, y = self.box[2] + 8 * TWICE, self.box[1]
        for colour, name in self.entries:
            self.draw.rectangle([x, y + 3 * TWICE, x + 8 * TWICE, y + 11 * TWICE], fill=colour)
            self.draw.text((x + 12 * TWICE, y), name, fill="black", font=self.font)
            y += 16 * TWICE
        return rgb(self.picture)

    def _axes(self) -> None:
        left, _, right, bottom = self.box
        for v in ticks(*self.y, self.log_y):
            _, py = self.at(self.x[0], v)
            self.draw.line([(left, py), (right, py)], fill="#dddddd", width=TWICE)
            self.draw.text((left - 5 * TWICE, py), f"{v:g}", fill="black", font=self.font, anchor="rm")
        for v, word in (self.names or {v: f"{v:g}" for v in ticks(*self.x, False)}).items():
            px, _ = self.at(v, self.y[0])
            self.draw.text((px, bottom + 4 * TWICE), word, fill="black", font=self.font, anchor="ma")
        self.draw.rectangle(self.box, outline="black", width=TWICE)
        self.draw.text(((left + right) / 2, 14 * TWICE), self.title, fill="black", font=self.font, anchor="mm")
        self.draw.text(
            ((left + right) / 2, bottom + 28 * TWICE), self.x_label, fill="black", font=self.font, anchor="mm"
        )


def limits(values: Sequence[float], log: bool = False) -> tuple[float, float]:
    """A range with a margin that holds every finite value (every positive one on a logarithmic axis)."""
    good = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
    low, high = min(good), max(good)
    if log:
        return low / 1.5, high * 1.5
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


@torch.no_grad()
def over_density(
    x: Float[Tensor, "n 2"], prior: GaussianMixturePrior, prompt: str, reach: float = 2.6, size: int = 384
) -> Float[Tensor, "3 size size"]:
    """Particles as dots over p(x | prompt): square root of the density, white to blue, on [-reach, reach]^2."""
    side = torch.linspace(-reach, reach, size, dtype=prior.dtype)
    grid = torch.stack(torch.meshgrid(side, -side, indexing="xy"), -1).reshape(-1, 2).to(prior.device)
    density = prior.log_prob(grid, None, prior.embed([prompt]).expand(len(grid))).exp().sqrt().view(size, size).cpu()
    shade = (density / density.max()).float()
    deep = torch.tensor([0.13, 0.35, 0.65]).view(3, 1, 1)
    picture = Image.fromarray(((1 - shade * (1 - deep)) * 255).to(torch.uint8).permute(1, 2, 0).numpy())
    picture = picture.resize((TWICE * size, TWICE * size))
    draw = ImageDraw.Draw(picture)
    for px, py in x.double().cpu().tolist():
        u, v = ((px + reach) / (2 * reach)) * TWICE * size, ((reach - py) / (2 * reach)) * TWICE * size
        draw.ellipse([u - 2.5, v - 2.5, u + 2.5, v + 2.5], fill="#d55e00")
    return rgb(picture)
