"""Everything that is measured of one finished run, kept beside it so that it is measured once."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill import __version__
from splatdistill.cameras import ViewWords, with_view
from splatdistill.errors import UserError
from splatdistill.evaluate.acceptance import look
from splatdistill.evaluate.finished import Finished, costs
from splatdistill.evaluate.metrics import METRICS, Figure, missing, noted
from splatdistill.evaluate.metrics.against_truth import NAMES, against_truth
from splatdistill.evaluate.metrics.clip_iqa import PAIRS, clip_iqa
from splatdistill.evaluate.metrics.clip_score import clip_scores
from splatdistill.evaluate.metrics.diversity import diversity
from splatdistill.evaluate.metrics.image_reward import image_reward
from splatdistill.evaluate.metrics.janus import janus
from splatdistill.evaluate.metrics.r_precision import r_precision
from splatdistill.evaluate.metrics.saturation import saturation
from splatdistill.evaluate.metrics.sharpness import edge_width
from splatdistill.evaluate.protocol import GET_CLIP, Protocol, Ruler
from splatdistill.gaussians import Gaussians
from splatdistill.io import read_splats
from splatdistill.io.atomic import replacing
from splatdistill.render import Rasterizer, RenderOutput
from splatdistill.toybox import Caption, parse

CLIP_METRICS = ("clip_score", "clip_distance", "r_precision", "janus")


@dataclass(frozen=True)
class Laboratory:
    """What runs are measured with."""

    protocol: Protocol
    ruler: Ruler | None
    tiny_clip: Ruler | None  # for hard retrieval on the toybox
    rasterizer: Rasterizer  # on the device of `device`
    device: str = "cpu"
    better: str = ""  # how to get a better ruler
    image_reward: Path | None = None
    prompts: tuple[str, ...] = ()  # to retrieve among
    truth: bool = True  # compare with the toybox's objects where prompts name them

    def digest(self, run: Finished) -> str:
        """Of all that a run's numbers depend on."""
        files = [
            (str(f), f.stat().st_size, f.stat().st_mtime_ns)
            for f in (*run.splats, run.path / "log.jsonl")
            if f.is_file()
        ]
        names = [r.name if r else "" for r in (self.ruler, self.tiny_clip)]
        told = [
            __version__,
            list(METRICS),
            asdict(self.protocol),
            names,
            self.better,
            str(self.image_reward),
            self.prompts,
            self.truth,
            files,
        ]
        return sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Measured:
    """One run's numbers."""

    run: Finished
    figures: tuple[Figure, ...]
    features: Float[Tensor, "p v d"] | None  # of every particle's views, by the ruler

    def of(self, metric: str) -> Figure:
        """One of them."""
        return next((f for f in self.figures if f.metric == metric), Figure(metric, None, note="not measured"))


def measure(run: Finished, lab: Laboratory) -> Measured:
    """The numbers of a run: from beside it if nothing has changed, else measured."""
    folder, digest = run.path / "evaluation", lab.digest(run)
    kept = recall(run, folder, digest)
    if kept is not None:
        return kept
    parts = [measured(run, read_splats(splats, drop_invalid=True), lab) for splats in run.splats]
    features = torch.stack([f for _, f in parts if f is not None]) if parts and parts[0][1] is not None else None
    seen = [next(f.value for f in figures if f.metric == "coverage") or 0.0 for figures, _ in parts]
    figures = [*mean_over([figures for figures, _ in parts]), *costs(run, min(seen, default=None))]
    if features is not None and len(features) > 1:
        figures.append(diversity(list(features), "diversity_particles"))
    found = Measured(run, tuple(figures), features)
    keep(found, folder, digest)
    return found


