"""The object of a picture cut out of its background, centred and scaled, without any network: for plain backgrounds, or opacity."""

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from splatdistill.errors import UserError

CUT = 0.5  # opacity from which a pixel is the object's
SEE_THROUGH = 0.98  # opacity below which a file's own counts, where enough of it is
LEAST, MOST = 0.01, 0.97  # share of the picture that an object may cover
PLAIN = 0.12  # largest distance of nine tenths of the border's pixels to the background that is fitted to them
NEAR, FAR = 0.05, 0.12  # distance to the background up to which a pixel is background, and from which it is the object, at least
HOLE, SPECK = 5e-4, 1e-3  # share of the picture from which a hole is one; of the object, below which a part of it is none


def has_opacity(rgba: Float[Tensor, "4 h w"]) -> bool:
    """Return True if a picture brings its opacity: a hundredth of it or more is see-through."""
    return float((rgba[3] < SEE_THROUGH).float().mean()) >= LEAST


def cut_out(rgba: Float[Tensor, "4 h w"], name: str) -> Float[Tensor, "4 h w"]:
    """Return a picture with the opacity of its object: its own, or by a plain background that is taken away.

    The background's colour is a plane over the picture for each channel, fitted to the border's pixels by least squares, twice, the
    second time to the nearer nine tenths. Background is what is near to it and hangs together with the border, and holes as near as that.
    On the edge a pixel's opacity is its distance to the background over that of the object beside it, and the background's share is
    taken out of its colours.
    UserError where the border is not plain, or nothing or all is object.
    """
    if not has_opacity(rgba):
        rgba = without_background(rgba, name)
    covered = float((rgba[3] > CUT).float().mean())
    if not LEAST <= covered <= MOST:
        raise UserError(f"{name}: its object covers {covered:.1%} of it, expected {LEAST:.0%} to {MOST:.0%}; cut the object out and save it as a PNG with opacity")
    return rgba


def without_background(rgba: Float[Tensor, "4 h w"], name: str) -> Float[Tensor, "4 h w"]:
    """Return a picture with opacity in the place of a plain background; UserError where the border is not plain."""
    from scipy.ndimage import binary_dilation, maximum_filter

    colours = rgba[:3].permute(1, 2, 0).double().numpy()
    plane, spread = background_of(colours)
    if spread > PLAIN:
        raise UserError(
            f"{name}: its background is not plain (the border's colours differ by {spread:.2f}, expected {PLAIN} or less); "
            "cut the object out and save it as a PNG with opacity"
        )
    distance = np.linalg.norm(colours - plane, axis=2)
    near, far = max(NEAR, 1.2 * spread), max(FAR, 2 * spread)
    patches, count = connected(distance < far)
    border = np.unique(np.concatenate([patches[0], patches[-1], patches[:, 0], patches[:, -1]]))
    outside = np.isin(patches, border[border > 0])
    holes = np.bincount(patches[distance <= near], minlength=count + 1) > max(HOLE * distance.size, 4)
    holes[0] = False
    background = (outside | holes[patches]) & (distance <= near)
    edge = max(2, min(distance.shape) // 100)
    band = binary_dilation(background, iterations=edge) & ~background
    own = np.maximum(maximum_filter(distance, 4 * edge + 1), far)  # of the object beside each pixel
    opacity = np.where(band, np.clip((distance - near) / (0.95 * own - near), 0, 1), ~background)
    parts, count = connected(opacity > CUT)  # specks of a grainy background go
    large = np.bincount(parts.ravel(), minlength=count + 1) >= SPECK * (parts > 0).sum()
    large[0] = True
    alpha = np.where(large[parts], opacity, 0.0)[..., None]
    own = np.where(alpha > 0, np.clip((colours - (1 - alpha) * plane) / np.maximum(alpha, 0.05), 0, 1), colours)
    return torch.from_numpy(np.concatenate([own, alpha], 2)).permute(2, 0, 1).float()


def connected(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the number, from 1, of the connected part that each pixel belongs to, 0 outside, and the count of parts."""
    from scipy.ndimage import label

    parts = np.zeros(inside.shape, np.int32)
    return parts, int(cast(int, label(inside, output=parts)))


def background_of(colours: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the colour of a plain background at each pixel, (h, w, 3), and the distance to it of nine tenths of the border's pixels."""
    h, w, _ = colours.shape
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y], 2)
    edge = np.zeros((h, w), bool)
    width = max(1, min(h, w) // 50)
    edge[:width], edge[-width:], edge[:, :width], edge[:, -width:] = True, True, True, True
    places, values = basis[edge], colours[edge]
    kept = np.linalg.norm(values - np.median(values, 0), axis=1)
    kept = kept <= np.quantile(kept, 0.9)
    for _ in range(2):
        fit = np.linalg.lstsq(places[kept], values[kept], rcond=None)[0]
        distance = np.linalg.norm(values - places @ fit, axis=1)
        kept = distance <= np.quantile(distance, 0.9)
    return basis @ fit, float(np.quantile(distance, 0.9))


def framed(rgba: Float[Tensor, "4 h w"], fill: float, size: int) -> Float[Tensor, "4 size size"]:
    """Return a square picture of so many pixels in whose centre the object is, its longer side this share of the picture's; fill 0: as
    it is, on a square as large as its longer side. Beyond its borders nothing is. Colours are premultiplied by the opacity.
    """
    h, w = rgba.shape[1:]
    top, bottom, left, right = (0, h, 0, w) if fill == 0 else bounds(rgba[3] > CUT)
    side = max(bottom - top, right - left) / (fill or 1.0)
    y, x = (top + bottom) / 2, (left + right) / 2
    seen = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])[None]
    if (shrink := side / size) > 1:
        seen = F.interpolate(seen, size=(max(1, round(h / shrink)), max(1, round(w / shrink))), mode="bilinear", antialias=True, align_corners=False)
    # pixel centres of the new picture in the old one's [-1, 1]
    step = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
    ys, xs = (2 * (y + side * step) / h - 1, 2 * (x + side * step) / w - 1)
    grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], 2)[None]
    return F.grid_sample(seen, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0].clamp(0, 1)


def bounds(inside: Bool[Tensor, "h w"]) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of what is True, the ends excluded."""
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
