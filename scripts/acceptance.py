"""The acceptance table: twelve prompts that the embedded models never saw, judged against the truth.

    python scripts/acceptance.py --train --guidance sdi       # train all twelve as a user would, then judge
    python scripts/acceptance.py runs/a-red-mushroom runs/... # judge finished runs (or folders of runs)
    python scripts/acceptance.py --truth                      # judge the truth itself: a check of the checks

Every row: from how many of 8 views tiny-clip retrieves the prompt among 50 captions (half hard negatives),
silhouette IoU and PSNR against the truth after the best turn about the up axis, the nearest wrong object,
and whether there is a second front. Training can be interrupted and goes on where it stopped. Options that
are not listed below are passed on to `splatdistill train`.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from splatdistill.errors import RunEnded, UserError
from splatdistill.estimators import load_judge
from splatdistill.evaluate.acceptance import PROMPTS_NEEDED, Sight, judge, look, look_at_truth, sheet, table
from splatdistill.evaluate.run_summary import holding
from splatdistill.io.images import write_png
from splatdistill.io.ply import read_comments, read_ply
from splatdistill.priors.weights import TINY, load
from splatdistill.render import rasterizer
from splatdistill.toybox import ACCEPTANCE, Caption, parse
from splatdistill.train.run import RunDir, slug


def ended(run: Path) -> bool:
    """Whether a run came to its end, by its own log; one that was stopped did not."""
    folder = RunDir(run)
    return folder.splats.is_file() and folder.last_events().get("Ended", {}).get("how", "stopped") != "stopped"


def train(out: Path, options: list[str]) -> list[Path]:
    """One run per prompt in `out`, through the command line; finished ones are kept, stopped ones go on."""
    runs = []
    for k, prompt in enumerate(ACCEPTANCE):
        run = out / slug(prompt)
        runs.append(run)
        if ended(run):
            print(f"[{k + 1}/12] {prompt}: done before", flush=True)
            continue
        command = [sys.executable, "-m", "splatdistill", "train"]
        if RunDir(run).checkpoints():
            command += ["--resume", str(run)]
        elif run.exists() and any(run.iterdir()):
            raise UserError(f"{run} holds a run without a checkpoint; remove it or choose another --out")
        else:
            command += ["--prompt", prompt, "--out", str(run), *options]
        print(f"[{k + 1}/12] {prompt}", flush=True)
        began = time.perf_counter()
        status = subprocess.run(command, check=False).returncode
        if status not in (0, RunEnded.code) or not RunDir(run).splats.is_file():  # a run gone wrong is judged as it is
            raise UserError(f"training {prompt!r} ended with status {status}; run this again to go on")
        print(f"[{k + 1}/12] {prompt}: {time.perf_counter() - began:.0f} s", flush=True)
    return runs


def runs_in(folders: list[Path]) -> list[Path]:
    """What can be judged among folders and at any depth inside them: splats, which say themselves what they are of. Unlike
    `splatdistill evaluate`, which counts what a run cost and how it ended, this needs no configuration and no log.
    """
    found = list(dict.fromkeys(run for folder in folders for run in holding(folder, "splats.ply")))
    if not found:
        raise UserError(f"no splats.ply in {', '.join(map(str, folders))}; give run directories, or --train")
    return found


def prompt_of(run: Path) -> str:
    """What a run was asked for, from the comments of its splats."""
    for line in read_comments(run / "splats.ply"):
        if line.startswith("prompt "):
            return line.removeprefix("prompt ")
    raise UserError(f"{run / 'splats.ply'} does not say which prompt it was made from")


def look_at_all(runs: list[Path]) -> tuple[list[Caption], list[Sight]]:
    """What every run should be, and how it looks."""
    render = rasterizer("cpu")
    captions = [parse(prompt_of(run)) for run in runs]
    return captions, [look(read_ply(run / "splats.ply"), render) for run in runs]


def main(argv: list[str] | None = None) -> int:
    """The command line of this script: 0 if enough prompts pass."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s (RUN ... | --train | --truth) [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train", action="store_true", help="train the twelve prompts first")
    parser.add_argument("--truth", action="store_true", help="judge the true objects")
    parser.add_argument("--out", type=Path, default=Path("runs/acceptance"), help="where runs, table and sheet go")
    parser.add_argument("--clip", type=Path, default=TINY.parent / "clip", help="folder of the CLIP that recognises")
    parser.add_argument("--judge", default="tiny", help="prior that looks for second fronts: as --prior of train")
    args, rest = parser.parse_known_args(argv)
    unknown = [r for r in rest if r.startswith("-")]
    if unknown and not args.train:
        parser.error(f"unknown without --train: {' '.join(unknown)}")
    scorer, prior = load_judge(args.clip), load(args.judge)
    if args.truth:
        captions = [parse(p) for p in ACCEPTANCE]
        runs, sights = ["truth"] * len(captions), [look_at_truth(c) for c in captions]
    else:
        runs = train(args.out, rest) if args.train else runs_in([Path(r) for r in rest])
        captions, sights = look_at_all(runs)
    records = []
    for caption, sight in zip(captions, sights, strict=True):
        records.append(judge(sight, caption, scorer, prior, torch.Generator().manual_seed(0)).record())
        print("  ".join(records[-1].cells()), flush=True)
    print(f"\nrecognised by {scorer.name}; fronts by the truth and the prior {prior.name}\n{table(records)}")
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [{"run": str(run), **asdict(r)} for run, r in zip(runs, records, strict=True)]
    (args.out / "acceptance.json").write_text(json.dumps(rows, indent=1) + "\n")
    write_png(args.out / "acceptance.png", sheet(captions, sights))
    print(f"wrote {args.out / 'acceptance.json'} and {args.out / 'acceptance.png'}")
    return 0 if sum(r.passed for r in records) >= min(PROMPTS_NEEDED, len(records)) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.code)
