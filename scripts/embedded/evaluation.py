"""Measure the embedded models: is tiny-clip to be trusted, and does the prior draw what it is asked for?

    python scripts/evaluate_tiny.py                                # what the package carries
    python scripts/evaluate_tiny.py --prior DIR --clip DIR --samples 40 --sheet samples.png --json tiny.json

Prints, for colour-object pairs that were trained and that were held out: for how many true pictures tiny-clip
retrieves the caption among 50 (half hard negatives), or at least one with its object and colours, with one look and with
those of a judge; the same of samples of the prior (DDIM, guidance 5); how many samples show the view that was asked for,
by the nearest view of the true object, or in sets of four the side that their cameras see, of toys and of real objects where the prior knows them; and how reliable the two
judges of views are on true pictures. A share p of n
pictures is known to about 2 sqrt(p (1 - p) / n).
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch

from splatdistill.cameras import DIRECTIONS, VIEW_WORDS
from splatdistill.errors import UserError
from splatdistill.estimators import TINY_CLIP, ClipScorer, load_judge
from splatdistill.estimators.weights import find
from splatdistill.evaluate.clip_model import clip_model
from splatdistill.evaluate.embedded_models import (
    Obeyed,
    RealSide,
    Retrieval,
    cameras_obeyed,
    draw_captions,
    draw_real_captions,
    draw_samples,
    draw_sets,
    fronted_captions,
    fronted_real_captions,
    judge_judges,
    obeyed,
    retrieval,
    true_pictures,
    true_real_pictures,
)
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.weights import load
from splatdistill.toybox import ACCEPTANCE, parse
from splatdistill.toybox.pack import PackedWorld
from splatdistill.toybox.real import RealCaption
from splatdistill.toybox.things import Thing
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
    parser.add_argument("--clip", default=TINY_CLIP, help="the CLIP to measure, which judges the samples: tiny-clip, world-clip or a folder")
    parser.add_argument("--pack", type=Path, help="what scripts/pack_world.py wrote: true pictures of real objects too, for a CLIP that knows them")
    parser.add_argument("--only-clip", action="store_true", help="measure the CLIP on true pictures, not the prior")
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
    began, report = time.perf_counter(), {"scale": args.scale, "steps": args.steps}
    measure_clip(args, report)
    if not args.only_clip:
        measure_prior(args, report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - began:.0f} s")


def measure_clip(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Measure for how many true pictures the CLIP retrieves the caption, with one look and with those of a judge."""
    clip = find(args.clip, "clip")
    once, scorer, world = ClipScorer(clip), load_judge(clip), PackedWorld.load(args.pack) if args.pack else None
    judges = (once, scorer) if once.name != scorer.name else (scorer,)
    report["clip"] = scorer.name
    for side, held_out in SIDES.items():
        images, captions, _ = true_pictures(args.pictures, 900 + args.seed, held_out)
        for judge in judges:
            found = retrieval(judge, images, captions)
            for family, share in found.items():
                say(f"{judge.name} on true pictures, {side}, {family}", share, RETRIEVED)
            report[f"retrieval by {judge.name}, {side}"] = {f: asdict(share) for f, share in found.items()}
    for side in get_args(RealSide) if world else ():
        images, real = true_real_pictures(world, args.pictures, 900 + args.seed, side)
        for judge in judges:
            share = retrieval(judge, images, real)["all"]
            say(f"{judge.name} on true real objects, {side}", share, RETRIEVED)
            report[f"retrieval of real objects by {judge.name}, {side}"] = asdict(share)


def measure_prior(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Measure samples of the prior, and on true pictures the judges of views."""
    clip, prior, rng = clip_model(args.clip), load(args.prior), torch.Generator().manual_seed(args.seed)
    scorer = clip.scorer
    sets = load(args.prior, views=4) if getattr(prior, "cameras", False) else None
    judges = judge_judges(prior, fronted_captions(False, args.seed), rng)
    say("views of true pictures, by the nearest true view", judges.by_truth, OBEYED)
    say("views of true pictures, by the prior's error", judges.by_prior, OBEYED)
    report |= {"prior": prior.name, "judges": asdict(judges)}
    for side, held_out in SIDES.items():
        samples = draw_samples(prior, draw_captions(args.samples, held_out, 7 + args.seed), rng, args.scale, args.steps)
        found = retrieval(scorer, samples.images, samples.captions)
        for family, share in found.items():
            say(f"samples of {prior.name} by {scorer.name}, {side}, {family}", share, RECOGNISED)
        report[f"samples, {side}"] = {"retrieval": {f: asdict(share) for f, share in found.items()}}
        if sets is not None and clip.knows(RealCaption("horse")):
            samples = draw_samples(prior, draw_real_captions(args.samples, held_out, 7 + args.seed), rng, args.scale, args.steps)
            share = retrieval(scorer, samples.images, samples.captions)["all"]
            say(f"samples of real objects by {scorer.name}, {side}", share, RECOGNISED)
            report[f"samples of real objects, {side}"] = asdict(share)
        toys = fronted_captions(held_out, args.seed, args.colours)
        around = obeyed(draw_samples(prior, toys, rng, args.scale, args.steps, words=DIRECTIONS), DIRECTED)
        say(f"eighths of a turn obeyed by samples of {prior.name}, {side}", around, OBEYED)
        report[f"samples, {side}"] |= {"directions": asdict(around)}
        real = fronted_real_captions(held_out, args.seed, args.colours) if sets is not None else []
        for what, captions in {"toys": toys, "real objects": real}.items():
            if captions:
                report[f"views of {what}, {side}"] = measure_views(prior, sets, captions, f"{what}, {side}", rng, args)
    if args.sheet:
        shown = draw_samples(prior, [parse(p) for p in ACCEPTANCE], rng, args.scale, args.steps)
        labels = [f"{c}, {w}" for c, w in zip(shown.captions, shown.words, strict=True)]
        pictures = torch.nn.functional.interpolate(shown.images, scale_factor=2.0)
        write_png(args.sheet, contact_sheet(pictures, 3 * len(VIEW_WORDS), labels))
        print(f"wrote {args.sheet}: the acceptance prompts, held out, from four views each")


def measure_views(
    prior: DiffusionPrior, sets: DiffusionPrior | None, captions: Sequence[Thing], which: str, rng: torch.Generator, args: argparse.Namespace
) -> dict[str, Any]:
    """Measure how many samples show the view that their words ask for, and in sets of four the side that their cameras see."""
    views = obeyed(draw_samples(prior, captions, rng, args.scale, args.steps))
    say(f"views obeyed by samples of {prior.name}, {which}", views, OBEYED)
    told = {"words": asdict(views)}
    if sets is not None:
        cameras = cameras_obeyed(draw_sets(sets, captions, rng, args.scale, args.steps))
        say(f"cameras obeyed by sets of {prior.name}, {which}", cameras, CAMERAS)
        told |= {"cameras": asdict(cameras)}
    return told
