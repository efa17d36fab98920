"""Common parts of all pages: a server, whoever looks on, what they ask for, and an end."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import viser

from splatdistill.errors import UserError
from splatdistill.io.text import printable
from splatdistill_viewer.browsers import Browser, Browsers
from splatdistill_viewer.guard import Guard
from splatdistill_viewer.server import Server
from splatdistill_viewer.work_queue import WorkQueue

PAUSE = 0.03  # seconds between two looks at what is asked


class Page(ABC):
    """Page that is open until Ctrl-C, prints its address, and is closed once.

    report: takes one line for the terminal. trace: the file for the traceback of an error of the viewer. server: an existing
    server, in place of a new one at `port` that also answers to the names `hosts`.
    """

    def __init__(
        self,
        label: str,
        port: int,
        report: Callable[[str], None],
        trace: Path | None = None,
        server: Server | None = None,
        hosts: Sequence[str] = (),
    ) -> None:
        self.closed = False
        self.report: Callable[[str], None] = lambda text: report(printable(text))
        self.guard = Guard(self.report, trace)
        self.asked = WorkQueue()  # for the thread that computes
        self.server = server or Server(port, label, hosts)

    def open(self) -> None:
        """Accept browsers, those already connected first."""
        self.browsers = Browsers(self.server, self.guard, self.furnish)

    @abstractmethod
    def furnish(self, client: viser.ClientHandle) -> Browser:
        """Add a page's own controls and splats."""

    def work(self, most: int = 1) -> None:
        """Run at most `most` queued requests; a UserError is shown on the page."""
        for _ in range(most):
            if (do := self.asked.take()) is None:
                return
            try:
                do()
            except UserError as e:
                self.browsers.tell("That did not work", str(e))

    def serve(self, tick: Callable[[], None], going: Callable[[], bool] = lambda: True) -> None:
        """Call `tick` repeatedly while `going` is true, until Ctrl-C or an error of the viewer."""
        try:
            while not self.guard.off and going():
                self.guard(tick)
                time.sleep(PAUSE)
        except KeyboardInterrupt:
            pass

    def close(self) -> None:
        """Stop the server."""
        if not self.closed:
            self.closed = True
            self.server.end()

    @property
    def port(self) -> int:
        """Return the port of the server."""
        return self.server.get_port()

    @property
    def where(self) -> tuple[str, str]:
        """Return the page's address on this machine, and the line to type on another one."""
        return self.server.addresses
