"""A first splat: from a sentence to files, as `splatdistill train` does it.

    python scripts/examples/01_first_splat.py

Shows what a run leaves in its folder, and how to hear of every step while it goes on.
"""

from pathlib import Path

import splatdistill
from splatdistill.api import Result
from splatdistill.train.events import Event, StepDone


def tell(event: Event) -> None:
    """Print a line now and then; a run tells its callbacks of everything that happens."""
    if isinstance(event, StepDone) and event.step % 40 == 0:
        print(f"step {event.step} of {event.steps}: noise level {event.t:.2f}, {event.coverage:.0%} of a view is covered")


def main(out: Path = Path("runs/example-first-splat"), steps: int = 240) -> Result:
    """Make a red mushroom, and list the run's files."""
    result = splatdistill.distil("a red mushroom", splatdistill.SDI(), prior="tiny", steps=steps, out=out, callbacks=[tell])
    print(f"{len(result.gaussians)} splats, {result.ended.how}, after asking networks about {result.ended.calls} pictures")
    for path in sorted(p for p in result.folder.iterdir() if p.is_file()):
        print(f"  {path}  {path.stat().st_size:,} bytes")
    return result


if __name__ == "__main__":
    main()
