"""The acceptance table: twelve prompts of toys and 24 of real objects that the embedded models never saw, judged against the truth.

    python scripts/acceptance.py --train --guidance sdi       # train all twelve toys as a user would, then judge
    python scripts/acceptance.py --train --prompts real --prior world
    python scripts/acceptance.py runs/a-red-mushroom runs/... # judge finished runs (or folders of runs)
    python scripts/acceptance.py --truth                      # judge the truth itself: a check of the checks
    python scripts/acceptance.py runs/... --references world  # beside them what the prior draws, and splats fitted to the truth

Every row: from how many of 8 views a CLIP retrieves the prompt among 50 captions (half hard negatives); silhouette IoU and
PSNR against the truth after the best turn about the up axis; the nearest wrong object;
and whether there is a second front. Training can be interrupted and goes on where it stopped. Options that
are not listed below are passed on to `splatdistill train`.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from splatdistill.api import settle
from splatdistill.errors import RunEnded, UserError
from splatdistill.estimators.imagenet import ImageNetClassifier
from splatdistill.evaluate.acceptance import Sight, judge, look, look_at_truth, needed, sheet, table
from splatdistill.evaluate.acceptance_runs import JudgeNetworks, judge_file, prompt_of, runs_in, splats_of
from splatdistill.evaluate.clip_model import clip_model
from splatdistill.evaluate.metrics.imagenet import named
from splatdistill.evaluate.metrics.imagenet import table as table_of_classes
from splatdistill.evaluate.metrics.sharpness import edge_width
from splatdistill.evaluate.references import fitted, sampled
from splatdistill.evaluate.truth import likeness
from splatdistill.io.atomic import write_text
from splatdistill.io.images import write_png
from splatdistill.priors.weights import find, load
from splatdistill.render import Rasterizer
from splatdistill.toybox import ACCEPTANCE
from splatdistill.toybox.real_split import SPLIT
from splatdistill.toybox.things import Thing, understood
from splatdistill.train.run import RunDir, slug


def ended(run: Path) -> bool:
    """Return True if a run came to its end, by its own log; one that was stopped did not."""
    folder = RunDir(run)
    return folder.splats.is_file() and folder.last_events().get("Ended", {}).get("how", "stopped") != "stopped"


def train(prompts: tuple[str, ...], out: Path, options: list[str]) -> list[Path]:
    """Make one run per prompt in `out`, through the command line; finished ones are kept, stopped ones go on."""
    runs = []
    for k, prompt in enumerate(prompts):
        run = out / slug(prompt)
        runs.append(run)
        if ended(run):
            print(f"[{k + 1}/{len(prompts)}] {prompt}: done before", flush=True)
            continue
        command = [sys.executable, "-m", "splatdistill", "train"]
        if RunDir(run).checkpoints():
            command += ["--resume", str(run)]
        elif run.exists() and any(run.iterdir()):
            raise UserError(f"{run} holds a run without a checkpoint; remove it or choose another --out")
        else:
            command += ["--prompt", prompt, "--out", str(run), *options]
        print(f"[{k + 1}/{len(prompts)}] {prompt}", flush=True)
        began = time.perf_counter()
        status = subprocess.run(command, check=False).returncode
        if status not in (0, RunEnded.code) or not RunDir(run).splats.is_file():  # a run gone wrong is judged as it is
            raise UserError(f"training {prompt!r} ended with status {status}; run this again to go on")
        print(f"[{k + 1}/{len(prompts)}] {prompt}: {time.perf_counter() - began:.0f} s", flush=True)
    return runs


def named_by_imagenet(classifier: ImageNetClassifier, captions: list[Thing], sights: list[Sight]) -> str:
    """Return each prompt's ImageNet class: its probability in eight views of the splats and of the truth, and what either is taken for."""
    lines, both = [], [0, 0]
    for caption, sight in zip(captions, sights, strict=True):
        if (noun := table_of_classes().noun(str(caption))) is None:
            lines.append(f"{caption!s:32} none of ImageNet's classes")
            continue
        own, true = (named(classifier.probabilities(s.seen.rgb), noun) for s in (sight, look_at_truth(caption)))
        both = [both[0] + (own[2] and true[2]), both[1] + true[2]]
        lines.append(f"{caption!s:32} {own[0]:6.1%} {own[1]:24} truth {true[0]:6.1%} {true[1]}")
    return "\n".join([f"by {classifier.name}, an ImageNet classifier:", *lines, f"named right: {both[0]} of the {both[1]} whose truth is"])


