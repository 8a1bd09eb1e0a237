"""Vectors of 16 or 32 float32 or float64 numbers that a jitted function keeps in registers.

The idea is that of `sim.monte_carlo.simd`; here every operation is rounded as IEEE 754 says and every sum has one order
(`fma` is a single rounding, `sums_of_16` a fixed tree), so a result has the same bits on every processor, whatever the
width of its registers. Numbers of lanes: sums over lanes are always of 16; where lanes never meet, 32 may stand for two
times 16. Arrays are flat (1-D); an index counts entries.

Without jit (NUMBA_DISABLE_JIT=1) the same functions act on NumPy arrays.
"""

import math
import operator
import zlib
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import NativeValue, lower_builtin, models, register_model, typeof_impl, unbox

LANES = 16
"""Lanes of a vector whose lanes are summed."""
ALIGNMENT = 64

# In the type's name, so that Numba's cache never serves machine code made from another version of these files, whose
# jitted functions are called from others.
_CALLED = "simd.py", "layers.py", "optimizers.py", "orders.py", "../monte_carlo/sampling.py"
_VERSION = zlib.crc32(b"".join((Path(__file__).parent / name).read_bytes() for name in _CALLED))
_INT32 = ir.IntType(32)
_ELEMENTS = {32: (ir.FloatType(), types.float32), 64: (ir.DoubleType(), types.float64)}


class ZeroVector:
    """A number of lanes, `size`, of `dtype`; a jitted function receives a `Vector` of zeros."""

    def __init__(self, size: int, dtype: np.dtype) -> None:
        self.size, self.dtype = size, dtype


class Vector(types.Type):
    """Numba type of a vector of `lanes` numbers of `bits` bits."""

    def __init__(self, lanes: int, bits: int) -> None:
        self.lanes, self.bits = lanes, bits
        super().__init__(name=f"small_networks-float{bits}x{lanes}-{_VERSION:08x}")

    @property
    def llvm(self):
        """The vector as a type of LLVM."""
        return ir.VectorType(_ELEMENTS[self.bits][0], self.lanes)

    @property
    def scalar(self):
        """Numba type of a lane."""
        return _ELEMENTS[self.bits][1]


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.llvm)


@typeof_impl.register(ZeroVector)
def _typeof_zero_vector(zero, _context):
    return Vector(zero.size, 8 * zero.dtype.itemsize)


@unbox(Vector)
def _unbox_zero_vector(vector, _zero, _context):
    return NativeValue(_constant(0.0, vector))


def zero_vector(lanes: int, dtype) -> ZeroVector | np.ndarray:
    """Make the vector of zeros to pass to a kernel.

    Parameters
    ----------
    lanes : {16, 32}
    dtype : {float32, float64}
    """
    return np.zeros(lanes, dtype) if config.DISABLE_JIT else ZeroVector(lanes, np.dtype(dtype))


def aligned_zeros(size: int, dtype) -> np.ndarray:
    """Make a flat array of zeros that begins at a multiple of `ALIGNMENT` bytes and has room for one vector more."""
    item = np.dtype(dtype).itemsize
    buffer = np.zeros(item * (size + 2 * LANES) + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + item * size].view(dtype)


def _in_jitted_code(function, result_type):
    """Register what a call of `function` compiles to: the type of its result, and its LLVM instructions."""

    def register(generate):
        @infer_global(function)
        class _Typing(AbstractTemplate):
            def generic(self, args, kws):
                result = None if kws else result_type(*args)
                return result and signature(result, *args)

        lower_builtin(function, types.VarArg(types.Any))(generate)
        return generate

    return register


def lanes_of(zero):
    """Return the number of lanes of a vector."""
    return zero.size


@_in_jitted_code(lanes_of, lambda zero: types.intp)
def _lanes_of(context, _builder, sig, _args):
    return context.get_constant(types.intp, sig.args[0].lanes)


