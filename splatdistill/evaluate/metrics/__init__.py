"""Metrics of finished runs, a file each, and what every number must say of itself."""

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """Kind of measurement."""

    title: str
    better: Literal["higher", "lower", ""]
    about: str
    digits: int = 2


METRICS: dict[str, Metric] = {
    "clip_score": Metric("CLIP score", "higher", "100 cos(picture, prompt), mean over views"),
    "clip_distance": Metric("CLIP distance", "lower", "1 - cos(picture, prompt), mean over views", 3),
    "iqa_quality": Metric(
        "IQA quality %", "higher", "CLIP-IQA: 'Good photo.' against 'Bad photo.', mean over views", 1
    ),
    "iqa_sharpness": Metric("IQA sharpness %", "higher", "CLIP-IQA: 'Sharp photo.' against 'Blurry photo.'", 1),
    "iqa_real": Metric("IQA real %", "higher", "CLIP-IQA: 'Real photo.' against 'Abstract photo.'", 1),
    "image_reward": Metric("ImageReward", "higher", "a model of human preference, mean over views"),
    "imagenet": Metric("ImageNet %", "higher", "probability of the ImageNet class that the prompt names, mean over views", 1),
    "imagenet_named": Metric("ImageNet named %", "higher", "share of objects whose most probable ImageNet class is the prompt's", 0),
    "fid": Metric("FID*", "lower", "Fréchet distance of features to those of the prior's own samples", 3),
    "r_precision": Metric("R-precision %", "higher", "share of views whose nearest prompt of all is their own", 1),
    "janus": Metric(
        "Janus %",
        "lower",
        "share of pairs of views in which the one from behind looks as much like a front as the one from the front; 50 is no front at all",
        1,
    ),
    "saturation": Metric("saturation", "", "mean HSV saturation of covered pixels", 3),
    "clipped": Metric("clipped %", "lower", "share of covered pixels' values that are all but 0 or 1", 1),
    "edge_width": Metric(
        "edge width %", "lower", "over which opacity goes from 0 to 1 along the outline, of the picture's side", 2
    ),
    "coverage": Metric("coverage", "", "mean alpha", 3),
    "r_precision_hard": Metric(
        "R-precision, hard %", "higher", "share of views retrieved among 50 captions, 25 wrong in one attribute", 1
    ),
    "iou": Metric("IoU", "higher", "of silhouettes with the true object's, after the best turn about the up axis", 3),
    "psnr": Metric("PSNR dB", "higher", "against the true object's views, after the same turn", 1),
    "depth_error": Metric(
        "depth error", "lower", "mean absolute, world units, where both are covered, after the same turn", 3
    ),
    "sharpness": Metric(
        "sharpness", "higher", "mean squared Sobel gradient over that of the true object's views, after the same turn; above 1 it is noise", 2
    ),
    "iou_unturned": Metric("IoU unturned", "higher", "of silhouettes, as it stands", 3),
    "psnr_unturned": Metric("PSNR unturned dB", "higher", "as it stands", 1),
    "janus_truth": Metric(
        "Janus, truth %",
        "lower",
        "share of views from behind that are nearer to the true front than to the true back",
        1,
    ),
    "back_margin": Metric(
        "back margin dB",
        "higher",
        "by how much views from behind are nearer to the true back than to the true front",
        1,
    ),
    "diversity": Metric(
        "diversity", "higher", "1 - cos between the same views of two results, mean over pairs of seeds", 4
    ),
    "diversity_particles": Metric("diversity, particles", "higher", "the same over the particles of a run", 4),
    "diverged": Metric(
        "diverged %", "lower", "ended by a verdict (nan, empty, exploded, saturated, oom), or nothing is seen", 1
    ),
    "seconds": Metric("time s", "lower", "of the training steps, by the run's log", 1),
    "peak_memory": Metric("peak memory GiB", "lower", "of the device on CUDA, else of the process", 2),
    "calls": Metric("network images", "lower", "images that the prior's networks and adapters were asked about", 0),
    "steps": Metric("steps", "", "optimiser steps done", 0),
}


@dataclass(frozen=True)
class Measurement:
    """Measured number, and its meaning."""

    metric: str  # a key of METRICS
    value: float | None  # None: not to be had
    by: str = ""  # the model that measured, and which revision of it; or what else did
    views: int = 0
    resolution: int = 0  # pixels per side; 0 for numbers that are no pictures'
    background: str = ""
    note: str = ""  # what more must be known of how it was measured; or why it was not, and what to do
    detail: str = ""  # of this run alone

    def __post_init__(self) -> None:
        """Replace a value that is not a number by None, so that it is not passed on as one."""
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "note", f"it came out as {self.value}")
            object.__setattr__(self, "value", None)

    def __str__(self) -> str:
        if self.value is None:
            return "n/a"
        return f"{self.value:.{METRICS[self.metric].digits}f}"

    @property
    def provenance(self) -> str:
        """Return what stands beside the number, whichever run it is of."""
        views = f"{self.views} view{'s' if self.views != 1 else ''}" if self.views else ""
        size = f"{self.resolution} pixels" if self.resolution else ""
        ground = f"on {self.background}" if self.background else ""
        return "; ".join(filter(None, [f"by {self.by}" if self.by else "", views, size, ground, self.note]))


def missing(metrics: tuple[str, ...], why: str) -> list[Measurement]:
    """Return numbers that are not to be had."""
    return [Measurement(m, None, note=why) for m in metrics]


def noted(measurement: Measurement, note: str) -> Measurement:
    """Return the same with something more to know."""
    return replace(measurement, note="; ".join(filter(None, [measurement.note, note])))
