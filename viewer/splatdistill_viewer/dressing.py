"""Full screen for the object and a layout for phones, put into the page that viser serves."""

import gzip
from functools import cache
from pathlib import Path

from websockets.http11 import Response

MARK = b"</head>"


@cache
def dressing() -> bytes:
    """Return the page's own styles and script as one HTML fragment."""
    return (Path(__file__).parent / "page.html").read_bytes()


def dressed(response: Response) -> Response:
    """Insert the fragment into the head of an HTML answer; return any other answer unchanged."""
    if not response.headers.get("Content-Type", "").startswith("text/html"):
        return response
    packed = response.headers.get("Content-Encoding") == "gzip"
    page = with_dressing(bytes(response.body), packed)
    del response.headers["Content-Length"]
    response.headers["Content-Length"] = str(len(page))
    response.body = page
    return response


@cache
def with_dressing(page: bytes, packed: bool) -> bytes:
    """Return a page with the fragment at the end of its head, gzip-compressed if the page was. Cached: viser serves one page."""
    plain = gzip.decompress(page) if packed else page
    plain = plain.replace(MARK, dressing() + MARK, 1)
    return gzip.compress(plain) if packed else plain
