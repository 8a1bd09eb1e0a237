"""Jitted sums over gathered rows of a table, the inner loops of the kernels.

Rows are padded with zeros to a width that is a multiple of the lanes of `zero` (`sim.monte_carlo.simd`).
"""

from numba import njit

from sim.monte_carlo.simd import lanes_of, load, store, sums_of_four


@njit(cache=True, forceinline=True)
def _four_dots(rows, order, i, last, table, j, zero):
    """Vector of rows[order[i + k]] . table[j], k < 4; beyond `last` that of `last` again."""
    r0, r1 = order[i], order[min(i + 1, last)]
    r2, r3 = order[min(i + 2, last)], order[min(i + 3, last)]
    s0, s1, s2, s3 = zero, zero, zero, zero
    for c in range(
        0, rows.shape[1], lanes_of(zero)
    ):  # four rows share each load of the vector, and their sums over lanes
        x = load(table, (j, c), zero)
        s0 = s0 + load(rows, (r0, c), zero) * x
        s1 = s1 + load(rows, (r1, c), zero) * x
        s2 = s2 + load(rows, (r2, c), zero) * x
        s3 = s3 + load(rows, (r3, c), zero) * x
    return sums_of_four(s0, s1, s2, s3)


@njit(cache=True, forceinline=True)
def rows_dot_vector(rows, order, start, n_rows, table, j, out, zero):
    """Write rows[order[start + i]] . table[j] to out[0, i], i < n_rows; `out` has 3 entries to spare."""
    last = start + n_rows - 1
    for i in range(start, last + 1, 4):
        store(out, (0, i - start), _four_dots(rows, order, i, last, table, j, zero))


@njit(cache=True, forceinline=True)
def shifted_rows_dot_vector(rows, order, start, n_rows, table, j, shifts, scale, out, zero):
    """Write (rows[order[start + i]] . table[j] + shifts[start + i]) scale; 3 entries to spare in `shifts` and `out`."""
    last = start + n_rows - 1
    four = sums_of_four(zero, zero, zero, zero)
    for i in range(start, last + 1, 4):
        dots = _four_dots(rows, order, i, last, table, j, zero)
        store(out, (0, i - start), (dots + load(shifts, (i,), four)) * scale)


@njit(cache=True, forceinline=True)
def weighted_sum_of_rows(rows, order, start, n_rows, weights, c, zero):
    """Sum weights[0, i] rows[order[start + i]] over i < n_rows: the panel that begins at column c."""
    total = zero
    for i in range(n_rows):
        total = total + load(rows, (order[start + i], c), zero) * weights[0, i]
    return total