def beside(prompts: list[str], prior: str, rasterizer: Rasterizer) -> str:
    """Return each prompt's references: PSNR of sets that the prior draws, and PSNR, IoU and outline of splats fitted to the truth."""
    drawing = load(prior, views=4)
    lines = ["references: the prior's own sets of four (dB, on their own backgrounds); as many splats fitted to the truth (dB, IoU, outline in % of the side)"]
    rows = []
    for prompt in prompts:
        thing = understood(prompt)
        drawn = sampled(drawing, thing, torch.Generator().manual_seed(0))
        splats = fitted(settle(prompt, "sdi", {"prior": prior})[0].config, thing, drawing.image_size, rasterizer)
        seen = look(splats, rasterizer).seen
        near, edge = likeness(seen, thing), edge_width(seen.alpha).value or math.nan
        rows.append((drawn.psnr, near.psnr.mean().item(), near.iou.mean().item(), edge))
        lines.append("{:32} {:5.1f}   {:5.1f}  {:.2f}  {:.1f}".format(prompt, *rows[-1]))
    return "\n".join([*lines, "{:32} {:5.1f}   {:5.1f}  {:.2f}  {:.1f}".format("mean", *torch.tensor(rows).mean(0).tolist())])


def main(argv: list[str] | None = None) -> int:
    """Run this script's command line; return 0 if enough prompts pass."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s (RUN ... | --train | --truth) [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", action="store_true", help="train the twelve prompts first")
    parser.add_argument("--truth", action="store_true", help="judge the true objects")
    parser.add_argument("--prompts", choices=("toys", "real", "all"), default="toys", help="with --train or --truth: the twelve toys, the 24 real objects, or both")
    parser.add_argument("--out", type=Path, help="where runs, table and sheet go; by default runs/acceptance, or runs/acceptance-truth with --truth")
    parser.add_argument("--clip", help="the CLIP that recognises: tiny-clip (toys), world-clip (all), a folder, or a hub id; by default tiny-clip for toys and world-clip for real objects")
    parser.add_argument("--fronts", default="tiny", help="prior that looks for second fronts: as --prior of train")
    parser.add_argument("--judge", choices=("clip", "imagenet"), default="clip", help="imagenet: an ImageNet classifier looks at splats and truth too")
    parser.add_argument("--references", metavar="PRIOR", help="an embedded prior: beside the splats, its own pictures, and splats fitted to the truth")
    args, rest = parser.parse_known_args(argv)
    unknown = [r for r in rest if r.startswith("-")]
    if unknown and not args.train:
        parser.error(f"unknown without --train: {' '.join(unknown)}")
    args.out = args.out or Path("runs/acceptance-truth" if args.truth else "runs/acceptance")
    classifier = ImageNetClassifier() if args.judge == "imagenet" else None  # which may lack its packages: said before hours of work
    judges = JudgeNetworks(clip_model(args.clip) if args.clip else None, find(args.fronts))
    prompts = (*(ACCEPTANCE if args.prompts != "real" else ()), *(SPLIT.truth if args.prompts != "toys" else ()))
    runs: list[Path] = []
    if args.truth:
        captions = [understood(p) for p in prompts]
        sights = [look_at_truth(c) for c in captions]
    else:
        runs = train(prompts, args.out, rest) if args.train else runs_in([Path(r) for r in rest])
        captions = [understood(prompt_of(run)) for run in runs]
        sights = [look(splats_of(run / "splats.ply"), judges.rasterizer) for run in runs]
    records = []
    for k, (caption, sight) in enumerate(zip(captions, sights, strict=True)):
        if args.truth:
            records.append(judge(sight, caption, judges.clip_of(caption).scorer, judges.prior, torch.Generator().manual_seed(0)).record())
        else:
            records.append(judge_file(runs[k] / "splats.ply", caption, judges, sight))
        print("  ".join(records[-1].cells()), flush=True)
    named = [str(run) for run in runs] or ["truth"] * len(records)
    clips = ", ".join(dict.fromkeys(judges.clip_of(c).name for c in captions))
    print(f"\nrecognised by {clips}; fronts by the truth and the prior {args.fronts}\n{table(records)}")
    if classifier is not None:
        print("\n" + named_by_imagenet(classifier, captions, sights))
    if args.references:
        print("\n" + beside([str(c) for c in captions], args.references, judges.rasterizer))
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [{"run": str(run), **asdict(r)} for run, r in zip(named, records, strict=True)]
    write_text(args.out / "acceptance.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
    write_png(args.out / "acceptance.png", sheet(captions, sights))
    print(f"wrote {args.out / 'acceptance.json'} and {args.out / 'acceptance.png'}")
    return 0 if sum(r.passed for r in records) >= needed(len(records)) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
