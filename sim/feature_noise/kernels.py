r"""The jitted loops of a training run: gradients of sparse samples, and Adam or AdamW applied where it matters.

`state` is (patch_length, 3, n_columns): weights, first and second moments of one coordinate of all filters side by
side, the filters of class +1 first, then those of class -1, then zeros up to a multiple of eight columns. A sample
touches the 1 + n_noise rows of its noise patch, whole rows at a time.

A row that no sample of a batch touches has gradient 0 there: its moments only shrink, m <- beta1 m, v <- beta2 v.
Unless L2 makes every gradient non-zero, such steps are left pending and made good in one go when the row is next
read, `_settle`, exactly: `sim.feature_noise.lazy_adam_steps` has the formula and its tables.

Batch-size invariant Adam squares the gradients of micro-batches before it averages them, `add_squares`. SGD with
momentum and the smooth sign move weights that have no gradient for ever, so that no step is left pending.

With L2 weights may decay to nothing: what is below 2.3e-308 counts as 0, and `at_rest` finds filters that are over.

`row_steps` (patch_length,) counts the steps already in the weights of a row; with some pending, the moments stored are
those of the first pending step; with none, those of the next step but for its gradient.
"""

import numpy as np
from numba import njit

from sim.feature_noise.lazy_adam_steps import DEGREE
from sim.monte_carlo.simd import flush_subnormals, lanes_of, load, reciprocal_sqrt, square_root, store

WEIGHT, FIRST, SECOND = 0, 1, 2
"""Middle index of `state`."""
ADAM, MOMENTUM, SIGN = 0, 1, 2
"""What the average gradient is divided by: the root of averaged squares, nothing, or the root of its own square."""
SILU = 0
"""Given for the power q: the activation z / (1 + exp(-z))."""
TINY = 1e-300
"""Added under roots, so that 0 * 1/sqrt(0) is 0; far below the square of any gradient that matters."""
SILENT = 1e-200
"""Weights below this have responses to any patch whose square is 0."""


@njit(cache=True, nogil=True)
def dot_patches(state, places, entries, first, n, out, zero):
    """Write <w_f, xi_i> of all filters f to out[i - first], samples i = first..first+n-1, (n, n_columns)."""
    for i in range(n):
        for f in range(0, state.shape[2], lanes_of(zero)):
            total = zero
            for k in range(places.shape[1]):
                w = load(state, (places[first + i, k], WEIGHT, f), zero)
                total = total + w * entries[first + i, k]
            store(out, (i, f), total)


@njit(cache=True, nogil=True, error_model="numpy")
def _slopes(response, signs, q, share, label):
    """Turn (2, n_columns) responses to noise and signal patch into d(loss)/d(response), times `share`; in place."""
    n_columns = response.shape[1]
    margin = 0.0
    for patch in range(2):
        for f in range(n_columns):
            if q == SILU:
                z, share_on = response[patch, f], 1 / (1 + np.exp(-response[patch, f]))
                response[patch, f] = signs[f] * (share_on + z * (share_on * (1 - share_on)))
                margin += signs[f] * (z * share_on)
                continue
            active = max(response[patch, f], 0.0)
            power = active
            for _ in range(q - 2):
                power *= active
            response[patch, f] = signs[f] * power
            margin += signs[f] * power * active
    margin *= label
    small = np.exp(-abs(margin))
    doubt = small / (1 + small) if margin > 0 else 1 / (1 + small)
    for patch in range(2):
        for f in range(n_columns):
            response[patch, f] *= -doubt * label * max(q, 1) * share


@njit(cache=True, nogil=True, error_model="numpy")
def add_gradient(state, data, batch, signs, q, slots, gradient, response, zero):
    """Add the mean gradient of the loss over `batch` to the rows `slots` of `gradient`.

    `data` is (places, entries, labels); coordinate c goes to row slots[c]; `response` (2, n_columns) is working space.
    """
    places, entries, labels = data
    for r in batch:
        dot_patches(state, places, entries, r, 1, response, zero)
        for f in range(state.shape[2]):
            response[1, f] = labels[r] * state[0, WEIGHT, f]
        _slopes(response, signs, q, 1 / len(batch), labels[r])
        for f in range(0, state.shape[2], lanes_of(zero)):
            slope = load(response, (0, f), zero)
            for k in range(places.shape[1]):
                slot = slots[places[r, k]]
                store(gradient, (slot, f), load(gradient, (slot, f), zero) + slope * entries[r, k])
            slot = slots[0]
            signal = load(gradient, (slot, f), zero) + load(response, (1, f), zero) * labels[r]
            store(gradient, (slot, f), signal)


