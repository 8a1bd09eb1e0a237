"""Vectors of float64 that a jitted function keeps in registers: the same loops, written once, fast on any processor.

LLVM seldom finds wide instructions by itself in loops over gathered rows, where it must prove that nothing overlaps
and may not reorder a sum. Here the lanes are said outright, as LLVM's own vector type: `a * b + c` on 32 lanes
becomes four 512-bit instructions with AVX-512, eight of 256 bits with AVX2, and so on. Without jit
(NUMBA_DISABLE_JIT=1) the same functions act on NumPy arrays.

`panel_lanes` chooses the shape from the processor. Lanes of a panel never meet, and a sum over lanes is always one of
eight, so the order of every sum is the same on all processors that fuse a * b + c. `reciprocal_sqrt` is not: with
AVX-512 it is computed another way, which may change its last two bits.

A kernel takes an argument `zero` made by `zero_vector(lanes)`: its type says how many lanes to use, and it is where
sums begin::

    total = zero
    for r in rows:
        total = total + load(features, (r, 0), zero) * weights[r]
"""

import operator
import zlib
from pathlib import Path

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import NativeValue, lower_builtin, models, register_model, typeof_impl, unbox

ALIGNMENT = 64
"""Bytes of a cache line; rows that straddle two lines cost a third of the speed."""

# In the type's name, so that Numba's cache never serves machine code made from another version of these files, whose
# jitted functions are called from others.
_CALLED = "simd.py", "gathered_rows.py", "corr_kernels.py", "sampling.py"
_VERSION = zlib.crc32(b"".join(Path(__file__).with_name(name).read_bytes() for name in _CALLED))
_FUSE = ("contract",)  # a * b + c in one rounding where the processor can; nothing is reordered
_DOUBLE, _INT32 = ir.DoubleType(), ir.IntType(32)


class ZeroVector:
    """A number of lanes, `size`; a jitted function receives a `Vector` of zeros."""

    def __init__(self, size: int) -> None:
        self.size = size


