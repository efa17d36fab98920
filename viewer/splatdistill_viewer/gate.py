"""The gate before a page: it lets in browsers that were opened by the address which the terminal printed, and nobody else.

A server on 127.0.0.1 can be reached by every page that is open in a browser on the same machine. Browsers let any of them
open a websocket, and a name that an attacker controls may be made to point here (DNS rebinding). So a request must name a
host that is ours (Host), come from a page of ours (Origin), and carry the token of this server: in the address at first,
and in a cookie that the first answer sets from then on.
"""

import http
import re
import secrets
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from splatdistill.errors import UserError

HERE = ("127.0.0.1", "localhost", "[::1]")
NAME = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?")
CONNECTIONS = 32  # open at once
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# The page is one file that unpacks and runs itself; it may speak to this server and to nobody else.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; style-src 'self' 'unsafe-inline' data: blob:; "
    "connect-src 'self' ws://{host} wss://{host} data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CLOSED = "This page is opened by the address that splatdistill printed, with its token.\n"


def host_and_port(text: str) -> tuple[str, int | None] | None:
    """Split "name", "name:port" or "[::1]:port" into name and port; None where it is neither."""
    found = NAME.fullmatch(text.lower())
    if found is None:
        return None
    port = None if found[2] is None else int(found[2])
    return None if port is not None and not 0 < port < 65536 else (found[1], port)


def checked_hosts(hosts: Sequence[str]) -> set[tuple[str, int | None]]:
    """Return names and ports (None: any) of hosts typed as "name" or "name:port"; UserError for anything else."""
    found = {host: host_and_port(host) for host in hosts}
    for host, split in found.items():
        if split is None:
            raise UserError(f"--viewer-host {host!r}: expected a name as the browser's address shows it, such as localhost:9000 or box.lan")
    return {split for split in found.values() if split is not None}


class Gate:
    """Rules by which a page's server answers or refuses requests.

    hosts: names besides this machine's own by which a browser may reach the page, "name" (at any port) or "name:port",
    for tunnels and proxies. Raises UserError for what is no name.
    """

    def __init__(self, hosts: Sequence[str] = ()) -> None:
        self.token = secrets.token_urlsafe(24)
        self.port: int | None = None  # where the server listens, once it does
        self.extra = checked_hosts(hosts)

    @property
    def cookie(self) -> str:
        """Return the name of the cookie, which holds the port because cookies do not distinguish ports."""
        return f"splatdistill-{self.port}"

    def knows(self, netloc: str) -> bool:
        """Return whether a host and port belong to this server."""
        found = host_and_port(netloc)
        if found is None or self.port is None:
            return False
        name, port = found
        return (name in HERE and (port or 80) == self.port) or found in self.extra or (name, None) in self.extra

    def refusal(self, request: Request, connections: int = 0, protocol: str | None = None) -> Response | None:
        """Return the answer that refuses a request; None where it is allowed.

        connections: how many websockets are open. protocol: the subprotocol that a websocket must ask for.
        """
        headers = request.headers
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        if len(hosts) != 1 or not self.knows(hosts[0]):
            return refused("This server is not known by that name; see --viewer-host.\n")
        if len(origins) > 1 or (origins and not self.ours(origins[0])):
            return refused("Pages of other origins are not let in.\n")
        address = urlsplit(request.path)
        asked = parse_qsl(address.query, keep_blank_values=True)
        # the page would connect to whichever server ?websocket= names, and do what that one says
        if any(name != "token" for name, _ in asked) or len(asked) > 1:
            return refused("The address may hold a token and nothing else.\n")
        given = [value for _, value in asked] or [value for name, value in cookies(headers) if name == self.cookie]
        if not any([secrets.compare_digest(value.encode("utf-8", "replace"), self.token.encode()) for value in given]):
            return refused(CLOSED)
        if "Upgrade" in headers:
            if connections >= CONNECTIONS:
                return refused("Too many pages are open.\n", http.HTTPStatus.SERVICE_UNAVAILABLE)
            spoken = [p.strip() for line in headers.get_all("Sec-WebSocket-Protocol") for p in line.split(",")]
            if protocol is not None and spoken != [protocol]:
                return refused(f"This server speaks {protocol}; load the page again.\n", http.HTTPStatus.BAD_REQUEST)
        return None

    def ours(self, origin: str) -> bool:
        """Return whether an Origin header names a page of this server."""
        scheme, _, netloc = origin.partition("://")
        return scheme in ("http", "https") and self.knows(netloc)

    def admit(self, request: Request, response: Response) -> Response:
        """Add to the answer of an allowed request the cookie with the token, and the page's content security policy."""
        for name, value in HEADERS.items():
            response.headers[name] = value
        response.headers["Content-Security-Policy"] = POLICY.format(host=request.headers["Host"])
        if response.status_code == http.HTTPStatus.OK:
            response.headers["Set-Cookie"] = f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        return response


def cookies(headers: Headers) -> list[tuple[str, str]]:
    """Return the names and values of all cookies of a request."""
    pairs = (pair.partition("=") for line in headers.get_all("Cookie") for pair in line.split(";"))
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def refused(text: str, status: http.HTTPStatus = http.HTTPStatus.FORBIDDEN) -> Response:
    """Return an answer in plain text that ends the connection."""
    body = text.encode()
    headers = Headers({**HEADERS, "Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status.value, status.phrase, headers, body)
