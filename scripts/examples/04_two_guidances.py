"""Two guidances compared at equal cost, with the objects behind `splatdistill bench`.

    python scripts/examples/04_two_guidances.py

Shows how a bench is settled, run and concluded. Every run is a process of its own, and none is made twice: start the script
again and it goes on where it was.
"""

from contextlib import contextmanager
from pathlib import Path
from threading import Event

from splatdistill.bench import run
from splatdistill.bench.conclude import Conclusion, Measuring, conclude
from splatdistill.bench.options import Bench
from splatdistill.bench.record import write_json
from splatdistill.bench.settle import settle


@contextmanager
def quietly(what: str, total: int):
    """Yield a progress callback that prints nothing."""
    yield lambda done: None


def main(out: Path = Path("runs/example-bench"), amount: float = 400.0) -> Conclusion:
    """Compare SDS and CSD on one prompt, each with so many network images; print the tables."""
    options = Bench(prompt=("a red mushroom",), guidances=("sds", "csd"), prior="tiny", budget="calls", amount=amount, samples=0, points=0, out=out)
    planned, root = settle(options), out.absolute()
    jobs = run.jobs_of(planned, planned.steps)
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "bench.json", planned.as_record(jobs, []))
    print(f"{len(jobs)} runs: {', '.join(f'{name} {steps} steps' for name, steps in planned.steps.items())}")
    run.make(options, planned, jobs, root / "jobs", Event(), lambda job, record: print(f"{job.arm}: {record.how}"), lambda part: None)
    found = conclude(planned, jobs, root, Measuring(None, "clip", 0, None), quietly)
    print("\n".join([*found.lines, *found.failures]))
    return found


if __name__ == "__main__":
    main()
