"""Convergence of methods: a score at every checkpoint, against steps, network images and seconds; after SteinDreamer's
measurement 8 (arXiv:2401.00604).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from splatdistill.bench.cost import Cost
from splatdistill.bench.measure_jobs import MeasuredJob, Results
from splatdistill.bench.record import write_json
from splatdistill.evaluate.measure import Evaluator, named
from splatdistill.evaluate.plots import COLOURS, chart, line, picture
from splatdistill.evaluate.run_summary import RunSummary
from splatdistill.train.checkpoint import read_checkpoint
from splatdistill.train.run import RunDir
from splatdistill.train.run_files import step_of

VIEWS = 8  # at each checkpoint


@dataclass(frozen=True)
class Point:
    """Checkpoint."""

    step: int
    calls: float  # network images until here
    seconds: float  # of training until here
    clip_score: float


@dataclass(frozen=True)
class Curve:
    """Scores of all checkpoints of one job, or means over jobs."""

    arm: str
    prompt: str
    seed: int
    points: tuple[Point, ...]


def curve(judged: MeasuredJob, root: Path, cost: Cost | None, judges: Evaluator) -> Curve | None:
    """Return a job's curve, kept beside its run; None without checkpoints or a CLIP that knows the prompt."""
    job, clip = judged.job, judges.clip
    if clip is None or judged.measured is None or not clip.knows(named(job.prompt)):
        return None
    folder = root / job.folder
    run = RunDir(folder / "run")
    places = run.checkpoints()
    digest = sha256(repr((clip.name, judges.protocol.of(judged.measured.run.distance, judged.measured.run.fov), [p.name for p in places], VIEWS, cost)).encode()).hexdigest()[:16]
    file = folder / "run" / "evaluation" / "curve.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        if said["digest"] == digest:
            return Curve(job.arm, job.prompt, job.seed, tuple(Point(**p) for p in said["points"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    spent, calls = seconds(run), judged.measured.of("calls").value or job.calls
    text = clip.scorer.text_features([job.prompt]).cpu()
    points = []
    for place in places:
        step = step_of(place)
        share = cost.until(step / job.steps) if cost else step / job.steps
        points.append(Point(step, calls * share, spent.get(step, 0.0), 100 * float((seen(place, judged.measured.run, judges) @ text.T).mean())))
    write_json(file, {"digest": digest, "points": [asdict(p) for p in points]})
    return Curve(job.arm, job.prompt, job.seed, tuple(points))


@torch.no_grad()
def seen(checkpoint: Path, run: RunSummary, judges: Evaluator) -> Float[Tensor, "v d"]:
    """Return features of the first particle as a checkpoint has it."""
    gaussians = read_checkpoint(checkpoint).scenes()[0].to(judges.device)
    assert judges.clip is not None
    return judges.clip.scorer.image_features(replace(judges.protocol.of(run.distance, run.fov), views=VIEWS).look(gaussians, judges.rasterizer).rgb).cpu()


def seconds(run: RunDir) -> dict[int, float]:
    """Return the seconds of training until each step. A step that was made again after a resumption counts again."""
    total, spent = 0.0, {}
    for event in run.events() if run.log.is_file() else ():
        if event["event"] == "StepDone":
            total += sum(event.get("timing", {}).values())
            spent[event["step"]] = total
    return spent


def means(curves: Sequence[Curve], arms: Sequence[str]) -> list[Curve]:
    """Return one curve for each arm: the k-th checkpoints of its jobs together."""
    made = []
    for arm in arms:
        own = [c.points for c in curves if c.arm == arm]
        points = []
        for same in zip(*own):  # up to the shortest: a run that went wrong ends early
            n = len(same)
            fields = (sum(getattr(p, f) for p in same) / n for f in ("calls", "seconds", "clip_score"))
            points.append(Point(same[0].step, *fields))
        if points:
            made.append(Curve(arm, "", 0, tuple(points)))
    return made


@dataclass(frozen=True)
class Reached:
    """Number of network images after which an arm reached a score."""

    arm: str
    jobs: int
    reached: int  # of them
    median: float | None  # images, over the jobs that reached it; None where less than half did
    mean_threshold: float | None


def calls_to(points: Sequence[Point], score: float) -> float | None:
    """Return the network images until a curve first reaches a score, between checkpoints in a line; None if it never does. A first
    checkpoint that has it already gives its own images: it may have been reached before.
    """
    before: Point | None = None
    for p in points:
        if p.clip_score >= score:
            if before is None or p.clip_score <= before.clip_score:
                return p.calls
            part = (score - before.clip_score) / (p.clip_score - before.clip_score)
            return before.calls + part * (p.calls - before.calls)
        before = p
    return None


def reached(curves: Sequence[Curve], arms: Sequence[str], against: str, score: float | None) -> list[Reached]:
    """Return for every arm the images to a score: the given one, or for each prompt where `against` ends, mean over its seeds."""
    last: dict[str, list[float]] = {}
    for c in curves:
        if c.arm == against and c.points:
            last.setdefault(c.prompt, []).append(c.points[-1].clip_score)
    goals = {p: sum(v) / len(v) for p, v in last.items()}
    found = []
    for arm in arms:
        own = [c for c in curves if c.arm == arm and c.points and (score is not None or c.prompt in goals)]
        aims = [score if score is not None else goals[c.prompt] for c in own]
        took = sorted(v for c, aim in zip(own, aims) if (v := calls_to(c.points, aim)) is not None)
        # the median over all jobs, those that never arrive being last
        middle = took[(len(own) - 1) // 2] if own and len(took) > (len(own) - 1) // 2 else None
        found.append(Reached(arm, len(own), len(took), middle, sum(aims) / len(aims) if aims else None))
    return found


def charts(curves: Sequence[Curve], arms: Sequence[str], by: str) -> dict[str, Float[Tensor, "3 h w"]]:
    """Chart the mean curves against network images and against seconds. by: what measured."""
    mean = means(curves, arms)
    made = {}
    for axis, label in (("calls", "network images"), ("seconds", "seconds of training")) if mean else ():
        axes = chart(f"CLIP score, {by}", label, size=(760, 420))
        for c in mean:
            colour = COLOURS[list(arms).index(c.arm) % len(COLOURS)]
            line(axes, [getattr(p, axis) for p in c.points], [p.clip_score for p in c.points], colour, c.arm[:20])
        axes.set_xlim(left=0.0)
        made[f"curve-{axis}"] = picture(axes)
    return made


def all_curves(
    results: Results, root: Path, costs: dict[str, Cost | None], judges: Evaluator, tell: Callable[[int], None]
) -> list[Curve]:
    """Return the curves of all jobs that have one. tell: how many jobs are done."""
    found = []
    for k, j in enumerate(results.judged):
        found.append(curve(j, root, costs.get(j.job.arm), judges))
        tell(k + 1)
    return [c for c in found if c is not None and c.points]