@njit(cache=True, nogil=True, error_model="numpy")
def add_squares(state, data, batch, size, signs, q, slots, gradient, squares, part, response, zero):
    """`add_gradient`, and add the mean of the squared gradients of micro-batches of `size` to `squares`.

    `part`, like `gradient` and `squares`, has a row a slot; it is zero before and after.
    """
    share = size / len(batch)
    for start in range(0, len(batch), size):
        micro_batch = batch[start : start + size]
        add_gradient(state, data, micro_batch, signs, q, slots, part, response, zero)
        for r in micro_batch:
            for c in data[0][r]:
                slot = slots[c]
                for f in range(0, state.shape[2], lanes_of(zero)):
                    g = load(part, (slot, f), zero)  # 0 where another sample of the micro-batch has been here
                    store(part, (slot, f), zero)
                    store(gradient, (slot, f), load(gradient, (slot, f), zero) + g * share)
                    store(squares, (slot, f), load(squares, (slot, f), zero) + g * g * share)


@njit(cache=True, nogil=True, error_model="numpy")
def _settle(state, c, n_pending, eps, eps_root, tables, zero):
    """Put `n_pending` steps without gradient into the weights of row c; leave its moments as they are."""
    series, centers, decays, powers1, powers2 = tables
    scale1, scale2 = 1.0, 1.0
    while n_pending > 0:
        n = min(n_pending, len(centers) - 1)
        center, decay = centers[n], decays[n]
        for f in range(0, state.shape[2], lanes_of(zero)):
            second = load(state, (c, SECOND, f), zero) * scale2
            if eps_root > 0:
                square = second * center + eps_root
                inverse = reciprocal_sqrt(square)
                z = second * inverse * inverse
                if eps > 0:
                    inverse = 1.0 / (square * inverse + eps)
            else:
                root = square_root(second + TINY)
                inverse = 1.0 / (root * center + eps)
                z = root * inverse
            total = zero + series[n, DEGREE]
            for j in range(DEGREE - 1, -1, -1):
                total = total * z + series[n, j]
            step = load(state, (c, FIRST, f), zero) * scale1 * inverse * total
            store(state, (c, WEIGHT, f), load(state, (c, WEIGHT, f), zero) * decay + step)
        scale1, scale2 = scale1 * powers1[n], scale2 * powers2[n]
        n_pending -= n


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)  # a call costs more
def _shrink(n_pending, powers1, powers2):
    """Return beta1^n and beta2^n."""
    if n_pending < len(powers1):
        return powers1[n_pending], powers2[n_pending]
    return powers1[1] ** n_pending, powers2[1] ** n_pending


@njit(cache=True, nogil=True, error_model="numpy")
def _absorb(state, c, gradient, squares, slot, scale1, scale2, beta1, beta2, zero):
    """Shrink the moments of row c and add its gradient; `squares` without rows: the square of that."""
    for f in range(0, state.shape[2], lanes_of(zero)):
        g = load(gradient, (slot, f), zero)
        square = load(squares, (slot, f), zero) if len(squares) else g * g
        store(state, (c, FIRST, f), load(state, (c, FIRST, f), zero) * scale1 + g * (1 - beta1))
        store(state, (c, SECOND, f), load(state, (c, SECOND, f), zero) * scale2 + square * (1 - beta2))


@njit(cache=True, nogil=True, error_model="numpy")
def _step_all_rows(state, slots, gradient, squares, kind, bias1, bias2, settings, zero):
    """One step on every row; moments are left shrunk for the next step."""
    lr, beta1, beta2, eps, eps_root, l2, decay = settings
    rate, over_bias2 = -lr / bias1, 1 / bias2
    floor = max(eps_root, TINY)
    for c in range(state.shape[0]):
        slot = slots[c]
        for f in range(0, state.shape[2], lanes_of(zero)):
            w = load(state, (c, WEIGHT, f), zero)
            g = load(gradient, (slot, f), zero) + w * l2
            first = load(state, (c, FIRST, f), zero) + g * (1 - beta1)
            square = load(squares, (slot, f), zero) if len(squares) else g * g
            second = load(state, (c, SECOND, f), zero) + square * (1 - beta2)
            if kind == SIGN:
                mean = first * (1 / bias1)
                square = mean * mean + floor
            else:
                square = second * over_bias2 + floor
            if kind == MOMENTUM:
                step = first
            else:
                step = first / (square_root(square) + eps) if eps > 0 else first * reciprocal_sqrt(square)
            store(state, (c, WEIGHT, f), w * decay + step * rate)
            store(state, (c, FIRST, f), first * beta1)
            store(state, (c, SECOND, f), second * beta2)


