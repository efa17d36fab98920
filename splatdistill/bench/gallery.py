"""The gallery: methods x prompts with the same seeds on one sheet, each run judged as the acceptance table judges."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from splatdistill.bench.record import JobRecord
from splatdistill.bench.sheet import looks, side_by_side
from splatdistill.cameras import orbit
from splatdistill.errors import UserError
from splatdistill.evaluate.acceptance import AcceptanceRecord
from splatdistill.evaluate.acceptance_runs import JudgeNetworks, judge_file, splats_of
from splatdistill.gaussians import Gaussians
from splatdistill.render import Rasterizer
from splatdistill.toybox.things import understood
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
    """Run that fills one cell of the gallery."""

    method: str
    prompt: str
    seed: int
    how: str  # its run ended
    splats: Gaussians | None
    judged: AcceptanceRecord | None


def planned(root: Path) -> dict:
    """Read what a bench was to do: its own record."""
    try:
        return json.loads((root / "bench.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{root} holds no bench.json that can be read ({e}); expected the folder of a bench") from e


def collect(root: Path, plan: dict, judges: JudgeNetworks, tell: Callable[[str], None] = print) -> list[Run]:
    """Judge every run of a bench that has ended. tell: takes a line for each."""
    runs = []
    for job in plan["jobs"]:
        folder = root / job["folder"]
        ending = JobRecord.read(folder)
        if ending is None:
            continue
        splats, row, ply = None, None, folder / "run" / "splats.ply"
        if ply.is_file():
            splats = splats_of(ply)
            row = judge_file(ply, understood(ending.prompt), judges)
            tell(f"{ending.arm:16} {'  '.join(row.cells())}")
        runs.append(Run(ending.arm, ending.prompt, ending.seed, ending.how, splats, row))
    return runs


def sheet(runs: list[Run], prompts: list[str], methods: list[str], rasterize: Rasterizer) -> Float[Tensor, "3 h w"]:
    """Draw two rows per prompt, front and back, of the first seed; a run that passes has a star."""
    first = min((r.seed for r in runs), default=0)
    at = {(r.method, r.prompt): r for r in runs if r.seed == first}

    def shown(prompt: str, method: str) -> tuple[str, Float[Tensor, "v 3 h w"] | str]:
        run = at.get((method, prompt))
        if run is None or run.splats is None:
            return method, "no run" if run is None else run.how
        return method + "*" * bool(run.judged and run.judged.passed), looks(run.splats, rasterize, SIDES)

    return side_by_side(prompts, methods, SIDES, "", shown)


def summary(runs: list[Run], methods: list[str]) -> str:
    """Return a line for each method."""
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
    """Return the table of the README: what was judged here, and what the bench has measured of the same runs; bold where a metric
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


def judged(runs: list[Run], method: str) -> list[AcceptanceRecord]:
    """Return what was judged of one method."""
    return [r.judged for r in runs if r.method == method and r.judged]
