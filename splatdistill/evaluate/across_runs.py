"""Measurements that take several runs: of one method over prompts and seeds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from splatdistill.cameras import with_view
from splatdistill.evaluate.clip_model import ClipModel
from splatdistill.evaluate.measure import Measured
from splatdistill.evaluate.metrics import Measurement
from splatdistill.evaluate.metrics.diversity import diversity
from splatdistill.evaluate.metrics.fid import fid
from splatdistill.evaluate.protocol import Protocol
from splatdistill.io.atomic import replacing
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.sampling import sample
from splatdistill.priors.weights import Found

WORDS = ("front", "side", "back", "side")  # of the samples, in turn: what a walk around sees
SCALE, STEPS, BATCH = 5.0, 25, 32  # of sampling


def by_prompt(runs: Sequence[Measured]) -> dict[str, Measurement]:
    """Return diversity over the seeds of each prompt that has several; of the first particles."""

    def prompt(found: Measured) -> str:
        return found.run.prompt

    measurements = {}
    for name, same in groupby(sorted(runs, key=prompt), key=prompt):
        results = list({m.run.seed: m.features[0] for m in same if m.features is not None}.values())
        if len(results) > 1:
            measurements[name] = diversity(results)
    return measurements


def across_seeds(measurements: Sequence[Measurement]) -> Measurement:
    """Return diversity over the seeds of each prompt, mean over prompts."""
    if not measurements:
        return Measurement("diversity", None, note="there is only one seed of each prompt, or no CLIP")
    value = sum(f.value or 0.0 for f in measurements) / len(measurements)
    return replace(measurements[0], value=value, note=f"{measurements[0].note} each, mean over {len(measurements)} prompts")


def from_the_prior(runs: Sequence[Measured], samples: dict[str, Float[Tensor, "m d"]], by: str) -> Measurement:
    """Return the Fréchet distance of all renders of a method to the prior's samples for the same prompts."""
    seen = [m for m in runs if m.features is not None and m.run.prompt in samples]
    if not seen:
        return Measurement("fid", None, note="no samples of the prior were drawn (--samples 0), or there is no CLIP")
    renders = torch.cat([m.features.flatten(0, 1) for m in seen if m.features is not None])
    return replace(fid(renders, torch.cat([samples[p] for p in dict.fromkeys(m.run.prompt for m in seen)]), by), by=by)


def identity(found: Found) -> str:
    """Return a name for a prior's weights that changes with their files: hashing gigabytes would take longer than it saves."""
    root = found.path.parent if found.embedded == "tiny" else found.path  # the models of the toys share one file
    files = [(f.relative_to(root).as_posix(), (about := f.stat()).st_size, about.st_mtime_ns) for f in sorted(root.rglob("*.safetensors"))]
    return repr((found.name, files))


def samples_of(
    name: str,
    load: Callable[[], DiffusionPrior],
    clip: ClipModel,
    prompts: Sequence[str],
    count: int,
    folder: Path,
    tell: Callable[[int], None],
) -> dict[str, Float[Tensor, "m d"]]:
    """Return features of `count` samples of a prior for each prompt (DDIM, 25 steps, guidance 5, with words for views), kept in
    a folder and drawn once.

    name: of the prior's weights, and of their version; load: called where samples must be drawn; tell: how many prompts are done.
    """
    found, prior = {}, None
    for k, prompt in enumerate(prompts):
        key = repr((name, clip.name, prompt, count, SCALE, STEPS))
        file = folder / f"{sha256(key.encode()).hexdigest()[:20]}.safetensors"
        try:
            found[prompt] = load_file(file)["features"]
        except (OSError, SafetensorError, KeyError):
            prior = prior or load()
            found[prompt] = drawn(prior, clip, prompt, count)
            with replacing(file) as temporary:
                save_file({"features": found[prompt]}, temporary)
        tell(k + 1)
    return found


@torch.no_grad()
def drawn(prior: DiffusionPrior, clip: ClipModel, prompt: str, count: int) -> Float[Tensor, "m d"]:
    """Return features of new samples, from a seed of the prompt's own."""
    rng = torch.Generator().manual_seed(int(sha256(prompt.encode()).hexdigest()[:8], 16))
    asked = [with_view(prompt, WORDS[k % len(WORDS)]) for k in range(count)]
    parts = [asked[i : i + BATCH] for i in range(0, count, BATCH)]
    return torch.cat(
        [clip.scorer.image_features(sample(prior, p, SCALE, STEPS, rng=rng).float()).cpu() for p in parts]
    ).contiguous()


def placed(measurement: Measurement, protocol: Protocol) -> Measurement:
    """Return a pooled measurement with the views that it is of."""
    if measurement.value is None:
        return measurement
    return replace(measurement, views=protocol.views, resolution=protocol.resolution, background=protocol.background)
