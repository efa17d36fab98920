"""Strength of the colours, from the pixels alone: what score distillation at high guidance is said to overdo."""

from jaxtyping import Float
from torch import Tensor

from splatdistill.evaluate.metrics import Measurement

COVERED = 0.5  # of a pixel
EDGE = 1.5 / 255  # of the range of values


def saturation(rgb: Float[Tensor, "v 3 h w"], alpha: Float[Tensor, "v 1 h w"]) -> tuple[Measurement, Measurement]:
    """Return the mean HSV saturation, (max - min) / max, of covered pixels; and the share of their values within 1.5/255 of 0 or 1, in
    percent.
    """
    pixels = rgb.movedim(1, -1)[alpha[:, 0] > COVERED]
    if not len(pixels):
        why = "nothing is seen"
        return Measurement("saturation", None, note=why), Measurement("clipped", None, note=why)
    from kornia.color import rgb_to_hsv  # as in sharpness.py

    chroma = rgb_to_hsv(pixels.T[None, :, :, None])[:, 1].mean()
    clipped = ((pixels <= EDGE) | (pixels >= 1 - EDGE)).float().mean()
    return Measurement("saturation", float(chroma), "pixels"), Measurement("clipped", 100 * float(clipped), "pixels")