def load(array, start, zero):
    """Read as many entries as `zero` has lanes from a flat array, from `start` on."""
    return array[start : start + zero.size].copy()


@_in_jitted_code(load, lambda array, start, zero: zero if isinstance(zero, Vector) else None)
def _load(context, builder, sig, args):
    value = builder.load(_pointer(context, builder, sig, args, sig.return_type))
    value.align = sig.return_type.bits // 8
    return value


def entry(array, index):
    """Return array[index] of a flat array, for an index that is not negative (Numba would look whether it is)."""
    return array[index]


@_in_jitted_code(entry, lambda array, index: array.dtype if isinstance(array, types.Array) else None)
def _entry(context, builder, sig, args):
    array = context.make_array(sig.args[0])(context, builder, args[0])
    index = context.cast(builder, args[1], sig.args[1], types.intp)
    return builder.load(builder.gep(array.data, [index]))


def store(array, start, vector):
    """Write the lanes of `vector` into a flat array, from `start` on."""
    array[start : start + vector.size] = vector


@_in_jitted_code(store, lambda array, start, vector: types.none)
def _store(context, builder, sig, args):
    pointer = _pointer(context, builder, sig, args, sig.args[2])
    builder.store(args[2], pointer).align = sig.args[2].bits // 8
    return context.get_dummy_value()


def _vector_of(operands):
    """Type of the vectors among the operands of an operation, None if they do not fit together."""
    vectors = {kind for kind in operands if isinstance(kind, Vector)}
    others = [kind for kind in operands if not isinstance(kind, Vector)]
    fits = len(vectors) == 1 and all(isinstance(kind, types.Float) for kind in others)
    return vectors.pop() if fits else None


def _as_vectors(context, builder, sig, args):
    vector = sig.return_type
    return [
        value
        if isinstance(kind, Vector)
        else _broadcast(builder, context.cast(builder, value, kind, vector.scalar), vector)
        for kind, value in zip(sig.args, args, strict=True)
    ]


def fma(a, b, c):
    """Return a * b + c, rounded once; one or two of them may be numbers in place of vectors."""
    if np.result_type(a, b, c) == np.float32:  # both products and sums of float32 are exact enough in float64
        return (np.multiply(a, b, dtype=np.float64) + c).astype(np.float32)
    return np.vectorize(_fused)(a, b, c)


def _fused(a, b, c):
    from fractions import Fraction

    return (
        float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
        if math.isfinite(a * b + c)
        else a * b + c
    )


@_in_jitted_code(fma, lambda *operands: _vector_of(operands))
def _fma(context, builder, sig, args):
    vector = sig.return_type
    function = _function(builder, f"llvm.fma.v{vector.lanes}f{vector.bits}", vector.llvm, [vector.llvm] * 3)
    return builder.call(function, _as_vectors(context, builder, sig, args))


def _define_operator(function, instruction):
    """Let `function` act on two vectors, or on a vector and a number, lane by lane."""

    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            result = None if kws else _vector_of(args)
            return result and signature(result, *args)

    def generate(context, builder, sig, args):
        return getattr(builder, instruction)(*_as_vectors(context, builder, sig, args))

    # for these types alone: other modules have vectors of their own
    for operands in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(function, *operands)(generate)


