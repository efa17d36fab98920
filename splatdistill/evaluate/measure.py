"""Measure everything about one finished run, and keep it beside the run so that it is measured once."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill import __version__
from splatdistill.cameras import ViewWords, with_view
from splatdistill.errors import UserError
from splatdistill.evaluate.acceptance import look
from splatdistill.evaluate.clip_model import GET_CLIP, ClipModel, sha256_of
from splatdistill.evaluate.metrics import METRICS, Measurement, missing, noted
from splatdistill.evaluate.metrics.against_truth import NAMES, against_truth
from splatdistill.evaluate.metrics.clip_iqa import PAIRS, clip_iqa
from splatdistill.evaluate.metrics.clip_score import clip_scores
from splatdistill.evaluate.metrics.diversity import diversity
from splatdistill.evaluate.metrics.image_reward import image_reward
from splatdistill.evaluate.metrics.imagenet import imagenet
from splatdistill.evaluate.metrics.janus import janus
from splatdistill.evaluate.metrics.r_precision import r_precision
from splatdistill.evaluate.metrics.saturation import saturation
from splatdistill.evaluate.metrics.sharpness import edge_width
from splatdistill.evaluate.protocol import Protocol
from splatdistill.evaluate.run_summary import RunSummary, costs
from splatdistill.gaussians import Gaussians
from splatdistill.io import read_splats
from splatdistill.io.atomic import replacing, write_text
from splatdistill.render import Rasterizer, RenderOutput, rasterizer
from splatdistill.toybox.things import Thing, has_truth, symmetric, understood

if TYPE_CHECKING:
    from splatdistill.estimators.imagenet import ImageNetClassifier

FOLDER = "evaluation"  # in a run's, where its numbers are kept
KEPT = 5  # of how they are measured: raised whenever the same splats and options give other numbers
NOT_MEASURED = "not measured"  # of a run: it takes several
CLIP_METRICS = ("clip_score", "clip_distance", "r_precision", "janus")


@dataclass(frozen=True)
class Evaluator:
    """Networks, rasteriser and settings that measure runs. Networks and rasteriser are loaded when they are first needed."""

    protocol: Protocol
    clip: ClipModel | None
    hard: ClipModel | None  # an embedded one, for retrieval among hard negatives
    device: str = "cpu"
    better: str = ""  # how to get a better CLIP
    image_reward: Path | None = None
    prompts: tuple[str, ...] = ()  # to retrieve among
    truth: bool = True  # compare with the toybox's objects where prompts name them
    imagenet: bool = False  # ask the ImageNet classifier too

    @cached_property
    def classifier(self) -> "ImageNetClassifier | None":
        """Return the ImageNet classifier, None where it is not asked; WeightsError where it is and is not installed."""
        from splatdistill.estimators.imagenet import ImageNetClassifier

        return ImageNetClassifier(self.device) if self.imagenet else None

    @cached_property
    def rasterizer(self) -> Rasterizer:
        """Return the rasteriser of the device."""
        return rasterizer(self.device)

    @cached_property
    def cpu_rasterizer(self) -> Rasterizer:
        """Return the rasteriser for what is compared with the toybox, which is on the CPU."""
        return self.rasterizer if self.device == "cpu" else rasterizer("cpu")

    def key(self, run: RunSummary) -> str:
        """Return a digest of all that a run's numbers depend on: the bytes of its splats and of the judges' weights, what its log
        says, and every option.
        """
        told = [
            KEPT,
            __version__,
            list(METRICS),
            asdict(self.protocol),
            [c.name if c else "" for c in (self.clip, self.hard)],
            self.better,
            str(self.image_reward),
            self.prompts,
            self.truth,
            self.imagenet,
            {k: v for k, v in vars(run).items() if k not in ("path", "splats")},
            [sha256_of(splats) for splats in run.splats],
        ]
        return sha256(json.dumps(told, default=str).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Measured:
    """Measurements of one run."""

    run: RunSummary
    measurements: tuple[Measurement, ...]
    features: Float[Tensor, "p v d"] | None  # of every particle's views, by the CLIP
    kept: bool = False  # from beside the run, where an earlier command had left them

    def of(self, metric: str) -> Measurement:
        """Return one of them."""
        return next((m for m in self.measurements if m.metric == metric), Measurement(metric, None, note=NOT_MEASURED))


def measure(run: RunSummary, evaluator: Evaluator) -> Measured:
    """Return the numbers of a run: those kept beside it where the same was measured in the same way, else measured now."""
    folder, key = run.path / FOLDER, evaluator.key(run)
    kept = recall(run, folder, key)
    if kept is not None:
        return kept
    parts = [measured(run, read_splats(splats, drop_invalid=True), evaluator) for splats in run.splats]
    features = torch.stack([f for _, f in parts if f is not None]) if parts and parts[0][1] is not None else None
    seen = [next(m.value for m in found if m.metric == "coverage") or 0.0 for found, _ in parts]
    measurements = [*mean_over([found for found, _ in parts]), *costs(run, min(seen, default=None))]
    if features is not None and len(features) > 1:
        measurements.append(diversity(list(features), "diversity_particles"))
    found = Measured(run, tuple(measurements), features)
    if evaluator.image_reward is None or found.of("image_reward").value is not None:  # a failure of its process may pass
        keep(found, folder, key)
    return found


def measured(run: RunSummary, gaussians: Gaussians, evaluator: Evaluator) -> tuple[list[Measurement], Float[Tensor, "v d"] | None]:
    """Measure one particle; return its numbers and its views' features."""
    protocol, caption = evaluator.protocol.of(run.distance, run.fov), named(run.prompt)
    gaussians = gaussians.to(evaluator.device)
    if not len(gaussians):
        return missing(tuple(METRICS), "there are no splats"), None
    out = protocol.look(gaussians, evaluator.rasterizer)
    measurements, features = by_clip(run, out, caption, evaluator)
    measurements.append(image_reward(out.rgb, run.prompt, evaluator.image_reward))
    measurements += imagenet(out.rgb, run.prompt, evaluator.classifier, "not asked for; --judge imagenet does")
    measurements += [*saturation(out.rgb, out.alpha), edge_width(out.alpha), Measurement("coverage", float(out.alpha.mean()), "pixels")]
    placed = {"views": protocol.views, "resolution": protocol.resolution, "background": protocol.background}
    measurements = [replace(f, **placed) if f.value is not None else f for f in measurements]
    if caption is None or not evaluator.truth:
        why = "the prompt names no object of the toybox, whose truth is known" if caption is None else "not asked for"
        return [*measurements, *missing(NAMES, why)], features
    sight = look(gaussians.to("cpu"), evaluator.cpu_rasterizer)
    scorer = evaluator.hard if evaluator.hard and evaluator.hard.knows(caption) else None
    return [*measurements, *against_truth(sight, caption, scorer and scorer.scorer, scorer.name if scorer else "")], features


