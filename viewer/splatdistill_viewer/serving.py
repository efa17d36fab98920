"""What every page does, whatever it shows: it stays until Ctrl-C, says where it is, and is closed once."""

import time
from collections.abc import Callable

import viser

from splatdistill_viewer.page import Guard, addresses, end

PAUSE = 0.03  # seconds between two looks at what is asked


class Serving:
    """A server, and the guard before whatever is done for its page."""

    server: viser.ViserServer
    guard: Guard
    closed: bool = False

    def serve(self, tick: Callable[[], None], going: Callable[[], bool] = lambda: True) -> None:
        """Do what is asked on the page while it is `going`, until Ctrl-C or an error of the viewer."""
        try:
            while not self.guard.off and going():
                self.guard(tick)
                time.sleep(PAUSE)
        except KeyboardInterrupt:
            pass

    def close(self) -> None:
        """End the server."""
        if not self.closed:
            self.closed = True
            end(self.server)

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self.server.get_port()

    @property
    def where(self) -> tuple[str, str]:
        """The page's address here, and the line to type elsewhere."""
        return addresses(self.port)
