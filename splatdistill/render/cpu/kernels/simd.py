"""Explicit vectors for numba: LLVM vector instructions written from Python and called from compiled kernels.

LLVM's own vectoriser does not reliably see through such loops, so the vectors are spelled out. An operation on
<16 x float> becomes one AVX-512, two AVX2 or four NEON instructions; nothing is needed but numba, which ships LLVM.

No fast-math flags are set: the order of evaluation is fixed, so that the forward and the backward pass decide
alike, bit for bit, which Gaussians a pixel sees. `fma` is LLVM's fmuladd, which a CPU without fused instructions
computes as a product and a sum instead of calling the C library.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BIT, BYTE, INT32, INT64 = (ir.IntType(n) for n in (1, 8, 32, 64))
Number = "Vec | float"


@dataclass(frozen=True)
class Vec:
    """Vector of floats (or ints, from `Simd.to_int`); arithmetic with Python numbers broadcasts them."""

    simd: "Simd"
    value: ir.Value

    @property
    def count(self) -> int:
        return self.value.type.count

    def _binary(self, operation: str, left: Number, right: Number) -> "Vec":
        a, b = (x if isinstance(x, Vec) else self.simd.constant(x) for x in (left, right))
        return Vec(self.simd, getattr(self.simd.builder, operation)(a.value, b.value))

    def __add__(self, other: Number) -> "Vec":
        return self._binary("fadd", self, other)

    def __radd__(self, other: Number) -> "Vec":
        return self._binary("fadd", other, self)

    def __sub__(self, other: Number) -> "Vec":
        return self._binary("fsub", self, other)

    def __rsub__(self, other: Number) -> "Vec":
        return self._binary("fsub", other, self)

    def __mul__(self, other: Number) -> "Vec":
        return self._binary("fmul", self, other)

    def __rmul__(self, other: Number) -> "Vec":
        return self._binary("fmul", other, self)

    def __truediv__(self, other: Number) -> "Vec":
        return self._binary("fdiv", self, other)

    def __rtruediv__(self, other: Number) -> "Vec":
        return self._binary("fdiv", other, self)

    def __neg__(self) -> "Vec":
        return Vec(self.simd, self.simd.builder.fneg(self.value))

    def _compare(self, operation: str, other: Number) -> "Mask":
        other = other if isinstance(other, Vec) else self.simd.constant(other)
        return Mask(self.simd, self.simd.builder.fcmp_ordered(operation, self.value, other.value))

    def __gt__(self, other: Number) -> "Mask":
        return self._compare(">", other)

    def __ge__(self, other: Number) -> "Mask":
        return self._compare(">=", other)

    def __lt__(self, other: Number) -> "Mask":
        return self._compare("<", other)

    def __le__(self, other: Number) -> "Mask":
        return self._compare("<=", other)


@dataclass(frozen=True)
class Mask:
    """Mask with one bit per lane. Comparisons with NaN are false."""

    simd: "Simd"
    value: ir.Value

    def __and__(self, other: "Mask") -> "Mask":
        return Mask(self.simd, self.simd.builder.and_(self.value, other.value))

    def __or__(self, other: "Mask") -> "Mask":
        return Mask(self.simd, self.simd.builder.or_(self.value, other.value))

    def select(self, yes: Number, no: Number) -> Vec:
        """Return yes in the lanes where the mask is set, no in the others."""
        a, b = (x if isinstance(x, Vec) else self.simd.constant(x) for x in (yes, no))
        return Vec(self.simd, self.simd.builder.select(self.value, a.value, b.value))

    def bits(self) -> ir.Value:
        """Return an integer with one bit per lane."""
        return self.simd.builder.bitcast(self.value, ir.IntType(self.value.type.count))

    def any(self) -> ir.Value:
        """Return True if a lane is set, as a scalar bit."""
        bits = self.bits()
        return self.simd.builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


class Simd:
    """Writer of vector instructions of 16 lanes of one float type, at the position of its IR builder."""

    lanes = 16

    def __init__(self, builder: ir.IRBuilder, dtype: np.dtype) -> None:
        self.builder, self.dtype = builder, np.dtype(dtype)
        single = self.dtype == np.float32
        self.scalar, self.suffix = (ir.FloatType(), "f32") if single else (ir.DoubleType(), "f64")
        self.integer = ir.IntType(8 * self.dtype.itemsize)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.integers = ir.VectorType(self.integer, self.lanes)

    # values
    def constant(self, x: float) -> Vec:
        return self.constants([x] * self.lanes)

    def constants(self, xs: Sequence[float]) -> Vec:
        """Return a vector with one number per lane."""
        values = [float(self.dtype.type(x)) for x in xs]
        return Vec(self, ir.Constant(ir.VectorType(self.scalar, len(values)), values))

    def splat(self, scalar: ir.Value) -> Vec:
        """Return a scalar in every lane."""
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.Constant(INT32, 0))
        every = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return Vec(self, self.builder.shuffle_vector(first, empty, every))

    # indices: 64-bit integers, counted in array elements
    def index(self, base: ir.Value | int, plus: ir.Value | int = 0, times: int = 1) -> ir.Value:
        """Return base * times + plus."""
        base, plus = (x if isinstance(x, ir.Value) else ir.Constant(INT64, x) for x in (base, plus))
        if times != 1:
            base = self.builder.mul(base, ir.Constant(INT64, times))
        return self.builder.add(base, plus)

    # memory
    def address(self, array: ir.Value, index: ir.Value | int) -> ir.Value:
        return self.builder.gep(array, [index if isinstance(index, ir.Value) else ir.Constant(INT64, index)])

    def load_scalar(self, array: ir.Value, index: ir.Value | int) -> ir.Value:
        return self.builder.load(self.address(array, index))

    def broadcast(self, array: ir.Value, index: ir.Value | int) -> Vec:
        """Return array[index] in every lane."""
        return self.splat(self.load_scalar(array, index))

    def load(self, array: ir.Value, index: ir.Value | int, count: int = 16, aligned: bool = False) -> Vec:
        """Return array[index : index + count]; aligned: the address is a multiple of 64 bytes."""
        wanted = ir.VectorType(self.scalar, count).as_pointer()
        pointer = self.builder.bitcast(self.address(array, index), wanted)
        return Vec(self, self.builder.load(pointer, align=64 if aligned else self.dtype.itemsize))

    def store(self, value: Vec | ir.Value, array: ir.Value, index: ir.Value | int, aligned: bool = False) -> None:
        """Store value in array[index : index + count]; aligned as in `load`. Also stores vectors of integers."""
        value = value.value if isinstance(value, Vec) else value
        pointer = self.builder.bitcast(self.address(array, index), value.type.as_pointer())
        size = value.type.element.width // 8 if isinstance(value.type.element, ir.IntType) else self.dtype.itemsize
        self.builder.store(value, pointer, align=64 if aligned else size)

    def prefetch(self, array: ir.Value, index: ir.Value, write: bool = False) -> None:
        """Prefetch the cache line of array[index]."""
        kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        pointer = self.builder.bitcast(self.address(array, index), BYTE.as_pointer())
        settings = [ir.Constant(INT32, x) for x in (int(write), 2 if write else 3, 1)]
        self.builder.call(function, [pointer, *settings])

    # mathematics
    def _intrinsic(self, name: str, *args: Vec) -> Vec:
        kind = args[0].value.type
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind] * len(args)), f"llvm.{name}.v{kind.count}{self.suffix}"
        )
        return Vec(self, self.builder.call(function, [a.value for a in args]))

    def fma(self, a: Number, b: Number, c: Number) -> Vec:
        """Return a b + c, rounded once where the CPU can."""
        return self._intrinsic("fmuladd", *(x if isinstance(x, Vec) else self.constant(x) for x in (a, b, c)))

    def dot(self, a: Sequence[Vec], b: Sequence[Vec]) -> Vec:
        """Return sum_i a_i b_i."""
        total = a[-1] * b[-1]
        for x, y in zip(a[-2::-1], b[-2::-1]):
            total = self.fma(x, y, total)
        return total

    def sqrt(self, a: Vec) -> Vec:
        return self._intrinsic("sqrt", a)

    def rint(self, a: Vec) -> Vec:
        return self._intrinsic("rint", a)

    def floor(self, a: Vec) -> Vec:
        return self._intrinsic("floor", a)

    def ceil(self, a: Vec) -> Vec:
        return self._intrinsic("ceil", a)

    def abs(self, a: Vec) -> Vec:
        return self._intrinsic("fabs", a)

    def minimum(self, a: Vec, b: Number) -> Vec:
        """Return the smaller; b where a is NaN. (A comparison and a selection: one instruction on x86.)"""
        return (a < b).select(a, b)

    def maximum(self, a: Vec, b: Number) -> Vec:
        """Return the larger; b where a is NaN."""
        return (a > b).select(a, b)

    def shuffle(self, a: Vec, b: Vec | None, lanes: Sequence[int]) -> Vec:
        """Return the lanes of a (0 to a.count - 1) and b (from a.count) in a new order."""
        other = ir.Constant(a.value.type, ir.Undefined) if b is None else b.value
        picked = ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))
        return Vec(self, self.builder.shuffle_vector(a.value, other, picked))


def emitted(emit: Callable[..., Any]) -> Any:
    """Make a function that writes instructions callable from compiled kernels.

    `emit(simd, *args)` gets, for each argument of the call: the data pointer of a contiguous array, a 64-bit
    integer, a float of the arrays' type, or the length of a tuple (a number that is known when compiling). It
    returns None or a 64-bit integer. The float type is that of the first floating-point array.
    """

    def define(_typing: Any, *args: types.Type) -> Any:
        arrays = [a for a in args if isinstance(a, types.Array)]
        dtype = next(a.dtype for a in arrays if isinstance(a.dtype, types.Float))
        kinds = [dtype if isinstance(a, types.Float) else a for a in args]
        kinds = [types.int64 if isinstance(a, types.Integer) else a for a in kinds]
        returns = types.int64 if returns_value else types.void

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[ir.Value]) -> ir.Value:
            operands: list[Any] = []
            for kind, value in zip(signature.args, values):
                if isinstance(kind, types.Array):
                    operands.append(context.make_array(kind)(context, builder, value).data)
                elif isinstance(kind, types.BaseTuple):
                    operands.append(len(kind))
                else:
                    operands.append(value)
            result = emit(Simd(builder, np.dtype(str(dtype))), *operands)
            return context.get_dummy_value() if result is None else result

        return returns(*kinds), generate

    signature = inspect.signature(emit)
    returns_value = signature.return_annotation not in (None, "None")
    names = ["_typing", *list(signature.parameters)[1:]]  # numba wants to see names instead of *args
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    define.__name__ = emit.__name__
    define.__doc__ = emit.__doc__
    return intrinsic(define)
