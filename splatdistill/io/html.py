"""Gaussian splats as one web page that needs nothing else: it opens from disk, without a network.

The splats are in it as .spz in base64; the page unpacks, sorts and draws them by WebGL 2, with our rasteriser's blur
and thresholds. The field of view is that of the smaller side, so that a phone shows all of it; buttons go to named views.
Its own policy forbids it to load anything.
"""

import base64
import binascii
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path

import torch

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io import frames
from splatdistill.io.atomic import replacing
from splatdistill.io.extent import fitting, sphere
from splatdistill.io.opening import Name, opened
from splatdistill.io.rows import Read, Written, writable
from splatdistill.io.spz import pack, unpack
from splatdistill.io.spz_streams import Inflated
from splatdistill.io.text import escape

DATA = re.compile(rb'<script id="splats" type="application/base64">([A-Za-z0-9+/=\s]*)</script>')


@dataclass(frozen=True)
class Start:
    """Camera that the page begins with."""

    azimuth: float = 30.0  # degrees
    elevation: float = 15.0
    distance: float = 2.8  # world units from the target
    fov: float = 42.0  # of the smaller side of the window, degrees
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in our world


def write_html(
    path: Name, gaussians: Gaussians, comments: Sequence[str] = (), title: str = "splats", start: Start | None = None
) -> Written:
    """Write the page. comments: facts that it tells; start: by default far enough to see everything. What is left out
    and what is raised: as `write_ply`.
    """
    path = Path(path)
    g = writable(path, gaussians)
    look = asdict(start or around(g))
    look["target"] = (frames.into("gltf") @ torch.tensor(look["target"]).double()).tolist()
    fill = {
        "title": escape(title),
        "facts": "".join(f"<li>{escape(c)}</li>" for c in (f"{len(g)} splats", *comments)),
        "start": json.dumps(look),  # numbers alone
        "data": base64.b64encode(pack(path, g)).decode("ascii"),
    }
    page = (files("splatdistill.io") / "viewer.html").read_text(encoding="utf-8")
    page = re.sub(
        r"\{\{(\w+)\}\}", lambda found: fill[found[1]], page
    )  # once: what is filled in is not looked at again
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Written(path, len(g), len(gaussians) - len(g))


def load_html(path: Name) -> Read:
    """Read the splats of a page that `write_html` wrote, in our world; UserError for any other."""
    path = Path(path)
    with opened(path) as file:
        found = DATA.search(file.read())
    if found is None:
        raise UserError(f"{path} is not a page with splats that splatdistill wrote")
    try:
        data = base64.b64decode(found[1], validate=False)
    except binascii.Error as error:
        raise UserError(f"{path}: the splats in the page are damaged ({error})") from error
    return unpack(path, Inflated(path, io.BytesIO(data), len(data)))


def around(g: Gaussians) -> Start:
    """Return a camera that shows all but strays."""
    middle, radius = sphere(g)
    start = Start()
    return replace(start, distance=fitting(radius, start.fov), target=tuple(middle.tolist()))
