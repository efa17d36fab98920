"""The gallery: methods x prompts with the same seeds and equal network calls, on one sheet, judged as acceptance.py judges.

    python scripts/gallery.py                      # make what is missing (`splatdistill bench`), then judge all of it
    python scripts/gallery.py --judge runs/gallery # judge a bench that is there

Any bench of toybox prompts will do (--preset). For every run: from how many of 8 views tiny-clip retrieves the prompt among
50 captions, silhouette IoU and PSNR against the truth, the nearest wrong object, a second front, and whether all of it
passes. Writes gallery.json, and of the first seed gallery.png: a row for each prompt and side, a column for each method,
the truth last. Prints the table of scripts/README.md: this beside what the bench has measured.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from splatdistill.bench.gallery import collect, judged, planned, sheet, summary, with_the_bench
from splatdistill.cli import bench
from splatdistill.errors import UserError
from splatdistill.evaluate.acceptance import table
from splatdistill.evaluate.acceptance_runs import JudgeNetworks
from splatdistill.io.atomic import write_text
from splatdistill.io.images import write_png
from splatdistill.priors.weights import find


def main() -> int:
    """Run this script's command line; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", type=Path, help="the folder of a bench; make no runs")
    parser.add_argument("--preset", default="gallery", help="of the bench")
    parser.add_argument("--out", type=Path, default=Path("runs/gallery"), help="where the bench goes")
    parser.add_argument("--workers", type=int, help="runs at a time; by default one for each processor")
    args = parser.parse_args()
    root = args.judge or args.out
    if args.judge is None:
        argv = ["--preset", args.preset, "--out", str(root), "--samples", "0"]
        status = bench.command([*argv, *(["--workers", str(args.workers)] if args.workers else [])])
        if status > 1:
            return status
    plan, judges = planned(root), JudgeNetworks(None, find("tiny"))
    runs = collect(root, plan, judges)
    prompts, methods = plan["prompts"], [a["name"] for a in plan["arms"]]
    write_png(root / "gallery.png", sheet(runs, prompts, methods, judges.rasterizer))
    records = [{"method": r.method, "seed": r.seed, "how": r.how, **(asdict(r.judged) if r.judged else {"prompt": r.prompt})} for r in runs]
    write_text(root / "gallery.json", json.dumps(records, indent=1, allow_nan=False) + "\n")
    for method in methods:
        if rows := judged(runs, method):
            print(f"\n{method}\n{table(rows).rsplit(chr(10), 1)[0]}")
    print(f"\n{summary(runs, methods)}\ntwo thirds are wanted of every method\n{root / 'gallery.png'}")
    if (root / "results.json").is_file():
        print(f"\n{with_the_bench(root, runs, methods, plan['against'])}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as e:
        sys.exit(f"error: {e}")
