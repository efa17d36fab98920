"""Measure a generator of the toybox on prompts that it was trained on, on new ones, and on ones that its prior never saw either.

    python scripts/evaluate_generator.py runs/192-prompts
    python scripts/evaluate_generator.py runs/192-prompts --count 48 --sheet generator.png --json generator.json

New: colour-object pairs that the embedded prior knows and that `amortise --corpus toybox` leaves out, of the objects in its corpus; held
out: pairs that neither saw. Of every prompt: IoU of silhouettes and PSNR against the toybox's truth after the best turn about the up axis, from how
many of 8 views the embedded tiny-clip names object and colour right among 50 captions, and the colour alone. Beside them, on the new
ones, three baselines that a generator must beat: the splats of the seen prompt whose text is nearest, those of a seen prompt with the
same object in another colour, and the generator itself told another colour. The means of paired differences to them have 95 % intervals of a bootstrap
over prompts.

Recall@1: of every prompt of its corpus, the share of 8 views whose nearest text among all prompts of the corpus is its own, by
tiny-clip; true objects beside it. As in ScaleDreamer (arXiv:2407.02040), with its corpora and CLIP ViT-L/14 there.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from splatdistill.bench.statistics import interval
from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.estimators import ClipScorer, ImageTextScorer, load_judge
from splatdistill.estimators.weights import FOLDERS, TINY_CLIP
from splatdistill.evaluate.acceptance import look
from splatdistill.evaluate.retrieval import recall_at_one, recognised
from splatdistill.evaluate.truth import best_turn, likeness
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.render import rasterizer
from splatdistill.scene.generator.saved import Generator
from splatdistill.toybox import COLOURS, HELD_OUT, Caption, parse
from splatdistill.toybox.split import NEW
from splatdistill.toybox.things import draw
from splatdistill.toybox.world import SIZE, VIEWS


@dataclass(frozen=True)
class Found:
    """Measurements of one prompt's splats."""

    prompt: str
    iou: float
    psnr: float
    right: float  # share of views whose object and colour are right
    colour: float


def measure(g: Gaussians, caption: Caption, scorer: ImageTextScorer) -> tuple[Found, torch.Tensor]:
    """Return the measurements of splats that should be a caption's object, and two pictures of them."""
    seen = look(g, rasterizer("cpu")).seen
    best = likeness(seen, caption, best_turn(seen.rgb, seen.cameras, caption).degrees)
    named = recognised(scorer, seen.rgb, caption)
    both = (named.object_right & named.colour_right).float().mean().item()
    return Found(str(caption), best.iou.mean().item(), best.psnr.mean().item(), both, named.colour_right.float().mean().item()), seen.rgb[[0, 4]]


def spread(captions: Sequence[Caption], count: int) -> list[Caption]:
    """Return so many captions, spread over a list."""
    return [captions[i] for i in sorted({round(k) for k in np.linspace(0, len(captions) - 1, min(count, len(captions)))})]


def report(name: str, found: Sequence[Found]) -> dict[str, object]:
    """Print the means over some prompts with their standard errors; return all of it."""
    means: dict[str, object] = {}
    words = []
    for key, unit in (("iou", ".3f"), ("psnr", ".1f"), ("right", ".1%"), ("colour", ".1%")):
        values = np.array([getattr(f, key) for f in found])
        error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        means[key], means[f"{key} error"] = float(values.mean()), float(error)
        words.append(f"{key} {values.mean():{unit}} ± {error:{unit}}")
    print(f"{name:38} {len(found):3} prompts  {'  '.join(words)}", flush=True)
    return means | {"prompts": [asdict(f) for f in found]}


def recall(generator: Generator, scorer: ClipScorer, views: int) -> dict[str, float]:
    """Print and return Recall@1 over the corpus, in percent, and the same of the true objects where all prompts are the toybox's."""
    around = orbit(torch.arange(views) * (360.0 / views), 15.0, *VIEWS.middle, SIZE)
    render, white = rasterizer("cpu"), torch.ones(views, 3)
    with torch.no_grad():
        texts = scorer.text_features(list(generator.corpus))
        made = torch.stack([scorer.image_features(render(generator(p), around, white).rgb.clamp(0, 1)) for p in generator.corpus])
        true = torch.stack([scorer.image_features(draw(parse(p), around).rgb) for p in generator.corpus])
    found = {name: 100 * recall_at_one(images, texts) for name, images in (("Recall@1", made), ("Recall@1 of true objects", true))}
    for name, shares in found.items():
        print(f"{name:38} {shares.mean():.1f} ± {shares.std() / len(shares) ** 0.5:.1f} % of {views} views among {len(shares)} prompts", flush=True)
    return {name: float(shares.mean()) for name, shares in found.items()}