class Vector(types.Type):
    """Numba type of a vector of `lanes` float64."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"float64x{lanes}-{_VERSION:08x}")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(_DOUBLE, vector.lanes))


@typeof_impl.register(ZeroVector)
def _typeof_zero_vector(zero, _context):
    return Vector(zero.size)


@unbox(Vector)
def _unbox_zero_vector(vector, _zero, _context):
    return NativeValue(_constant(0.0, vector.lanes))


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


def zero_vector(lanes: int) -> ZeroVector | np.ndarray:
    """Make the vector of zeros to pass to a kernel; `lanes` is a multiple of 8, `size` in the result."""
    return np.zeros(lanes) if config.DISABLE_JIT else ZeroVector(lanes)


def aligned_zeros(shape: tuple[int, ...]) -> np.ndarray:
    """Make a C-ordered float64 array of zeros that begins at a multiple of `ALIGNMENT` bytes."""
    n_bytes = 8 * int(np.prod(shape))
    buffer = np.zeros(n_bytes + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + n_bytes].view(np.float64).reshape(shape)


def padded(array: np.ndarray, lanes: int) -> np.ndarray:
    """Copy `array`, aligned, its last axis filled up with zeros to a multiple of `lanes`."""
    *others, d = array.shape
    padded = aligned_zeros((*others, -(-d // lanes) * lanes))
    padded[..., :d] = array
    return padded


def vector_bits() -> int:
    """Return the width of the registers that the compiler uses: 512 with AVX-512, 256 with AVX, otherwise 128.

    It goes by the features that Numba compiles for: NUMBA_CPU_FEATURES, or else those of this processor.
    """
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return 512 if "+avx512f" in features else 256 if "+avx" in features else 128


def _has_table_of_roots():
    return vector_bits() == 512


def panel_lanes(n_columns: int) -> int:
    """Choose how many columns a kernel takes at a time: as many as leave it registers for three such panels.

    There are 32 registers of eight lanes with AVX-512, and otherwise 16 of four or two, where wider panels spill.
    """
    if n_columns <= 16:
        return 8
    return 32 if vector_bits() == 512 else 16


def lanes_of(zero):
    """Return the number of lanes of a vector."""
    return zero.size


@_in_jitted_code(lanes_of, lambda zero: types.intp)
def _lanes_of(context, _builder, sig, _args):
    return context.get_constant(types.intp, sig.args[0].lanes)


def eight_zeros():
    """Return the vector of eight zeros."""
    return np.zeros(8)


@_in_jitted_code(eight_zeros, lambda: Vector(8))
def _eight_zeros(_context, _builder, _sig, _args):
    return _constant(0.0, 8)


def load(array, index, zero):
    """Read as many entries as `zero` has lanes from a C-ordered array, from `index` (a tuple) on."""
    start = np.ravel_multi_index(index, array.shape)
    return array.reshape(-1)[start : start + zero.size].copy()


@_in_jitted_code(load, lambda array, index, zero: zero)
def _load(context, builder, sig, args):
    value = builder.load(_pointer(context, builder, sig, args, sig.return_type.lanes))
    value.align = 8
    return value


def store(array, index, vector):
    """Write the lanes of `vector` into a C-ordered array, from `index` (a tuple) on."""
    start = np.ravel_multi_index(index, array.shape)
    array.reshape(-1)[start : start + vector.size] = vector


@_in_jitted_code(store, lambda array, index, vector: types.none)
def _store(context, builder, sig, args):
    builder.store(args[2], _pointer(context, builder, sig, args, sig.args[2].lanes)).align = 8
    return context.get_dummy_value()


def prefetch(array, index, zero):
    """Bring the entries that `load` would read into the first-level cache, ahead of time."""


@_in_jitted_code(prefetch, lambda array, index, zero: types.none)
def _prefetch(context, builder, sig, args):
    lanes, byte = sig.args[2].lanes, ir.IntType(8).as_pointer()
    start = builder.bitcast(_pointer(context, builder, sig, args, lanes), byte)
    fetch = _function(builder, "llvm.prefetch.p0", ir.VoidType(), [byte, _INT32, _INT32, _INT32])
    read_data_to_keep = [ir.Constant(_INT32, number) for number in (0, 3, 1)]
    for offset in range(0, 8 * lanes, ALIGNMENT):
        builder.call(fetch, [builder.gep(start, [ir.Constant(_INT32, offset)]), *read_data_to_keep])
    return context.get_dummy_value()


def sums_of_four(a, b, c, d):
    """Return the vector of four lanes (sum of a, sum of b, sum of c, sum of d)."""
    return np.array([a.sum(), b.sum(), c.sum(), d.sum()])


@_in_jitted_code(sums_of_four, lambda *vectors: Vector(4))
def _sums_of_four(_context, builder, _sig, args):
    def add(x, y, lanes_of_terms):
        return builder.fadd(*(_shuffle(builder, x, y, lanes) for lanes in lanes_of_terms), flags=_FUSE)

    def fold(x, lanes):
        while x.type.count > lanes:
            half = x.type.count // 2
            x = add(x, x, (range(half), range(half, 2 * half)))
        return x

    # A letter names the argument that a lane is a part of: aaaaaaaa and bbbbbbbb -> abababab; abcdabcd; abcd.
    a8, b8, c8, d8 = (fold(x, 8) for x in args)
    even_and_odd = (0, 8, 2, 10, 4, 12, 6, 14), (1, 9, 3, 11, 5, 13, 7, 15)
    ab, cd = add(a8, b8, even_and_odd), add(c8, d8, even_and_odd)
    return fold(add(ab, cd, ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15))), 4)


def dots_of_four(a, b, c, d, u):
    """Return the vector of four lanes (a . u, b . u, c . u, d . u), each summed in the order of `eight_zeros`."""
    return sums_of_four(*((x * u).reshape(-1, 8).sum(axis=0) for x in (a, b, c, d)))


@_in_jitted_code(dots_of_four, lambda *vectors: Vector(4))
def _dots_of_four(context, builder, sig, args):
    *rows, u = args
    sums = [_constant(0.0, 8)] * 4
    for lane in range(0, u.type.count, 8):
        x = _shuffle(builder, u, u, range(lane, lane + 8))
        parts = [_shuffle(builder, row, row, range(lane, lane + 8)) for row in rows]
        products = [builder.fmul(part, x, flags=_FUSE) for part in parts]
        sums = [builder.fadd(*pair, flags=_FUSE) for pair in zip(sums, products, strict=True)]
    return _sums_of_four(context, builder, sig, sums)


def reciprocal_sqrt(vector):
    """Return 1 / sqrt(x) of each lane, to 4 units in the last place; at 0 it is infinite or nan."""
    return 1 / np.sqrt(vector)


@_in_jitted_code(reciprocal_sqrt, lambda vector: vector)
def _reciprocal_sqrt(context, builder, sig, args):
    [x], lanes = args, sig.return_type.lanes
    if not _has_table_of_roots():
        return builder.fdiv(_constant(1.0, lanes), _square_root(context, builder, sig, args))
    # 14 bits from the processor's table, then Newton twice: y <- y + y (1/2 - (x/2) y^2). A third of the time.
    half = _constant(0.5, lanes)
    half_x = builder.fmul(half, x)
    y = _table_of_reciprocal_sqrt(builder, x)
    for _ in range(2):
        product = builder.fmul(builder.fmul(half_x, y), y, flags=_FUSE)
        error = builder.fsub(half, product, flags=_FUSE)
        y = builder.fadd(y, builder.fmul(y, error, flags=_FUSE), flags=_FUSE)
    return y


def square_root(vector):
    """Return sqrt(x) of each lane, to 4 units in the last place; at 0 it is 0 or nan."""
    return np.sqrt(vector)


@_in_jitted_code(square_root, lambda vector: vector)
def _square_root(context, builder, sig, args):
    [x] = args
    if not _has_table_of_roots():
        return builder.call(_function(builder, f"llvm.sqrt.v{x.type.count}f64", x.type, [x.type]), [x])
    return builder.fmul(x, _reciprocal_sqrt(context, builder, sig, args), flags=_FUSE)


def _table_of_reciprocal_sqrt(builder, x):
    v8, mask = ir.VectorType(_DOUBLE, 8), ir.Constant(ir.IntType(8), 255)
    table = _function(builder, "llvm.x86.avx512.rsqrt14.pd.512", v8, [v8, v8, mask.type])
    parts = [_shuffle(builder, x, x, range(lane, lane + 8)) for lane in range(0, x.type.count, 8)]
    parts = [builder.call(table, [part, _constant(0.0, 8), mask]) for part in parts]
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [_shuffle(builder, one, two, range(2 * one.type.count)) for one, two in pairs]
    return parts[0]


def flush_subnormals(mode):
    """Let this thread take results below 2.3e-308 for 0 (`mode` -1), or do as before (what that call returned).

    Arithmetic with such numbers takes a hundred times as long. Where the processor cannot, nothing happens.
    """
    return mode


@_in_jitted_code(flush_subnormals, lambda mode: types.int64)
def _flush_subnormals(context, builder, sig, args):
    mode = context.cast(builder, args[0], sig.args[0], types.int64)
    if "x86" not in binding.get_process_triple():
        return mode
    place = cgutils.alloca_once(builder, _INT32)
    pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
    kept, loaded = (
        _function(builder, f"llvm.x86.sse.{name}", ir.VoidType(), [pointer.type])
        for name in ("stmxcsr", "ldmxcsr")
    )
    builder.call(kept, [pointer])
    before = builder.load(place)
    flushing = builder.or_(before, ir.Constant(_INT32, 0x8040))  # results to zero, and operands
    wanted = builder.trunc(mode, _INT32)
    builder.store(builder.select(builder.icmp_signed("==", wanted, _INT32(-1)), flushing, wanted), place)
    builder.call(loaded, [pointer])
    return builder.zext(before, ir.IntType(64))


def _define_operator(function, instruction):
    """Let `function` act on two vectors, or on a vector and a float, lane by lane."""

    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            vectors = {kind for kind in args if isinstance(kind, Vector)}
            fits = len(vectors) == 1 and all(
                isinstance(kind, Vector) or kind == types.float64 for kind in args
            )
            return signature(*vectors, *args) if fits else None

    def generate(_context, builder, sig, args):
        operands = [
            value if isinstance(kind, Vector) else _broadcast(builder, value, sig.return_type.lanes)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        return getattr(builder, instruction)(*operands, flags=_FUSE)

    # for these types alone: other modules have vectors of their own
    for operands in ((Vector, Vector), (Vector, types.Float), (types.Float, Vector)):
        lower_builtin(function, *operands)(generate)


_define_operator(operator.add, "fadd")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


def _pointer(context, builder, sig, args, lanes):
    """Address of array[index], the first two arguments of `load` and `store`, as that of a vector."""
    indices = [
        context.cast(builder, index, kind, types.intp)
        for index, kind in zip(cgutils.unpack_tuple(builder, args[1]), sig.args[1], strict=True)
    ]
    array = context.make_array(sig.args[0])(context, builder, args[0])
    pointer = cgutils.get_item_pointer(context, builder, sig.args[0], array, indices)
    return builder.bitcast(pointer, ir.VectorType(_DOUBLE, lanes).as_pointer())


def _constant(value, lanes):
    return ir.Constant(ir.VectorType(_DOUBLE, lanes), [value] * lanes)


def _broadcast(builder, value, lanes):
    one = builder.insert_element(_constant(ir.Undefined, 1), value, ir.Constant(_INT32, 0))
    return _shuffle(builder, one, one, [0] * lanes)


def _shuffle(builder, one, two, lanes):
    lanes = list(lanes)
    return builder.shuffle_vector(one, two, ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes))


def _function(builder, name, result, arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)
