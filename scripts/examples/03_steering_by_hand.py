"""A run that is stepped and steered by hand, as in a notebook.

    python scripts/examples/03_steering_by_hand.py

Shows the session behind every run: take steps, look at pictures and at what the prior makes of a view, and change a setting
while it goes on. The page of a run does the same from a browser.
"""

from pathlib import Path

import torch

import splatdistill
from splatdistill.io.images import contact_sheet, write_png
from splatdistill.train.commands import SetField


def main(out: Path = Path("runs/example-steering"), steps: int = 240) -> Path:
    """Run half of the steps, raise the scale, and run the rest; write a sheet of both states and the prior's estimate."""
    session = splatdistill.session("a blue snowman", "sds", prior="tiny", steps=steps)
    around = splatdistill.orbit([0, 90, 180, 270], width=128)
    for _ in range(steps // 2):
        session.step()
    before = session.render(around)
    session.apply(SetField("guidance.scale", 15.0))  # from the next step on
    for _ in range(steps - steps // 2):
        done = session.step()
    estimate = session.estimate()  # of the last views: (x_t - sigma eps) / alpha, decoded
    assert estimate is not None
    estimate = torch.nn.functional.interpolate(estimate, (128, 128)).repeat(4, 1, 1, 1)[:4]
    path = out / "sheet.png"
    write_png(path, contact_sheet(torch.cat([before, session.render(around), estimate]), columns=4))
    print(f"step {done.step}, scale {session.config.guidance.scale}; halfway, in the end, what the prior sees: {path}")
    return path


if __name__ == "__main__":
    main()
