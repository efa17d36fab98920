"""The vector layer under the compiled rasteriser, piece by piece."""

import numba
import numpy as np
import pytest
import torch
from numba import njit

from splatdistill import sh
from splatdistill.render.cpu.kernels import functions, layout
from splatdistill.render.cpu.kernels.masks import BLOCK_X, BLOCK_Y, gather_with_mask
from splatdistill.render.cpu.kernels.shade_lanes import BASIS, derivative
from splatdistill.render.cpu.kernels.simd import Simd, emitted


@emitted
def _elementary(s: Simd, x, out) -> None:
    v = s.load(x, 0)
    s.store(functions.exp2(s, v), out, 0)
    s.store(functions.log2(s, s.abs(v)), out, 16)


@emitted
def _moved(s: Simd, x, transposed, swapped) -> None:
    rows = [s.load(x, 16 * i) for i in range(16)]
    for i, column in enumerate(functions.transpose(s, rows)):
        s.store(column, transposed, 16 * i)
    s.store(functions.join(s, functions.split(s, x, s.index(0), 3)[::-1]), swapped, 0)


@njit
def elementary(x, out):
    _elementary(x, out)


@njit
def moved(x, transposed, swapped):
    _moved(x, transposed, swapped)


@njit
def mask_of(rows, batch, x, y):
    return gather_with_mask(rows, 0, 0, batch, 0, x, y)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-7), (np.float64, 3e-16)])
def test_exp2_and_log2(dtype: type, tolerance: float) -> None:
    for seed in range(20):
        x = np.random.default_rng(seed).uniform(-100, 100, 16).astype(dtype)
        out = np.empty(32, dtype)
        elementary(x, out)
        np.testing.assert_allclose(out[:16], np.exp2(x.astype(np.float64)), rtol=tolerance)
        np.testing.assert_allclose(out[16:], np.log2(np.abs(x.astype(np.float64))), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transpose_split_and_join(dtype: type) -> None:
    x, transposed, swapped = np.arange(256, dtype=dtype), np.empty(256, dtype), np.empty(48, dtype)
    moved(x, transposed, swapped)
    np.testing.assert_array_equal(transposed.reshape(16, 16), x.reshape(16, 16).T)
    np.testing.assert_array_equal(swapped.reshape(16, 3), x[:48].reshape(16, 3)[:, ::-1])


def aligned(size: int) -> np.ndarray:
    raw = np.zeros(size + 8)
    return raw[-raw.ctypes.data % 64 // 8 :][:size]


def test_mask_holds_exactly_the_blocks_in_reach() -> None:
    """Against the least value over each block's rectangle of pixel centres, found on a fine grid."""
    rng = np.random.default_rng(0)
    steps = np.linspace(0, layout.BLOCK - 1, 61)
    sure, some = 0, 0
    for _ in range(100):
        row, batch = aligned(16), aligned(16 * layout.BATCH)
        factor = rng.normal(size=(2, 2)) * 0.6
        conic = factor @ factor.T + 0.01 * np.eye(2)
        a, b, c, reach = conic[0, 0], 2 * conic[0, 1], conic[1, 1], rng.uniform(0.5, 8)
        mean = rng.uniform(0, 32, 2)
        row[: layout.REACH + 1] = [*mean, -a, -b, -c, 0, -b / (2 * c), -b / (2 * a), reach]
        mask = mask_of(row, batch, 16.0, 16.0)
        np.testing.assert_array_equal(batch[:2], mean - 16)
        for q in range(layout.BLOCKS):
            dx = (BLOCK_X[q] + steps + 16 - mean[0])[None, :]
            dy = (BLOCK_Y[q] + steps + 16 - mean[1])[:, None]
            least = (a * dx * dx + b * dx * dy + c * dy * dy).min()
            if abs(least - reach) > 0.02 * (1 + reach):  # as far as the grid can tell
                sure += 1
                some += least < reach
                assert bool(mask >> q & 1) == bool(least < reach)
    assert sure > 1400 and 0.1 < some / sure < 0.9


def test_harmonics_are_those_of_the_library_and_so_are_their_slopes() -> None:
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)

    def value(polynomial: dict[str, float], at: torch.Tensor) -> torch.Tensor:
        axes = dict(zip("xyz", at.unbind(1)))
        one = torch.ones_like(at[:, 0])
        terms = [f * torch.stack([one, *(axes[a] for a in m)]).prod(0) for m, f in polynomial.items()]
        return torch.stack([torch.zeros(len(at), dtype=at.dtype), *terms]).sum(0)

    expected = sh.basis(3, directions)
    for k, polynomial in enumerate(BASIS):
        torch.testing.assert_close(value(polynomial, directions), expected[:, k], rtol=1e-14, atol=1e-14)
        for i, axis in enumerate("xyz"):
            step = torch.zeros(3, dtype=torch.float64)
            step[i] = 1e-5
            slope = (value(polynomial, directions + step) - value(polynomial, directions - step)) / 2e-5
            torch.testing.assert_close(value(derivative(polynomial, axis), directions), slope, rtol=1e-8, atol=1e-8)


def test_vectors_are_vectors() -> None:
    """The machine code of a kernel works on several numbers at once, whatever the processor."""
    elementary(np.ones(16, np.float32), np.empty(32, np.float32))
    single = numba.float32[::1]
    llvm = elementary.inspect_llvm((single, single))
    assert "<16 x float>" in llvm and "call <16 x float> @llvm.fmuladd" in llvm