@njit(cache=True, nogil=True, error_model="numpy")
def settle_all(state, row_steps, n_steps_done, settings, tables, zero):
    """Bring every row to the end of step number `n_steps_done`."""
    mode = flush_subnormals(-1)
    for c in range(state.shape[0]):
        n_pending = n_steps_done - row_steps[c]
        if n_pending > 0:
            _settle(state, c, n_pending, settings[3], settings[4], tables, zero)
            scale1, scale2 = _shrink(n_pending, tables[3], tables[4])
            for f in range(state.shape[2]):
                state[c, FIRST, f] *= scale1
                state[c, SECOND, f] *= scale2
            row_steps[c] = n_steps_done
    flush_subnormals(mode)


@njit(cache=True, nogil=True, error_model="numpy")
def at_rest(state, l2_share, out):
    """Write to `out` (n_columns,) which filters L2 has brought to where nothing moves them any more.

    Their first moments are 0, and so are (1 - beta1) l2 w = `l2_share` w, which would be added to them, and the square
    of any response, and with it the gradient.
    """
    mode = flush_subnormals(-1)
    for f in range(state.shape[2]):
        out[f] = True
        for c in range(state.shape[0]):
            w = state[c, WEIGHT, f]
            out[f] &= state[c, FIRST, f] == 0 and w * l2_share == 0 and abs(w) < SILENT
    flush_subnormals(mode)


@njit(cache=True, nogil=True, error_model="numpy")
def advance(
    state,
    row_steps,
    data,
    signs,
    q,
    batches,
    n_steps_done,
    n_dense,
    biases,
    kind,
    micro_batch_size,
    sums,
    settings,
    tables,
    zero,
):
    """Take a step for each row of `batches` (n_steps, batch_size), in place.

    `settings` are (lr, beta1, beta2, eps, eps_root, l2, decay) with decay = 1 - lr * weight_decay for AdamW; steps up
    to number `n_dense` update every row, with the moments divided by `biases` (2, n_steps); `kind` is `ADAM`,
    `MOMENTUM` or `SIGN`; `sums` (1 or 3, patch_length + 1, n_columns), the gradient and, if micro-batches are squared,
    working space, are zero before and after; the lanes of `zero` divide the columns.
    """
    mode = flush_subnormals(-1)
    _, beta1, beta2, eps, eps_root, _, _ = settings
    d, places = state.shape[0], data[0]
    response = np.empty((2, state.shape[2]))
    gradient, squares = (
        sums[0],
        sums[1 : len(sums) - 1].reshape(-1, state.shape[2]),
    )  # no rows, or those of one array
    slots = np.full(d, d)  # row of `gradient` of each coordinate; the last row stays zero
    rows = np.empty(d, np.int64)  # coordinates of the batch
    behind = np.empty(d, np.int64)  # pending steps of each of them
    for i in range(len(batches)):
        batch, t, n_rows = batches[i], n_steps_done + i + 1, 0
        for r in batch:
            for k in range(places.shape[1]):
                c = places[r, k]
                if slots[c] == d:
                    slots[c], rows[n_rows], behind[n_rows] = n_rows, c, t - 1 - row_steps[c]
                    _settle(state, c, behind[n_rows], eps, eps_root, tables, zero)
                    n_rows += 1
        if len(squares):
            size, part = micro_batch_size, sums[2]
            add_squares(state, data, batch, size, signs, q, slots, gradient, squares, part, response, zero)
        else:
            add_gradient(state, data, batch, signs, q, slots, gradient, response, zero)
        if t <= n_dense:
            _step_all_rows(state, slots, gradient, squares, kind, biases[0, i], biases[1, i], settings, zero)
            row_steps[:] = t
        for k in range(n_rows):
            c = rows[k]
            if t > n_dense:
                scale1, scale2 = _shrink(behind[k], tables[3], tables[4])
                _absorb(state, c, gradient, squares, k, scale1, scale2, beta1, beta2, zero)
                row_steps[c] = t - 1
            slots[c] = d
        sums[:2, :n_rows] = 0.0
    flush_subnormals(mode)
