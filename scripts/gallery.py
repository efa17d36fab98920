"""The gallery: methods x prompts with the same seeds and equal network calls, on one sheet, judged as acceptance.py judges.

    python scripts/gallery.py                      # make what is missing (`splatdistill bench`), then judge all of it
    python scripts/gallery.py --judge runs/gallery # judge a bench that is there

Any bench of toybox prompts will do (--preset). For every run: from how many of 8 views tiny-clip retrieves the prompt among
50 captions, silhouette IoU and PSNR against the truth, the nearest wrong object, a second front, and whether all of it
passes. Writes gallery.json, and of the first seed gallery.png: a row for each prompt and side, a column for each method,
the truth last. Prints the table of the README: this beside what the bench has measured.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.bench.record import JobRecord as Ending
from splatdistill.bench.sheet import looks, side_by_side
from splatdistill.cameras import orbit
from splatdistill.cli import bench
from splatdistill.errors import UserError
from splatdistill.estimators import ImageTextScorer, load_judge
from splatdistill.evaluate.acceptance import Record, judge, look, table
from splatdistill.gaussians import Gaussians
from splatdistill.io.images import write_png
from splatdistill.io.ply import read_ply
from splatdistill.priors import DiffusionPrior
from splatdistill.priors.weights import TINY, load
from splatdistill.render import Rasterizer, rasterizer
from splatdistill.toybox import parse
from splatdistill.toybox.world import VIEWS as WORLD

BESIDE = {  # of the bench's metrics: what they are called, and their digits
    "iou": ("IoU", 2),
    "psnr": ("PSNR", 1),
    "depth_error": ("depth error", 3),
    "edge_width": ("outline %", 1),
    "clipped": ("clipped %", 1),
    "diversity": ("diversity", 3),
}
SIDES = orbit([30.0, 210.0], 15.0, *WORLD.middle, 96)  # of a sheet's pictures


@dataclass(frozen=True)
class Run:
    """One place of the gallery."""

    method: str
    prompt: str
    seed: int
    how: str  # its run ended
    splats: Gaussians | None
    judged: Record | None


def planned(root: Path) -> dict:
    """What a bench was to do: its own record."""
    try:
        return json.loads((root / "bench.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{root} holds no bench.json that can be read ({e}); expected the folder of a bench") from e


def collect(root: Path, plan: dict, scorer: ImageTextScorer, prior: DiffusionPrior, render: Rasterizer) -> list[Run]:
    """Every run of a bench that has ended, judged."""
    runs = []
    for job in plan["jobs"]:
        folder = root / job["folder"]
        ending = Ending.read(folder)
        if ending is None:
            continue
        splats, row, ply = None, None, folder / "run" / "splats.ply"
        if ply.is_file():
            splats = read_ply(ply)
            row = judge(look(splats, render), parse(ending.prompt), scorer, prior, torch.Generator().manual_seed(0)).record()
            print(f"{ending.arm:16} {'  '.join(row.cells())}", flush=True)
        runs.append(Run(ending.arm, ending.prompt, ending.seed, ending.how, splats, row))
    return runs


def sheet(runs: list[Run], prompts: list[str], methods: list[str], rasterize: Rasterizer) -> Float[Tensor, "3 h w"]:
    """Two rows per prompt, front and back, of the first seed; a run that passes has a star."""
    first = min((r.seed for r in runs), default=0)
    at = {(r.method, r.prompt): r for r in runs if r.seed == first}

    def shown(prompt: str, method: str) -> tuple[str, Float[Tensor, "v 3 h w"] | str]:
        run = at.get((method, prompt))
        if run is None or run.splats is None:
            return method, "no run" if run is None else run.how
        return method + "*" * bool(run.judged and run.judged.passed), looks(run.splats, rasterize, SIDES)

    return side_by_side(prompts, methods, SIDES, "", shown)


def summary(runs: list[Run], methods: list[str]) -> str:
    """A line for each method."""
    lines = [f"{'method':16}  pass  views  IoU   PSNR   nearer than wrong by"]
    for method in methods:
        rows = judged(runs, method)
        if not rows:
            lines.append(f"{method:16}  no run")
            continue
        n = len(rows)
        mean = [sum(v) / n for v in zip(*((r.views_right, r.iou, r.psnr, r.psnr - r.wrong_psnr) for r in rows), strict=True)]
        passed = sum(r.passed for r in rows)
        lines.append(f"{method:16}  {passed}/{n}   {mean[0]:.2f}   {mean[1]:.2f}  {mean[2]:.1f}   {mean[3]:+.1f} dB")
    return "\n".join(lines)


def with_the_bench(root: Path, runs: list[Run], methods: list[str], against: str) -> str:
    """The table of the README: what was judged here, and what the bench has measured of the same runs; bold where a metric
    differs from the baseline's at 5 % after Holm.
    """
    told = json.loads((root / "results.json").read_text(encoding="utf-8"))
    holm = {(c["metric"], c["arm"]): c["holm"] for c in told["comparisons"]}
    lines = ["| method | pass | views | " + " | ".join(name for name, _ in BESIDE.values()) + " |", "| --- " * (3 + len(BESIDE)) + "|"]
    for method in sorted(methods, key=lambda m: (-sum(r.passed for r in judged(runs, m)), -sum(r.views_right for r in judged(runs, m)))):
        rows = judged(runs, method)
        cells = [f"{sum(r.passed for r in rows)}/{len(rows)}", f"{sum(r.views_right for r in rows) / max(len(rows), 1):.1f}"]
        measurements = [f for run in told["runs"] if run["arm"] == method for f in run["measurements"]] + told["pooled"][method]
        for metric, (_, digits) in BESIDE.items():
            values = [f["value"] for f in measurements if f["metric"] == metric and f["value"] is not None]
            cell = f"{sum(values) / len(values):.{digits}f}" if values else "n/a"
            surely = method != against and (p := holm.get((metric, method))) is not None and p < 0.05
            cells.append(f"**{cell}**" if surely else cell)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def judged(runs: list[Run], method: str) -> list[Record]:
    """What was judged of one method."""
    return [r.judged for r in runs if r.method == method and r.judged]


def main() -> int:
    """The command line of this script."""
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
    plan, render = planned(root), rasterizer("cpu")
    runs = collect(root, plan, load_judge(TINY.parent / "clip"), load("tiny"), render)
    prompts, methods = plan["prompts"], [a["name"] for a in plan["arms"]]
    write_png(root / "gallery.png", sheet(runs, prompts, methods, render))
    records = [{"method": r.method, "seed": r.seed, "how": r.how, **(asdict(r.judged) if r.judged else {"prompt": r.prompt})} for r in runs]
    (root / "gallery.json").write_text(json.dumps(records, indent=1) + "\n")
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
