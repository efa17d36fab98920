"""Measure how long a step of a method takes here, with as many processes beside it as the bench will have: for budgets in seconds."""

from collections.abc import Sequence
from pathlib import Path

from splatdistill.bench.plan import Arm, Job
from splatdistill.bench.record import JobRecord
from splatdistill.errors import UserError
from splatdistill.train.run import RunDir

STEPS = 24  # of a short run, which walks all of its schedules
SKIPPED = 2  # the first ones compile and warm up


def short_runs(arms: Sequence[Arm], common: Sequence[str], prompt: str) -> list[Job]:
    """Return a short run of every method."""
    argv = (*common, f"--prompt={prompt}", "--seed", "0", "--steps", str(STEPS))
    beside = ("--checkpoint-every", "0", "--preview-every", "0")
    return [Job(prompt, arm.name, 0, (*arm.argv, *argv), beside, STEPS, float(STEPS), arm.settings) for arm in arms]


def mean_seconds(folder: Path, job: Job) -> float:
    """Return the mean over the steps in a run's log."""
    record = JobRecord.read(folder)
    run = RunDir(folder / "run")
    events = run.events() if run.log.is_file() else []
    taken = [sum(e.get("timing", {}).values()) for e in events if e["event"] == "StepDone"][SKIPPED:]
    if not taken:
        said = record.error if record else "it was stopped"
        raise UserError(
            f"how long a step of {job.arm} takes could not be measured: {said}\nIts short run is in {folder}"
        )
    return sum(taken) / len(taken)


def steps_for(seconds: float, arms: Sequence[Arm], per_step: dict[str, float]) -> dict[str, int]:
    """Return how many steps each arm's share of the seconds pays for; at least one."""
    return {a.name: max(1, round(seconds * a.share / per_step[a.name])) for a in arms}
