"""Perp-Neg: the texts of each view, in proportion to how far the camera has turned, and the views it is none of.

Armandpour et al., "Re-imagine the Negative Prompt Algorithm: Transform 2D Diffusion into 3D, alleviate Janus problem
and Beyond", arXiv:2304.04968. The functions of the angle are those of threestudio, which calculates with
f(r) = a exp(-b r) + c. Overhead views are named as always and move away from nothing.
"""

import math
from dataclasses import dataclass

import torch

from splatdistill.cameras import Cameras, ViewWords, with_view
from splatdistill.priors import Condition, DiffusionPrior, PerpNeg
from splatdistill.priors.random import sent


@dataclass(frozen=True)
class ViewBlend:
    """View words of one view, `share` of the first and 1 - `share` of the second; and the words of Perp-Neg's two negatives."""

    words: tuple[str, str]
    share: float
    others: tuple[str, str]
    weights: tuple[float, float]  # 0 or less


def turn(azimuth: float, elevation: float, words: ViewWords) -> ViewBlend:
    """Return the view words of one view and Perp-Neg's weights, angles in degrees. Where the words distinguish left from right, so
    does the side.
    """
    if elevation > words.overhead_angle:
        over = words.phrase(azimuth, elevation)
        return ViewBlend((over, over), 1.0, (over, over), (0.0, 0.0))
    azimuth = (azimuth + 180) % 360 - 180
    side = ("left side" if azimuth > 0 else "right side") if words.left_right else "side"
    r = abs(azimuth) / 90
    if r < 1:
        r = 1 - r
        weights = (-decay(r, 4, 0.5, -2.426), -decay(1 - r, 4, 0.5, -2.426))
        return ViewBlend(("front", side), r, ("front", side), weights)
    r = 2 - r
    return ViewBlend((side, "back"), r, (side, "front"), (-decay(r, 1, 0.5, -0.606), -decay(r, 1, 0.5, 0.967)))


def decay(r: float, a: float, b: float, c: float) -> float:
    """Return a exp(-b r) + c."""
    return a * math.exp(-b * r) + c


def perp_neg(prior: DiffusionPrior, prompt: str, words: ViewWords, cameras: Cameras) -> tuple[Condition, PerpNeg]:
    """Return the positive conditions, blended between the two nearest view words, and Perp-Neg's negative ones."""
    turns = [turn(a, e, words) for a, e in zip(cameras.azimuth.tolist(), cameras.elevation.tolist())]

    def embed(spoken: list[str]) -> Condition:
        return prior.embed([with_view(prompt, word) for word in spoken])

    def numbers(values: list) -> torch.Tensor:
        return sent(torch.tensor(values), prior.device, prior.dtype)

    near, far = (embed([t.words[i] for t in turns]) for i in range(2))
    first, second = (embed([t.others[i] for t in turns]) for i in range(2))
    positive = Condition.blend(numbers([t.share for t in turns]), near, far)
    return positive, PerpNeg(first, second, numbers([t.weights for t in turns]))
