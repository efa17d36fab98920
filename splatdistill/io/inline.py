"""Pictures and lines as HTML that stands by itself, for notebooks: nothing in it is loaded from elsewhere."""

import base64
import io

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from splatdistill.io.images import to_bytes
from splatdistill.io.text import escape


def png_bytes(image: Float[Tensor, "c h w"]) -> bytes:
    """Return a picture, colours in [0, 1], as the bytes of a PNG."""
    out = io.BytesIO()
    Image.fromarray(to_bytes(image)).save(out, "png")
    return out.getvalue()


def figure(caption: str, png: bytes | None = None) -> str:
    """Return a line of text, and the picture of a PNG above it."""
    picture = f'<img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}"><br>' if png else ""
    return f"<div>{picture}<small>{escape(caption)}</small></div>"


def bar(done: int, total: int, caption: str, png: bytes | None = None) -> str:
    """Return how much of a whole is done, as a bar with a line of text, and a picture below it."""
    line = f'<progress value="{done}" max="{max(total, 1)}" style="width: 20em; vertical-align: middle"></progress> {escape(caption)}'
    return f"<div>{line}</div>" + (figure("", png) if png else "")