_define_operator(operator.add, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


def square_root(vector):
    """Return the root of each lane."""
    return np.sqrt(vector)


@_in_jitted_code(square_root, lambda vector: vector)
def _square_root(_context, builder, sig, args):
    vector = sig.return_type
    return builder.call(
        _function(builder, f"llvm.sqrt.v{vector.lanes}f{vector.bits}", vector.llvm, [vector.llvm]), args
    )


def positive_part(vector):
    """Return max(x, 0) of each lane; 0 for nan."""
    return np.where(vector > 0, vector, 0).astype(vector.dtype)


@_in_jitted_code(positive_part, lambda vector: vector)
def _positive_part(_context, builder, sig, args):
    zeros = _constant(0.0, sig.return_type)
    return builder.select(builder.fcmp_ordered(">", args[0], zeros), args[0], zeros)


def where_positive(condition, vector):
    """Return the lanes of `vector` where those of `condition` are positive, 0 elsewhere."""
    return np.where(condition > 0, vector, 0).astype(vector.dtype)


@_in_jitted_code(where_positive, lambda condition, vector: vector)
def _where_positive(_context, builder, sig, args):
    zeros = _constant(0.0, sig.return_type)
    return builder.select(builder.fcmp_ordered(">", args[0], zeros), args[1], zeros)


def greater(one, two):
    """Return the greater of the two, lane by lane."""
    return np.where(one > two, one, two)


@_in_jitted_code(greater, lambda one, two: _vector_of((one, two)))
def _greater(context, builder, sig, args):
    return _greater_of(builder, *_as_vectors(context, builder, sig, args))


def _greater_of(builder, one, two):
    return builder.select(builder.fcmp_ordered(">", one, two), one, two)


def sign(vector):
    """Return -1, 0 or 1 of each lane."""
    return np.sign(vector)


@_in_jitted_code(sign, lambda vector: vector)
def _sign(_context, builder, sig, args):
    [x], vector = args, sig.return_type
    zeros, ones, negative = (_constant(value, vector) for value in (0.0, 1.0, -1.0))
    below = builder.select(builder.fcmp_ordered("<", x, zeros), negative, zeros)
    return builder.select(builder.fcmp_ordered(">", x, zeros), ones, below)


def magnitude(vector):
    """Return |x| of each lane."""
    return np.abs(vector)


@_in_jitted_code(magnitude, lambda vector: vector)
def _magnitude(_context, builder, sig, args):
    vector = sig.return_type
    return builder.call(
        _function(builder, f"llvm.fabs.v{vector.lanes}f{vector.bits}", vector.llvm, [vector.llvm]), args
    )


def sum_lanes(vector):
    """Return the sum of 16 lanes: the halves are added until one is left."""
    while vector.size > 1:
        vector = vector[: vector.size // 2] + vector[vector.size // 2 :]
    return vector[0]


@_in_jitted_code(sum_lanes, lambda vector: vector.scalar)
def _sum_lanes(_context, builder, sig, args):
    return _fold(builder, args[0], builder.fadd)


def max_lanes(vector):
    """Return the greatest lane."""
    return vector.max()


@_in_jitted_code(max_lanes, lambda vector: vector.scalar)
def _max_lanes(_context, builder, sig, args):
    return _fold(builder, args[0], lambda one, two: _greater_of(builder, one, two))


def _fold(builder, x, combine):
    while x.type.count > 1:
        half = x.type.count // 2
        x = combine(_shuffle(builder, x, x, range(half)), _shuffle(builder, x, x, range(half, 2 * half)))
    return builder.extract_element(x, ir.Constant(_INT32, 0))


def sums_of_16(array, start, zero):
    """Read 16 vectors of 16 lanes that follow each other in a flat array, and return the vector of their 16 sums."""
    rows = array[start : start + LANES * LANES].reshape(LANES, 4, 4)
    ab = rows[:, :, ::2] + rows[:, :, 1::2]
    blocks = ab[:, :, 0] + ab[:, :, 1]
    return (blocks[:, 0] + blocks[:, 1]) + (blocks[:, 2] + blocks[:, 3])


@_in_jitted_code(sums_of_16, lambda array, start, zero: zero)
def _sums_of_16(context, builder, sig, args):
    vector = sig.return_type

    def add(x, y, lanes_of_terms):
        return builder.fadd(*(_shuffle(builder, x, y, lanes) for lanes in lanes_of_terms))

    def in_blocks(first, second):  # lanes of x, then lanes of y, in each block of four
        return [4 * block + lane + 16 * other for block in range(4) for other, lane in (*first, *second)]

    pointer = _pointer(context, builder, sig, args, vector)
    rows = []
    for i in range(LANES):
        row = builder.load(builder.gep(pointer, [ir.Constant(_INT32, i)]))
        row.align = vector.bits // 8
        rows.append(row)
    even_odd = (
        in_blocks([(0, 0), (0, 2)], [(1, 0), (1, 2)]),
        in_blocks([(0, 1), (0, 3)], [(1, 1), (1, 3)]),
    )
    # A letter names the row that a lane is a part of: each block of four is aaaa, then aabb, then abcd.
    for _ in range(2):
        rows = [add(x, y, even_odd) for x, y in zip(rows[::2], rows[1::2], strict=True)]
    blocks = [
        [lane + 4 * block + 16 * other for other in (0, 1) for block in pair for lane in range(4)]
        for pair in ((0, 2), (1, 3))
    ]
    for _ in range(2):
        rows = [add(x, y, blocks) for x, y in zip(rows[::2], rows[1::2], strict=True)]
    return rows[0]


_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""Minimax polynomial of (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, for float32 (Cephes)."""
_LOWEST = -87.0


def exponential(vector):
    """Return exp(x) of each lane, to 2 units in the last place; for float32 what is below exp(-87) counts as 0."""
    if vector.dtype == np.float32:
        return np.where(vector < _LOWEST, np.float32(0), np.exp(vector))
    return np.exp(vector)


@_in_jitted_code(exponential, lambda vector: vector)
def _exponential(_context, builder, sig, args):
    [x], vector = args, sig.return_type
    if vector.bits == 64:
        exp = _function(builder, "llvm.exp.f64", ir.DoubleType(), [ir.DoubleType()])
        for lane in range(vector.lanes):
            i = ir.Constant(_INT32, lane)
            x = builder.insert_element(x, builder.call(exp, [builder.extract_element(x, i)]), i)
        return x

    def constant(value):
        return _constant(value, vector)

    fused = _function(builder, f"llvm.fma.v{vector.lanes}f32", vector.llvm, [vector.llvm] * 3)
    nearest = _function(builder, f"llvm.nearbyint.v{vector.lanes}f32", vector.llvm, [vector.llvm])
    integers = ir.VectorType(_INT32, vector.lanes)
    vanishes = builder.fcmp_ordered("<", x, constant(_LOWEST))
    x = builder.select(vanishes, constant(_LOWEST), x)
    n = builder.call(nearest, [builder.fmul(x, constant(_LOG2_E))])
    r = builder.call(fused, [n, constant(-_LN2_HIGH), x])
    r = builder.call(fused, [n, constant(-_LN2_LOW), r])
    p = constant(_EXP[0])
    for coefficient in _EXP[1:]:
        p = builder.call(fused, [p, r, constant(coefficient)])
    p = builder.call(fused, [p, builder.fmul(r, r), builder.fadd(r, constant(1.0))])
    exponent = builder.add(builder.fptosi(n, integers), ir.Constant(integers, [127] * vector.lanes))
    power = builder.bitcast(builder.shl(exponent, ir.Constant(integers, [23] * vector.lanes)), vector.llvm)
    return builder.select(vanishes, constant(0.0), builder.fmul(p, power))


def _pointer(context, builder, sig, args, vector):
    """Address of array[start], the first two arguments of `load` and `store`, as that of a vector."""
    start = context.cast(builder, args[1], sig.args[1], types.intp)
    array = context.make_array(sig.args[0])(context, builder, args[0])
    return builder.bitcast(builder.gep(array.data, [start]), vector.llvm.as_pointer())


def _constant(value, vector):
    return ir.Constant(vector.llvm, [value] * vector.lanes)


def _broadcast(builder, value, vector):
    one = builder.insert_element(ir.Constant(vector.llvm, ir.Undefined), value, ir.Constant(_INT32, 0))
    return _shuffle(builder, one, one, [0] * vector.lanes)


def _shuffle(builder, one, two, lanes):
    lanes = list(lanes)
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))


def _function(builder, name, result, arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)
