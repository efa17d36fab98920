"""Few numbers in place of many: codebooks of scalars, palettes of vectors, both by k-means."""

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

ROUNDS = 12  # of Lloyd's algorithm
EXACT = 1 << 16  # vectors up to which each is an entry of its own: what 16 bits can tell apart
ENTRIES = 4096  # otherwise
AT_ONCE = 4096  # vectors compared with all entries at a time


def codebook(values: Float[np.ndarray, "..."]) -> tuple[Float32[np.ndarray, " 256"], UInt8[np.ndarray, "..."]]:
    """Return 256 numbers in ascending order near which all values lie, and which of them is each value's: one-dimensional
    k-means from evenly spaced quantiles.
    """
    flat = np.sort(values.reshape(-1)).astype(np.float64)
    distinct = np.unique(flat)
    if len(distinct) <= 256:
        centres = np.concatenate([distinct, np.full(256 - len(distinct), distinct[-1])])
    else:
        centres = 0.5 * (np.quantile(flat, np.linspace(0, 1, 256)) + np.linspace(flat[0], flat[-1], 256))
        for _ in range(ROUNDS):
            ends = np.searchsorted(flat, 0.5 * (centres[1:] + centres[:-1]))
            count = np.diff(ends, prepend=0, append=len(flat))
            sums = np.diff(np.concatenate([[0], flat.cumsum()])[np.concatenate([[0], ends, [len(flat)]])])
            centres = np.where(count > 0, sums / np.maximum(count, 1), centres)
    labels = np.searchsorted(0.5 * (centres[1:] + centres[:-1]), values)
    return centres.astype(np.float32), labels.astype(np.uint8)


def palette(vectors: Float[np.ndarray, "n d"]) -> tuple[Float32[np.ndarray, "m d"], Int[np.ndarray, " n"]]:
    """Return at most 65536 vectors and which of them stands for each: all of them where there are no more, else k-means from
    evenly spaced ones.
    """
    distinct, places = np.unique(vectors, axis=0, return_inverse=True)
    if len(distinct) <= EXACT:
        return distinct.astype(np.float32), places.reshape(-1)
    entries = vectors[np.linspace(0, len(vectors) - 1, ENTRIES).astype(np.int64)].astype(np.float32)
    for _ in range(3):
        places = _nearest(vectors, entries)
        count = np.bincount(places, minlength=ENTRIES)[:, None]
        sums = np.stack([np.bincount(places, column, ENTRIES) for column in vectors.T], 1)
        entries = np.where(count > 0, sums / np.maximum(count, 1), entries).astype(np.float32)
    return entries, _nearest(vectors, entries)


def _nearest(vectors: Float[np.ndarray, "n d"], entries: Float[np.ndarray, "m d"]) -> Int[np.ndarray, " n"]:
    """Return argmin_j |v_i - e_j|^2, by matrix products: half the time of scipy's vq for 4096 entries of 45 numbers."""
    half = 0.5 * (entries * entries).sum(1)
    parts = [(vectors[i : i + AT_ONCE] @ entries.T - half).argmax(1) for i in range(0, len(vectors), AT_ONCE)]
    return np.concatenate(parts)
