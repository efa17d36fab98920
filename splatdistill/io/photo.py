"""Pictures of objects, as people have them: read within bounds, turned as the camera was held, with their opacity."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from splatdistill.errors import UserError, reason

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_BYTES = 64 * 2**20
MOST_PIXELS = 64_000_000
LEAST = 16  # pixels a side
SIDE = 2048  # pixels that the longer side keeps: several times what any prior sees, and not the gigabyte that a camera's picture takes in float32
WANTED = "expected a PNG, JPEG or WebP of one object"


def read_photo(path: Path) -> Float[Tensor, "4 h w"]:
    """Return a picture's colours in [0, 1], not premultiplied, and its opacity; 1 throughout where the file has none. A large one is made
    smaller; of a moving picture the first frame. UserError for anything that is no such picture, is too large or too small.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path}: {'is no file' if path.exists() else 'does not exist'}; {WANTED}")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UserError(f"{path}: has {size / 2**20:.0f} MB, expected at most {MOST_BYTES // 2**20}; make it smaller")
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > MOST_PIXELS or min(file.size) < LEAST:
                raise UserError(f"{path}: has {file.width} x {file.height} pixels, expected {LEAST} or more a side and at most {MOST_PIXELS // 10**6} million; resize it")
            file.draft(None, (SIDE, SIDE))  # a JPEG's decoder then makes it smaller, and does less
            picture = ImageOps.exif_transpose(file).convert("RGBA")
            picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, OverflowError, EOFError, MemoryError) as e:  # the last: a length in the file that is none
        said = reason(e) if isinstance(e, OSError) and e.strerror else "it is no picture of these formats, or damaged"
        raise UserError(f"{path}: cannot be read ({said}); {WANTED}") from e
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
