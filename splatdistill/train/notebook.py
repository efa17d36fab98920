"""Progress of a run in a notebook: a bar and the newest preview, in the cell that runs it."""

import sys
import time
from typing import Any

from splatdistill.io.images import contact_sheet
from splatdistill.io.inline import bar, png_bytes
from splatdistill.train.events import Ended, Event, Preview, StepDone
from splatdistill.train.progress import clock

EVERY = 0.25  # seconds between changes of the display


def in_notebook() -> bool:
    """Return whether IPython runs this process for a notebook, which shows HTML."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython  # pyright: ignore[reportMissingImports]  # there, where it runs this

    return type(get_ipython()).__name__ == "ZMQInteractiveShell"


class NotebookProgress:
    """Callback for events that shows how far a run is."""

    def __init__(self, steps: int, step: int = 0) -> None:
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        self.html, self.png = HTML, None
        self.began, self.first = time.monotonic(), step
        self.told = -EVERY
        self.steps, self.line = steps, f"step {step}/{steps}"
        self.handle: Any = display(HTML(bar(step, steps, self.line)), display_id=True)

    def __call__(self, event: Event) -> None:
        """Show a step, a preview, or the end."""
        match event:
            case StepDone():
                self.line = self.told_of(event)
                self.show(event.step, event.step == event.steps)
            case Preview():
                self.png = png_bytes(contact_sheet(event.views.cpu(), columns=4))
                self.show(event.step)
            case Ended():
                self.line = f"{event.message}, after {clock(time.monotonic() - self.began)}"
                self.show(event.step, True)
            case _:
                pass

    def told_of(self, step: StepDone) -> str:
        """Return a step in a line: how many, how fast, how long still."""
        done, took = step.step - self.first, time.monotonic() - self.began
        left = clock((step.steps - step.step) * took / done) if done > 0 else "?"
        refused = f", {step.refused} steps refused" if step.refused else ""
        return f"step {step.step}/{step.steps}, {done / max(took, 1e-9):.1f} it/s, {step.gaussians} splats{refused}, {left} left"

    def show(self, step: int, at_once: bool = False) -> None:
        """Change the display, unless that was done a moment ago."""
        if not at_once and time.monotonic() - self.told < EVERY:
            return
        self.told = time.monotonic()
        self.handle.update(self.html(bar(step, self.steps, self.line, self.png)))
