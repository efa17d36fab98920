"""Measure a generator of the toybox on prompts that it was trained on, on new ones, and on ones that its prior never saw either.

    python scripts/evaluate_generator.py runs/192-prompts
    python scripts/evaluate_generator.py runs/192-prompts --count 48 --sheet generator.png --json generator.json

New: colour-object pairs that the embedded prior knows and that `amortise --corpus toybox` leaves out; held out: pairs that
neither saw. Of every prompt: IoU of silhouettes and PSNR against the toybox's truth after the best turn about the up axis, from how
many of 8 views the embedded tiny-clip names object and colour right among 50 captions, and the colour alone. Beside them, on the new
ones, two baselines that a generator must beat: the splats of a prompt of the corpus with the same object in another
colour, and the generator itself told another colour.
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

from splatdistill.errors import UserError
from splatdistill.estimators import ImageTextScorer, load_judge
from splatdistill.estimators.weights import FOLDERS, TINY_CLIP
from splatdistill.evaluate.acceptance import look
from splatdistill.evaluate.retrieval import recognised
from splatdistill.evaluate.truth import best_turn, likeness
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.render import rasterizer
from splatdistill.scene.generator.saved import Generator
from splatdistill.toybox import COLOURS, HELD_OUT, Caption
from splatdistill.toybox.split import NEW, corpus


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
    print(f"{name:30} {len(found):3} prompts  {'  '.join(words)}", flush=True)
    return means | {"prompts": [asdict(f) for f in found]}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of `splatdistill amortise --corpus toybox`")
    parser.add_argument("--count", type=int, default=24, help="prompts of each kind")
    parser.add_argument("--sheet", type=Path, default=None, help="write pictures here: the new prompts, front and back")
    parser.add_argument("--json", type=Path, default=None, help="write the measurements here")
    args = parser.parse_args(argv)
    try:
        generator = Generator.load(args.folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    scorer, began = load_judge(FOLDERS[TINY_CLIP]), time.perf_counter()
    pairs = {"new": sorted(NEW), "held out": sorted(HELD_OUT)}
    kinds = {"seen": corpus()} | {name: [Caption(kind, colour) for colour, kind in these] for name, these in pairs.items()}
    if leaked := {str(c) for name in pairs for c in kinds[name]} & set(generator.corpus):
        print(f"error: its corpus holds {sorted(leaked)[0]!r}, which should be new to it; train with --corpus toybox", file=sys.stderr)
        return UserError.code
    told: dict[str, object] = {"folder": str(args.folder), "prompts of its corpus": len(generator.corpus)}
    shown, labels = [], []
    for name, captions in kinds.items():
        found = []
        for caption in spread(captions, args.count):
            with torch.no_grad():
                one, pictures = measure(generator(str(caption)), caption, scorer)
            found.append(one)
            if name == "new":
                shown.append(pictures)
                labels += [str(caption), ""]
        told[name] = report(name, found)
    rng, known = np.random.default_rng(0), set(generator.corpus)
    nearest, shuffled = [], []
    for caption in spread(kinds["new"], args.count):
        others = [c for c in COLOURS if str(replace(caption, colour=c)) in known]
        said = replace(caption, colour=others[rng.integers(len(others))])
        wrong = replace(caption, colour=str(rng.choice([c for c in COLOURS if c != caption.colour])))
        with torch.no_grad():
            nearest.append(measure(generator(str(said)), caption, scorer)[0])
            shuffled.append(measure(generator(str(wrong)), caption, scorer)[0])
    told["new, a seen prompt's splats"] = report("new, a seen prompt's splats", nearest)
    told["new, told another colour"] = report("new, told another colour", shuffled)
    if args.sheet:
        write_png(args.sheet, contact_sheet(torch.cat(shown), 8, labels))
        print(f"wrote {args.sheet}")
    if args.json:
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
