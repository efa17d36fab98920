"""A finished run as its folder tells it: what was asked for, how it ended, what it cost."""

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

from splatdistill.cameras import Orbit
from splatdistill.errors import UserError
from splatdistill.evaluate.metrics import Measurement
from splatdistill.train.events import Verdict
from splatdistill.train.run import ASIDE, RunDir

VERDICTS = get_args(Verdict)


@dataclass(frozen=True)
class RunSummary:
    """Summary of one run: its folder, prompt and splats."""

    path: Path
    prompt: str
    guidance: str
    prior: str
    seed: int
    particles: int
    distance: float  # middle of its cameras', world units
    fov: float  # middle of its cameras', degrees
    recipe: str  # a digest of all options but the prompt and the seed: runs that share it are one method's
    how: str  # done, stopped, or a verdict; "" where the log does not say
    steps: int
    seconds: float | None  # of its steps
    peak_memory: float | None  # bytes
    calls: int | None
    splats: tuple[Path, ...]  # of every particle; none where nothing was written

    @property
    def diverged(self) -> bool:
        """Return True if it ended by a verdict."""
        return self.how in VERDICTS


def holding(path: Path, *names: str) -> list[Path]:
    """Return the folder itself if it holds files of all these names, else those at any depth inside it that do, in order, but
    for runs that were set aside.
    """
    if all((path / n).is_file() for n in names):
        return [path]
    inside = sorted(p.parent for p in path.glob(f"**/{names[0]}"))
    return [p for p in inside if ASIDE not in p.relative_to(path).parts and all((p / n).is_file() for n in names)]


def summarise(path: Path) -> RunSummary:
    """Read a run directory; UserError for what is none."""
    folder = RunDir(path)
    try:
        said = folder.settings()  # those in force at the end: a run is measured against what it was steered to
        guidance = said["guidance"]
        own = {k: v for k, v in said.items() if k not in ("prompt", "seed", "checkpoint_every", "preview_every")}
        facts: dict[str, Any] = {
            "prompt": str(said["prompt"]),
            "guidance": str(guidance["name"] if isinstance(guidance, dict) else guidance),
            "prior": str(said["prior"]),
            "seed": int(said["seed"]),
            "particles": int(said.get("particles", 1)),
            **dict(zip(("distance", "fov"), cameras_of(said.get("cameras")).middle, strict=True)),
            "recipe": sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()[:12],
        }
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"{folder.config} is not the configuration of a run ({type(e).__name__}: {e})") from e
    splats = tuple(p for k in range(facts["particles"]) if (p := folder.artefact("splats.ply", k)).is_file())
    return RunSummary(path, **facts, **logged(folder), splats=splats)


def cameras_of(said: Any) -> Orbit:
    """Return the cameras that a configuration says a run was trained with; those of the default where it says none."""
    known = {k: tuple(map(float, said[k])) for k in ("distance", "fov") if k in said} if isinstance(said, dict) else {}
    return replace(Orbit(), **known)


def logged(run: RunDir) -> dict[str, Any]:
    """Return how a run ended and what it cost. A run that was resumed has an Ended for each of its parts; where a part left none,
    or is of a version that did not count, images are not known.
    """
    how, steps, seconds, calls, peak = "", 0, 0.0, 0, 0
    begun = told = 0
    for event in run.events() if run.log.is_file() else ():
        match event["event"]:
            case "StepDone":
                begun = max(begun, 1)
                steps, seconds = event["step"], seconds + sum(event.get("timing", {}).values())
            case "Resumed":
                begun, steps = begun + 1, event["step"]
            case "Ended":
                how, told = event["how"], told + ("calls" in event)
                calls, peak = calls + event.get("calls", 0), max(peak, event.get("peak_memory", 0))
    whole = told == begun > 0
    return {
        "how": how,
        "steps": steps,
        "seconds": seconds if begun else None,
        "calls": calls if whole else None,
        "peak_memory": float(peak) if peak else None,
    }


def costs(run: RunSummary, seen: float | None, least: float = 0.002) -> list[Measurement]:
    """Return what it cost, and whether it came to anything. seen: mean alpha over all views, None where there are no splats; one
    below `least` counts as diverged, as an empty volume does in SDI's tables (arXiv:2405.15891).
    """
    empty = seen < least if seen is not None else run.how == "done"
    how = run.how if run.diverged else "nothing is seen" if empty else ""
    known = run.diverged or seen is not None or run.how == "done"
    log, old = "the run's log", "its log does not say; it is of an earlier version, or of a process that was killed"
    return [
        Measurement("diverged", 100.0 * (run.diverged or empty), f"{log} and the renders", detail=how)
        if known
        else Measurement("diverged", None, note="the run has not come to its end"),
        Measurement("seconds", run.seconds, log) if run.seconds is not None else Measurement("seconds", None, note=old),
        Measurement("peak_memory", run.peak_memory / 2**30, log)
        if run.peak_memory
        else Measurement("peak_memory", None, note=old),
        Measurement("calls", float(run.calls), log) if run.calls is not None else Measurement("calls", None, note=old),
        Measurement("steps", float(run.steps), log),
    ]
