"""Measure the embedded models: is tiny-clip to be trusted, and does the prior draw what it is asked for?

    python scripts/evaluate_tiny.py                                # what the package carries
    python scripts/evaluate_tiny.py --prior DIR --clip DIR --samples 40 --sheet samples.png --json tiny.json

Prints, for colour-object pairs that were trained and that were held out: for how many true pictures tiny-clip
retrieves the caption among 50 (half hard negatives), or at least one with its object and colours, with one look and with
those of a judge; the same of samples of the prior (DDIM, guidance 5); how many samples show the view that was asked for,
by the nearest view of the true object, or in sets of four the side that their cameras see; and how reliable the two judges of views are on true pictures. A share p of n
pictures is known to about 2 sqrt(p (1 - p) / n).
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from splatdistill.cameras import DIRECTIONS, VIEW_WORDS
from splatdistill.errors import UserError
from splatdistill.estimators import ClipScorer, load_judge
from splatdistill.evaluate.embedded_models import (
    Obeyed,
    Retrieval,
    cameras_obeyed,
    draw_captions,
    draw_samples,
    draw_sets,
    fronted_captions,
    judge_judges,
    obeyed,
    retrieval,
    true_pictures,
)
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.priors.weights import TINY, load
from splatdistill.toybox import ACCEPTANCE, parse
from splatdistill.toybox.world import DIRECTED

SIDES = {"trained": False, "held out": True}
RETRIEVED, RECOGNISED, OBEYED, CAMERAS = 0.95, 0.90, 0.85, 0.95  # wanted


def say(what: str, found: Retrieval | Obeyed, wanted: float) -> None:
    """Print one line: the measurement, its number of pictures, and the wanted value."""
    if isinstance(found, Retrieval):
        measurements = f"caption {found.caption:.1%}  object and colour {found.both:.1%}  object {found.object:.1%}  colour {found.colour:.1%}"
    else:
        measurements = f"{found.all:.1%}  " + "  ".join(f"{w} {share:.0%}" for w, share in found.words)
    print(f"{what:52} {measurements}  of {found.count} (wanted: {wanted:.0%})", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prior", default="tiny", help="the prior to measure, as --prior of splatdistill train")
    parser.add_argument("--clip", type=Path, default=TINY.parent / "clip", help="folder of the CLIP to measure")
    parser.add_argument("--pictures", type=int, default=1000, help="true pictures per side of the split")
    parser.add_argument("--samples", type=int, default=24, help="captions per side of the split; four samples of each")
    parser.add_argument("--colours", type=int, default=1, help="of each object with a front, when views are asked for")
    parser.add_argument("--scale", type=float, default=5.0, help="classifier-free guidance")
    parser.add_argument("--steps", type=int, default=25, help="DDIM steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, default=None, help="write a sheet of samples here")
    parser.add_argument("--json", type=Path, default=None, help="write the measurements here")
    args = parser.parse_args(argv)
    try:
        measure(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    return 0


def measure(args: argparse.Namespace) -> None:
    """Measure on true pictures, then on samples of the prior; print each figure, and write the sheet and the JSON file if named."""
    once, scorer, prior, began = ClipScorer(args.clip), load_judge(args.clip), load(args.prior), time.perf_counter()
    sets = load(args.prior, views=4) if getattr(prior, "cameras", False) else None
    rng, report = (
        torch.Generator().manual_seed(args.seed),
        {"clip": scorer.name, "prior": prior.name, "scale": args.scale, "steps": args.steps},
    )
    for side, held_out in SIDES.items():
        images, captions, _ = true_pictures(args.pictures, 900 + args.seed, held_out)
        for judge in (once, scorer) if once.name != scorer.name else (scorer,):
            found = retrieval(judge, images, captions)
            for family, share in found.items():
                say(f"{judge.name} on true pictures, {side}, {family}", share, RETRIEVED)
            report[f"retrieval by {judge.name}, {side}"] = {f: asdict(share) for f, share in found.items()}
    judges = judge_judges(prior, fronted_captions(False, args.seed), rng)
    say("views of true pictures, by the nearest true view", judges.by_truth, OBEYED)
    say("views of true pictures, by the prior's error", judges.by_prior, OBEYED)
    report["judges"] = asdict(judges)
    for side, held_out in SIDES.items():
        samples = draw_samples(prior, draw_captions(args.samples, held_out, 7 + args.seed), rng, args.scale, args.steps)
        found = retrieval(scorer, samples.images, samples.captions)
        for family, share in found.items():
            say(f"samples of {prior.name} by {scorer.name}, {side}, {family}", share, RECOGNISED)
        with_fronts = fronted_captions(held_out, args.seed, args.colours)
        fronted = draw_samples(prior, with_fronts, rng, args.scale, args.steps)
        views = obeyed(fronted)
        say(f"views obeyed by samples of {prior.name}, {side}", views, OBEYED)
        around = draw_samples(prior, with_fronts, rng, args.scale, args.steps, words=DIRECTIONS)
        directions = obeyed(around, DIRECTED)
        say(f"eighths of a turn obeyed by samples of {prior.name}, {side}", directions, OBEYED)
        if sets is not None:
            cameras = cameras_obeyed(draw_sets(sets, with_fronts, rng, args.scale, args.steps))
            say(f"cameras obeyed by sets of {prior.name}, {side}", cameras, CAMERAS)
            report[f"sets, {side}"] = {"cameras": asdict(cameras)}
        report[f"samples, {side}"] = {
            "retrieval": {f: asdict(share) for f, share in found.items()},
            "views": asdict(views),
            "directions": asdict(directions),
        }
    if args.sheet:
        shown = draw_samples(prior, [parse(p) for p in ACCEPTANCE], rng, args.scale, args.steps)
        labels = [f"{c}, {w}" for c, w in zip(shown.captions, shown.words, strict=True)]
        write_png(
            args.sheet,
            contact_sheet(torch.nn.functional.interpolate(shown.images, scale_factor=2.0), 3 * len(VIEW_WORDS), labels),
        )
        print(f"wrote {args.sheet}: the acceptance prompts, held out, from four views each")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - began:.0f} s")