def measured(run: Finished, gaussians: Gaussians, lab: Laboratory) -> tuple[list[Figure], Float[Tensor, "v d"] | None]:
    """The numbers of one particle, and its views' features."""
    protocol, caption = lab.protocol, named(run.prompt)
    gaussians = gaussians.to(lab.device)
    if not len(gaussians):
        return missing(tuple(METRICS), "there are no splats"), None
    out = protocol.look(gaussians, lab.rasterizer)
    figures, features = by_clip(run, out, caption, lab)
    figures.append(image_reward(out.rgb, run.prompt, lab.image_reward))
    figures += [*saturation(out.rgb, out.alpha), edge_width(out.alpha), Figure("coverage", float(out.alpha.mean()), "pixels")]
    placed = {"views": protocol.views, "resolution": protocol.resolution, "background": protocol.background}
    figures = [replace(f, **placed) if f.value is not None else f for f in figures]
    if caption is None or not lab.truth:
        why = "the prompt names no object of the toybox, whose truth is known" if caption is None else "not asked for"
        return [*figures, *missing(NAMES, why)], features
    sight = look(gaussians.to("cpu"), lab.rasterizer if lab.device == "cpu" else cpu())
    scorer = lab.tiny_clip
    return [*figures, *against_truth(sight, caption, scorer and scorer.scorer, scorer.name if scorer else "")], features


def by_clip(
    run: Finished, out: RenderOutput, caption: Caption | None, lab: Laboratory
) -> tuple[list[Figure], Float[Tensor, "v d"] | None]:
    """What the ruler says, and the features that it said it from."""
    ruler = lab.ruler
    if ruler is None:
        return missing((*CLIP_METRICS, *PAIRS), lab.better), None
    with torch.no_grad():
        features = torch.cat([ruler.scorer.image_features(part) for part in out.rgb.split(16)]).cpu()
    if ruler.tiny and caption is None:
        return missing((*CLIP_METRICS, *PAIRS), f"tiny-clip knows the toybox's words alone: {GET_CLIP}"), features
    words = [ViewWords().word(a, e) for a, e in zip(out.cameras.azimuth.tolist(), out.cameras.elevation.tolist())]
    texts = [with_view(run.prompt, w) for w in words] if lab.protocol.view_words else [run.prompt] * len(words)
    told = "each view with its word" if lab.protocol.view_words else ""
    figures = [noted(f, told) for f in clip_scores(features, ruler.scorer.text_features(texts).cpu())]
    figures.append(r_precision(ruler.scorer, features, run.prompt, lab.prompts))
    if ruler.tiny:
        figures += missing(("janus",), f"tiny-clip cannot tell front from back even on true objects: {GET_CLIP}")
    elif caption is not None and caption.symmetric:
        figures += missing(("janus",), "its front and back are the same")
    else:
        figures.append(janus(ruler.scorer, features, out.cameras.azimuth, run.prompt))
    figures += (
        missing(tuple(PAIRS), f"tiny-clip knows no words for how good a picture is: {GET_CLIP}")
        if ruler.tiny
        else clip_iqa(ruler.scorer, features)
    )
    return [replace(f, by=ruler.name) if f.value is not None else f for f in figures], features


def named(prompt: str) -> Caption | None:
    """The toybox's object that a prompt names, if any."""
    try:
        return parse(prompt)
    except UserError:
        return None


def mean_over(parts: Sequence[Sequence[Figure]]) -> list[Figure]:
    """The same figures of several particles as their means; n/a where one is."""
    if len(parts) == 1:
        return list(parts[0])
    figures = []
    for same in zip(*parts, strict=True):
        values = [f.value for f in same if f.value is not None]
        whole = len(values) == len(same)
        figures.append(
            replace(noted(same[0], f"mean of {len(same)} particles"), value=sum(values) / len(values))
            if whole
            else replace(same[0], value=None)
        )
    return figures


def recall(run: Finished, folder: Path, digest: str) -> Measured | None:
    """What was measured before in the same way; None for nothing."""
    try:
        said = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        if said["digest"] != digest:
            return None
        file = folder / "features.safetensors"
        features = load_file(file)["features"] if said["features"] else None
        return Measured(run, tuple(Figure(**f) for f in said["figures"]), features)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def keep(found: Measured, folder: Path, digest: str) -> None:
    """Write what was measured beside the run."""
    folder.mkdir(exist_ok=True)
    if found.features is not None:
        with replacing(folder / "features.safetensors") as temporary:
            save_file({"features": found.features.contiguous()}, temporary)
    said = {"digest": digest, "features": found.features is not None, "figures": [asdict(f) for f in found.figures]}
    with replacing(folder / "figures.json") as temporary:
        temporary.write_text(json.dumps(said, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def cpu() -> Rasterizer:
    """The rasteriser for what is compared with the toybox, which is on the CPU."""
    from splatdistill.render import rasterizer

    return rasterizer("cpu")
