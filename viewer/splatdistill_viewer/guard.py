"""An error of the viewer ends the viewer, not the run."""

import contextlib
import traceback
from collections.abc import Callable
from pathlib import Path


class Guard:
    """Wrapper for calls of the viewer: the first error switches the viewer off and is reported once; KeyboardInterrupt passes.

    report: takes one line. trace: the file that gets the traceback.
    """

    def __init__(self, report: Callable[[str], None], trace: Path | None = None) -> None:
        self.report, self.trace = report, trace
        self.off = False
        self.on_off: list[Callable[[], None]] = []

    def __call__(self, do: Callable[..., None], *args: object) -> None:
        """Call the function, unless the viewer is off."""
        if self.off:
            return
        try:
            do(*args)
        except Exception as e:  # whatever it is, the run is not to suffer from it
            self.fail(e)

    def fail(self, e: Exception) -> None:
        """Switch the viewer off and report the error, once."""
        if self.off:
            return
        self.off = True
        with contextlib.suppress(Exception):
            where = ""
            if self.trace is not None:
                self.trace.write_text("".join(traceback.format_exception(e)), encoding="utf-8", errors="backslashreplace")
                where = f" ({self.trace} has the traceback)"
            self.report(f"the viewer failed and is switched off; the run goes on: {type(e).__name__}: {e}{where}")
        for do in self.on_off:
            with contextlib.suppress(Exception):
                do()
