"""The server behind a page: viser's, on this machine only, behind a gate."""

import asyncio
import contextlib
import getpass
import logging
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import rich
import viser
import websockets.asyncio.server
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from splatdistill_viewer.dressing import dressed
from splatdistill_viewer.gate import Gate
from splatdistill_viewer.messages import LONGEST, WRITE, CameraMessage, checked

HOST = "127.0.0.1"
START = (2.6, -1.3, 1.2)  # where a browser first stands: before the object's front, a little to its right and above
FOV = 42.0  # degrees
PANEL, BRAND = 360, (178, 34, 52)  # pixels; red, green, blue
TRIES = 1000  # ports
PER_SECOND, AT_ONCE = 120.0, 240.0  # messages that a page may send; a real one sends 50 camera poses a second, and 20 values
REFUSED = 200  # messages that cannot be taken before a connection is closed
QUIET = threading.Lock()
SILENT = logging.getLogger("splatdistill_viewer.websockets")
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False  # it tells, with tracebacks, of every request that is no HTTP


class Connection(ServerConnection):
    """Websocket of a page. viser receives only the messages that `checked` accepts, at a limited rate."""

    server_of_page: "Server"

    async def recv(self, decode: bool | None = None) -> Any:
        """Return the next message that passes the check."""
        while True:
            raw = await super().recv(decode)
            await self.pace()
            said = checked(raw, self.server_of_page.guis(), self.stands)
            if said is None:
                self.refused += 1
                if self.refused > REFUSED:
                    await self.close(1008, "not the page's own messages")
                continue
            self.stands |= isinstance(said, CameraMessage)
            return WRITE.encode(said)

    stands = False  # whether it has said where its camera is
    refused = 0
    left, then = AT_ONCE, 0.0  # messages that may come at once, and since when

    async def pace(self) -> None:
        """Wait until the rate limit admits one more message; meanwhile the sender fills its own buffers."""
        now = time.monotonic()
        self.left = min(AT_ONCE, self.left + PER_SECOND * (now - (self.then or now))) - 1
        self.then = now
        if self.left < 0:
            await asyncio.sleep(-self.left / PER_SECOND)


class Server(viser.ViserServer):
    """Server of a page in the toolkit's world: z up, camera at the front. If the port is taken, the next free one is used.

    Raises OSError where no port is free, UserError for a host that is no name.
    """

    def __init__(self, port: int = 8080, label: str | None = None, hosts: Sequence[str] = ()) -> None:
        self.gate = Gate(hosts)
        warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")  # a page may go at any moment
        with quietly(), self.guarded():  # it prints a box of its own
            super().__init__(host=HOST, port=free_port(port), label=label, verbose=False)
        theme(self.gui)
        self.lay_out()
        self.initial_camera.fov = np.radians(FOV)
        self.gate.port = self.get_port()  # from now on it answers

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Put the gate before the server that is made meanwhile.

        viser makes it by `websockets.asyncio.server.serve`, and has no options of its own for who is let in. Raises
        RuntimeError, rather than leave a page open, where another version of viser does it otherwise.
        """
        original, served = websockets.asyncio.server.serve, []

        def serve(handler: Any, *args: Any, process_request: Any = None, **options: Any) -> Any:
            if getattr(handler, "__module__", "").partition(".")[0] != "viser":
                return original(handler, *args, process_request=process_request, **options)

            def answer(connection: ServerConnection, request: Request) -> Response | None:
                gate = self.gate
                if (refusal := gate.refusal(request, len(connection.server.connections), f"viser-v{viser.__version__}")) is not None:
                    return refusal
                response = process_request(connection, request)
                return None if response is None else gate.admit(request, dressed(response))

            def connect(*args: Any, **options: Any) -> Connection:
                connection = Connection(*args, **options)
                connection.server_of_page = self
                return connection

            served.append(True)
            ours = {"process_request": answer, "create_connection": connect, "max_size": LONGEST, "logger": SILENT}
            return original(handler, *args, **{**options, **ours})

        websockets.asyncio.server.serve = serve  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            websockets.asyncio.server.serve = original  # type: ignore[misc]
        if not served:
            self.stop()
            raise RuntimeError(f"viser {viser.__version__} opens its server in a way that cannot be guarded; install viser 1.1")

    def lay_out(self) -> None:
        """Remove everything from the page and reset panel and camera: controls beside the splats, cameras at the object's front."""
        self.gui.reset()
        self.scene.reset()
        self.gui.main_panel.dock_right()
        self.gui.main_panel.set_width(PANEL)
        self.scene.set_up_direction("+z")
        self.scene.configure_environment_map(None)  # lights no splats, and until it is loaded viser shows next to nothing of a scene
        for camera in (self.initial_camera, *(c.camera for c in self.get_clients().values())):
            camera.position, camera.look_at = START, (0.0, 0.0, 0.0)

    def guis(self) -> Iterator[viser.GuiApi]:
        """Yield the interface of all pages, then each page's own. Messages of one page about another's controls have no effect: viser
        looks controls up among those of the page itself.
        """
        yield self.gui
        yield from (client.gui for client in self.get_clients().values())

    def end(self) -> None:
        """Close the server and its pages."""
        with quietly():
            self.stop()

    @property
    def addresses(self) -> tuple[str, str]:
        """Return the page's address on this machine, and the line to type on another one."""
        port = self.get_port()
        try:
            who = f"{getpass.getuser()}@{socket.gethostname()}"
        except (OSError, KeyError, ImportError):  # the last where Python has no module pwd
            who = f"USER@{socket.gethostname()}"
        return f"http://{HOST}:{port}/?token={self.gate.token}", f"ssh -L {port}:{HOST}:{port} {who}"


def theme(gui: viser.GuiApi, dark: bool = False) -> None:
    """Set the colours of all pages, dark or light."""
    gui.configure_theme(show_logo=False, show_share_button=False, control_width="large", brand_color=BRAND, dark_mode=dark)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Suppress what viser prints about itself with rich.print, from its own thread too. sys.stdout is not exchanged:
    a run prints while a page opens or ends, and two threads that exchange it at once would leave it exchanged.
    """
    console = rich.get_console()
    with QUIET:
        before, console.quiet = console.quiet, True
        try:
            yield
        finally:
            console.quiet = before


def free_port(first: int) -> int:
    """Return the first free port from this one on (0: any); OSError where there is none. viser would search without end."""
    for port in range(first, min(first + TRIES, 65536)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            alone = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)  # Windows reuses ports that are in use
            probe.setsockopt(socket.SOL_SOCKET, alone, 1)
            probe.bind((HOST, port))
            return port
    raise OSError(f"no port of {HOST} is free from {first} on")
