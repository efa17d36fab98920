"""Memory layouts that the kernels share, in scalars unless said otherwise.

An image is cut into tiles of 16 x 16 pixels and a tile into 16 blocks of 4 x 4 pixels. A vector holds one block:
lane 4 y + x is pixel (x, y) of it. In projection a vector holds the same quantity of 16 Gaussians.
"""

import math

LANES = 16
BLOCK = 4  # pixels along a block's side
TILE = 16  # pixels along a tile's side
BLOCKS = 16  # per tile; block q stands at (q % 4, q // 4)
GROUP = 16  # Gaussians that are projected together; arrays over Gaussians are padded to whole groups

BATCH = 128  # Gaussians of a tile that are copied to the first-level cache and composited together
WORDS = BATCH // 64  # 64-bit words with one bit per Gaussian of a batch

# Row of one (camera, Gaussian), 64 bytes in float32, so that one cache line has all that compositing needs.
# With d = pixel - mean, log2 of the Gaussian's alpha in that pixel is  OFFSET + A dx^2 + B dx dy + C dy^2.
ROW = 16
MEAN_X, MEAN_Y, A, B, C, OFFSET = range(6)
RIDGE_X = 6  # -B / 2C: for a fixed dx the exponent is largest at dy = RIDGE_X dx
RIDGE_Y = 7  # -B / 2A: for a fixed dy at dx = RIDGE_Y dy
REACH = 8  # OFFSET - log2(MIN_ALPHA) and a little slack: alpha >= MIN_ALPHA only where -(A dx^2 + ...) <= REACH
CHANNEL = 9  # first of up to 7 channels: rgb, then the normal if asked for, then depth

# Gradient row of one (camera, Gaussian), same stride. With s = dloss/dsigma of one pixel, where alpha = o exp(-sigma),
# and d = mean - pixel, the first six are sums over pixels of s (1, dx, dy, dx^2, dx dy, dy^2).
SUM, SUM_X, SUM_Y, SUM_XX, SUM_XY, SUM_YY = range(6)
ABS_X, ABS_Y = 6, 7  # sums over pixels of |dloss/dmean|, per component (only if asked for)
CHANNEL_GRADIENT = 8  # sums over pixels of alpha T dloss/dchannel

# One camera.
CAMERA = 25
ROTATION, TRANSLATION, FOCAL, CENTRE = 0, 9, 12, 14  # world to camera (row major), pixels, pixels
LIMITS = 16  # lowest x/z, highest x/z, lowest y/z, highest y/z at which the projection is linearised
SIZE, POSITION = 20, 22  # width and height; where the camera stands in the world

LOG2_E = math.log2(math.e)
LN_2 = math.log(2)


def groups(n: int) -> int:
    """Return the number of groups that hold n Gaussians."""
    return (n + GROUP - 1) // GROUP


def tiles(pixels: int) -> int:
    """Return the number of tiles that cover a length in pixels."""
    return (pixels + TILE - 1) // TILE
