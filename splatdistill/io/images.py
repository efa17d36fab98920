"""Pictures: colours in [0, 1] become 8-bit sRGB as they are."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from splatdistill.errors import UserError
from splatdistill.io.atomic import replacing
from splatdistill.io.opening import Name

GAP = 2  # pixels between the pictures of a sheet
LABEL = 16  # pixels of a line of text above a picture


def to_bytes(image: Float[Tensor, "c h w"]) -> UInt8[np.ndarray, "h w c"]:
    """Round to the nearest of 256 values; what is outside [0, 1] is cut. ValueError for NaN."""
    if image.isnan().any():
        raise ValueError("a picture with NaN in it")
    return (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def write_png(path: Name, image: Float[Tensor, "c h w"], note: str = "") -> None:
    """Write one picture, without loss, of 3 channels or with opacity as the fourth; UserError if it cannot be written, and
    what was at `path` is then as before. note: kept inside as its comment.
    """
    inside = PngInfo()
    if note:
        inside.add_itxt("Comment", note)
    with replacing(Path(path)) as temporary:
        Image.fromarray(to_bytes(image)).save(temporary, format="png", pnginfo=inside)


def check_png(path: Name, width: int, height: int, channels: int) -> None:
    """Raise a UserError unless a file is a whole picture of this size."""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            found = (*picture.size, len(picture.getbands()))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} could not be read back ({error}); is the disk full or failing?") from error
    if found != (width, height, channels):
        raise UserError(f"{path} reads back as {found} (width, height, channels), not {(width, height, channels)}")


def contact_sheet(
    images: Float[Tensor, "b 3 h w"], columns: int, labels: Sequence[str] | None = None
) -> Float[Tensor, "3 sheet_h sheet_w"]:
    """Return pictures row by row on white, each above its label if there are any; a label that is too long is cut."""
    b, _, h, w = images.shape
    if b == 0 or columns < 1:
        raise ValueError(f"a sheet needs pictures and columns, got {b} and {columns}")
    if labels is not None and len(labels) != b:
        raise ValueError(f"{len(labels)} labels for {b} pictures")
    top = LABEL if labels is not None else 0
    rows, columns = math.ceil(b / columns), min(b, columns)
    sheet = torch.ones(3, rows * (top + h + GAP) - GAP, columns * (w + GAP) - GAP)
    for i, image in enumerate(images.detach().cpu().float()):
        y, x = (i // columns) * (top + h + GAP), (i % columns) * (w + GAP)
        if labels is not None:
            sheet[:, y : y + top, x : x + w] = _text(labels[i], w, top)
        sheet[:, y + top : y + top + h, x : x + w] = image
    return sheet


def _text(text: str, width: int, height: int) -> Float[Tensor, "3 height width"]:
    """Draw a line of black text on white."""
    canvas = Image.new("L", (width, height), 255)
    font = ImageFont.load_default(size=0.7 * height)
    ImageDraw.Draw(canvas).text((1, 1), fitted(text, font, width - 2), fill=0, font=font)
    return torch.from_numpy(np.array(canvas)).float().div(255).expand(3, -1, -1)


def fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return as much of a line of text as is at most so many pixels wide; what is cut ends with an ellipsis."""
    line = text.replace("\n", " ")
    while line and font.getlength(line) > width:
        line = line.removesuffix("…")[:-1] + "…" if len(line) > 1 else ""
    return line