def by_clip(
    run: RunSummary, out: RenderOutput, caption: Thing | None, evaluator: Evaluator
) -> tuple[list[Measurement], Float[Tensor, "v d"] | None]:
    """Return what the CLIP says, and the features that it said it from."""
    clip = evaluator.clip
    if clip is None:
        return missing((*CLIP_METRICS, *PAIRS), evaluator.better), None
    with torch.no_grad():
        features = torch.cat([clip.scorer.image_features(part) for part in out.rgb.split(16)]).cpu()
    if not clip.knows(caption):
        return missing((*CLIP_METRICS, *PAIRS), f"{clip.source} does not know all of its words:{GET_CLIP}"), features
    words = [ViewWords().word(a, e) for a, e in zip(out.cameras.azimuth.tolist(), out.cameras.elevation.tolist())]
    texts = [with_view(run.prompt, w) for w in words] if evaluator.protocol.view_words else [run.prompt] * len(words)
    told = "each view with its word" if evaluator.protocol.view_words else ""
    measurements = [noted(f, told) for f in clip_scores(features, clip.scorer.text_features(texts).cpu())]
    measurements.append(r_precision(clip.scorer, features, run.prompt, evaluator.prompts))
    if clip.embedded:
        measurements += missing(("janus",), f"{clip.source} cannot tell front from back even on true objects:{GET_CLIP}")
    elif caption is not None and symmetric(caption):
        measurements += missing(("janus",), "its front and back are the same")
    else:
        measurements.append(janus(clip.scorer, features, out.cameras.azimuth, run.prompt))
    measurements += (
        missing(tuple(PAIRS), f"{clip.source} knows no words for how good a picture is:{GET_CLIP}")
        if clip.embedded
        else clip_iqa(clip.scorer, features)
    )
    return [replace(f, by=clip.name) if f.value is not None else f for f in measurements], features


def named(prompt: str) -> Thing | None:
    """Return the toybox's object that a prompt names, if any; None for a real one whose mesh is not in the package."""
    try:
        thing = understood(prompt)
    except UserError:
        return None
    return thing if has_truth(thing) else None


def mean_over(parts: Sequence[Sequence[Measurement]]) -> list[Measurement]:
    """Return the same measurements of several particles as their means; n/a where one is."""
    if len(parts) == 1:
        return list(parts[0])
    measurements = []
    for same in zip(*parts, strict=True):
        values = [f.value for f in same if f.value is not None]
        whole = len(values) == len(same)
        measurements.append(
            replace(noted(same[0], f"mean of {len(same)} particles"), value=sum(values) / len(values))
            if whole
            else replace(same[0], value=None)
        )
    return measurements


def recall(run: RunSummary, folder: Path, key: str) -> Measured | None:
    """Return what was measured before under this key; None for nothing, or nothing readable."""
    try:
        said = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        features = load_file(folder / f"{key}.safetensors")["features"] if said["features"] else None
        return Measured(run, tuple(Measurement(**m) for m in said["measurements"]), features, kept=True)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def keep(found: Measured, folder: Path, key: str) -> None:
    """Write what was measured beside the run, under its key: what other splats or options gave stays. Where nothing can be written
    the numbers are told all the same, and measured again the next time.
    """
    with suppress(OSError, UserError):
        folder.mkdir(exist_ok=True)
        if found.features is not None:
            with replacing(folder / f"{key}.safetensors") as temporary:
                save_file({"features": found.features.contiguous()}, temporary)
        said = {"features": found.features is not None, "measurements": [asdict(m) for m in found.measurements]}
        write_text(folder / f"{key}.json", json.dumps(said, indent=1, allow_nan=False) + "\n")
