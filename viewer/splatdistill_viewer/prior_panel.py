"""The panel that shows what the prior was shown and what it wants."""

import base64
import io

import numpy as np
import viser
from PIL import Image

from splatdistill.io.text import escape
from splatdistill_viewer.pictures import Wants

WIDTH = 222  # pixels of the panel; its contents want 220
CAPTIONS = ("a view of the splats", "with noise: x_t", "what the prior sees in it: x_0", "the change it wants")
FIGURE = """<figure style="margin:0 8px 8px 4px;text-align:center;font-size:12px;color:#868e96"><img src="{src}" style="display:block;
margin:auto;height:calc(25vh - 62px);max-width:100%;image-rendering:pixelated;border-radius:6px;border:1px solid #e9ecef">
<figcaption>{caption}</figcaption></figure>"""


class PriorPanel:
    """Four pictures; made only while someone asks for them."""

    def __init__(self, gui: viser.GuiApi) -> None:
        panel = gui.add_panel()
        with panel.add_tab("What the prior wants"):
            self.pictures = gui.add_html("")
            self.on = gui.add_checkbox("update", True, hint="The pictures cost the run a little of its time")
        panel.dock_left()
        panel.set_width(WIDTH)

    def update(self, w: Wants) -> None:
        """Show the pictures of one step."""
        captions = (CAPTIONS[0], f"{CAPTIONS[1]}, t = {w.t:.2f}", *CAPTIONS[2:])
        images = (w.render, w.noised, w.estimate, w.gradient)
        self.pictures.content = "".join(FIGURE.format(src=source(i), caption=escape(c)) for i, c in zip(images, captions))


def source(image: np.ndarray) -> str:
    """Return a picture as the address of itself."""
    data, small = io.BytesIO(), image.shape[0] <= 128
    Image.fromarray(image).save(data, format="PNG" if small else "JPEG", quality=85)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(data.getvalue()).decode()}"
