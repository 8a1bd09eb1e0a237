"""Jitted sums over gathered rows of a table, the inner loops of the kernels.

Rows are padded with zeros to a width that is a multiple of the lanes of `zero` (`sim.monte_carlo.simd`). A function
without an argument that is a vector is not cached: nothing in its signature changes with those files' versions.
"""

from numba import njit

from sim.monte_carlo.simd import eight_zeros, load, store, sums_of_four


@njit(forceinline=True)
def _four_dots(rows, batch, i, table, j):
    """Vector of rows[batch[i + k]] . table[j], k < 4; beyond the end of `batch` that of its last row again."""
    last = len(batch) - 1
    r0, r1, r2, r3 = batch[i], batch[min(i + 1, last)], batch[min(i + 2, last)], batch[min(i + 3, last)]
    zero = eight_zeros()
    s0, s1, s2, s3 = zero, zero, zero, zero
    for c in range(0, rows.shape[1], 8):  # four rows share each load of the vector, and their sums over lanes
        x = load(table, (j, c), zero)
        s0 = s0 + load(rows, (r0, c), zero) * x
        s1 = s1 + load(rows, (r1, c), zero) * x
        s2 = s2 + load(rows, (r2, c), zero) * x
        s3 = s3 + load(rows, (r3, c), zero) * x
    return sums_of_four(s0, s1, s2, s3)


@njit(forceinline=True)
def rows_dot_vector(rows, batch, table, j, out):
    """Write rows[batch[i]] . table[j] to out[0, i]; `out` has 3 entries to spare."""
    for i in range(0, len(batch), 4):
        store(out, (0, i), _four_dots(rows, batch, i, table, j))


@njit(forceinline=True)
def shifted_rows_dot_vector(rows, batch, table, j, shifts, scale, out):
    """Write (rows[batch[i]] . table[j] + shifts[i]) scale; 3 entries to spare in `shifts` and `out`."""
    zero = eight_zeros()
    four = sums_of_four(zero, zero, zero, zero)
    for i in range(0, len(batch), 4):
        dots = _four_dots(rows, batch, i, table, j)
        store(out, (0, i), (dots + load(shifts, (i,), four)) * scale)


@njit(cache=True, forceinline=True)
def weighted_sum_of_rows(rows, batch, weights, c, zero):
    """Sum weights[0, i] rows[batch[i]] over i: the panel that begins at column c."""
    total = zero
    for i in range(len(batch)):
        total = total + load(rows, (batch[i], c), zero) * weights[0, i]
    return total
