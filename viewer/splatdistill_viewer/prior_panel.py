"""The panel that shows what the diffusion prior was shown, what it makes of it, and its gradient."""

import base64
import io

import numpy as np
import torch.nn.functional as F
import viser
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from splatdistill.io.images import to_bytes
from splatdistill_viewer.pictures import Wants

WIDTH = 222  # pixels of the panel; its contents want 220
CAPTIONS = ("rendering", "noised rendering x<sub>t</sub>", "denoised estimate x̂<sub>0</sub>", "− gradient")
FIGURE = """<figure style="margin:0 8px 8px 4px;text-align:center;font-size:12px;color:#868e96"><img src="{src}" style="display:block;
margin:auto;height:calc(25vh - 62px);min-height:64px;max-width:100%;image-rendering:pixelated;border-radius:6px"><figcaption>{caption}</figcaption></figure>"""


class PriorPanel:
    """Panel of four pictures of the prior, updated while they are wanted. prompt: the picture that the run began with, as HTML, below
    them.
    """

    def __init__(self, gui: viser.GuiApi, prompt: str = "") -> None:
        self.panel = gui.add_panel()
        with self.panel.add_tab("Diffusion prior"):
            self.pictures = gui.add_html("")
            if prompt:
                gui.add_html(prompt)
            self.on = gui.add_checkbox("live", True, hint="The pictures cost the run a little of its time")
        self.panel.dock_left()
        self.panel.set_width(WIDTH)

    def update(self, html: str) -> None:
        """Show the pictures of one step, if they are wanted."""
        if self.on.value:
            self.pictures.content = html

    def remove(self) -> None:
        """Remove the panel from the page."""
        self.panel.remove()


def figures(w: Wants) -> str:
    """Return the pictures of one step as HTML."""
    captions = (CAPTIONS[0], f"{CAPTIONS[1]}, t = {w.t:.2f}", *CAPTIONS[2:])
    images = (w.render, w.noised, w.estimate, w.gradient)
    return "".join(FIGURE.format(src=source(i), caption=c) for i, c in zip(images, captions))


def prompted_by(picture: Float[Tensor, "4 h w"] | None, side: int = 128) -> str:
    """Return the picture that a run began with on white, as HTML; nothing without one."""
    if picture is None:
        return ""
    small = F.interpolate(picture[None].float().cpu(), size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0]
    return FIGURE.format(src=source(to_bytes(small[:3] + 1 - small[3:])), caption="picture of the object")


def source(image: np.ndarray) -> str:
    """Return a picture as a data URL."""
    data, small = io.BytesIO(), image.shape[0] <= 128
    Image.fromarray(image).save(data, format="PNG" if small else "JPEG", quality=85)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(data.getvalue()).decode()}"