def against(name: str, own: Sequence[Found], theirs: Sequence[Found]) -> dict[str, list[float | None]]:
    """Print and return the mean differences of the generator on the new prompts to a baseline, with 95 % intervals."""
    told: dict[str, list[float | None]] = {}
    for key in ("iou", "psnr", "right", "colour"):
        mean, low, high = interval({(o.prompt, 0): getattr(o, key) - getattr(t, key) for o, t in zip(own, theirs, strict=True)})
        told[key] = [mean, low, high]
    words = [f"{key} {mean:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if low is not None and high is not None else "") for key, (mean, low, high) in told.items()]
    print(f"  new less {name}: {'  '.join(words)}", flush=True)
    return told


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of `splatdistill amortise --corpus toybox`")
    parser.add_argument("--count", type=int, default=24, help="prompts of each kind")
    parser.add_argument("--recall", type=int, default=8, help="views of Recall@1; 0: without it")
    parser.add_argument("--sheet", type=Path, default=None, help="write pictures here: the new prompts, front and back")
    parser.add_argument("--json", type=Path, default=None, help="write the measurements here")
    args = parser.parse_args(argv)
    try:
        generator = Generator.load(args.folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    scorer, began = load_judge(FOLDERS[TINY_CLIP]), time.perf_counter()
    try:
        seen = [parse(prompt) for prompt in generator.corpus]
    except UserError as error:
        print(f"error: its corpus holds a prompt without a truth: {error}", file=sys.stderr)
        return error.code
    there = {caption.kind for caption in seen}
    pairs = {"new": sorted(NEW), "held out": sorted(HELD_OUT)}
    kinds = {"seen": seen} | {name: [Caption(kind, colour) for colour, kind in these if kind in there] for name, these in pairs.items()}
    if leaked := {str(c) for name in pairs for c in kinds[name]} & set(generator.corpus):
        print(f"error: its corpus holds {sorted(leaked)[0]!r}, which should be new to it; train with --corpus toybox", file=sys.stderr)
        return UserError.code
    told: dict[str, object] = {"folder": str(args.folder), "prompts of its corpus": len(generator.corpus)}
    shown, labels = [], []
    found: dict[str, list[Found]] = {}
    for name, captions in kinds.items():
        found[name] = []
        for caption in spread(captions, args.count):
            with torch.no_grad():
                one, pictures = measure(generator(str(caption)), caption, scorer)
            found[name].append(one)
            if name == "new":
                shown.append(pictures)
                labels += [str(caption), ""]
        told[name] = report(name, found[name])
    rng, known = np.random.default_rng(0), set(generator.corpus)
    instead: dict[str, list[Found]] = {"the nearest seen prompt's splats": [], "another seen colour's splats": [], "told another colour": []}
    for caption in spread(kinds["new"], args.count):
        others = [c for c in COLOURS if str(replace(caption, colour=c)) in known]
        wrong = rng.choice([c for c in COLOURS if c != caption.colour])
        said = [generator.nearest(str(caption)), str(replace(caption, colour=others[rng.integers(len(others))])) if others else None, str(replace(caption, colour=str(wrong)))]
        for name, prompt in zip(instead, said, strict=True):
            if prompt is not None:
                with torch.no_grad():
                    instead[name].append(measure(generator(prompt), caption, scorer)[0])
    for name, theirs in instead.items():
        if theirs:
            own = {f.prompt: f for f in found["new"]}
            told[f"new, {name}"] = report(f"new, {name}", theirs)
            told[f"new less {name}"] = against(name, [own[t.prompt] for t in theirs], theirs)
    if args.recall:
        told |= recall(generator, scorer, args.recall)
    if args.sheet:
        write_png(args.sheet, contact_sheet(torch.cat(shown), 8, labels))
        print(f"wrote {args.sheet}")
    if args.json:
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
