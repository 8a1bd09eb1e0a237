"""The jitted loops of a run: steps, evaluations, when to stop; and what is measured at its best point.

One call of `train` is one run on one thread, from its first step to its last: weights and moments stay in that core's
caches. A batch goes through the network in chunks of `CHUNK` samples, or of a micro-batch where squares are taken of
micro-batches. The step of the optimiser is taken where the sum over the samples of a batch ends, in registers.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from sim.monte_carlo.simd import flush_subnormals
from sim.small_networks.cnn import N_PATCHES, gather_patches, margin_loss, squared_gradient
from sim.small_networks.layers import (
    CHUNK,
    EMBEDDED,
    SPARE,
    backward_hidden,
    backward_inputs,
    cross_entropy,
    forward,
    gather,
    scatter,
    transpose_output,
)
from sim.small_networks.optimizers import GRADIENT, fill_coefficients, step_bias, step_embedding, step_matrix
from sim.small_networks.orders import fill_order
from sim.small_networks.simd import LANES, fma, load, sign, store, sum_lanes

LINEAR, CNN = 4, 5
"""Inputs of a network without hidden units, output or classes (least squares), and of the two-layer CNN."""
OK, UNFINISHED, DIVERGED = range(3)
"""How a run ended: past its best point, still within reach of a better one, or without a better one than its start."""
FEWEST_EVALUATIONS = 5
"""Evaluations that a run goes on behind its best one, at least."""


class Data(NamedTuple):
    """Samples: `features` (n n_inputs,) or `words` (n n_context,), and `targets` (n,) classes or `values` (n,)."""

    features: np.ndarray
    words: np.ndarray
    targets: np.ndarray
    values: np.ndarray


class Workspace(NamedTuple):
    """What a thread writes to; see `sim.small_networks.layers`, `optimizers` and `orders`."""

    x: np.ndarray
    h: np.ndarray
    o: np.ndarray
    d: np.ndarray
    dx: np.ndarray
    sums: np.ndarray
    transposed: np.ndarray
    mask: np.ndarray
    gradient: np.ndarray
    squares: np.ndarray
    collected: np.ndarray
    coefficients: np.ndarray
    order: np.ndarray
    picks: np.ndarray
    counters: np.ndarray
    identity: np.ndarray


@njit(cache=True, nogil=True)
def _residual(net, weights, data, i, zero):
    """Return x_i . w - y_i."""
    at, total = i * net.n_inputs, zero
    for j in range(0, net.n_inputs, LANES):
        total = fma(load(data.features, at + j, zero), load(weights, j, zero), total)
    return sum_lanes(total) - data.values[i]


@njit(cache=True, nogil=True)
def step_batch(net, rule, weights, moment1, moment2, data, order, first, n_batch, micro, ws, zero, tile):
    """Take one step with samples order[first], ..., order[first + n_batch - 1]."""
    g, q, scale = ws.gradient, ws.squares, weights.dtype.type(1 / n_batch)
    k = ws.coefficients
    c = (k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7], k[8])  # by value: no store can change them
    if net.inputs < LINEAR:
        transpose_output(net, weights, ws.transposed)
    size = micro if micro else CHUNK
    for start in range(0, n_batch, size):
        n, at = min(size, n_batch - start), first + start
        begins, ends = start == 0, start + size >= n_batch
        if net.inputs == LINEAR:
            for s in range(n):
                i = order[at + s]
                residual = _residual(net, weights, data, i, zero)
                for j in range(0, net.n_inputs, LANES):
                    u = load(data.features, i * net.n_inputs + j, zero)
                    store(ws.collected, j, fma(residual * scale, u, load(ws.collected, j, zero)))
            step_embedding(
                net.n_entries, ws.collected, rule, weights, moment1, moment2, g, q, begins, ends, micro > 0, c, zero
            )  # fmt: skip
            continue
        if net.inputs == CNN:
            gather_patches(net, data.features, order, at, n, ws.x)
            margin_loss(net, weights, data.values, order, at, n, ws.x, ws.h, ws.d, scale, zero, tile)
            step_matrix(
                ws.x, net.n_inputs + SPARE, ws.d, net.n_hidden, N_PATCHES * n, net.n_inputs, net.n_hidden, 0, rule,
                weights, moment1, moment2, g, q, begins, ends, micro > 0, c, tile,
            )  # fmt: skip
            continue
        gather(net, weights, data.features, data.words, order, at, n, ws.x, zero)
        forward(net, weights, ws.transposed, ws.x, n, ws.h, ws.o, zero, tile)
        cross_entropy(net, ws.o, data.targets, order, at, n, scale, False, zero)
        backward_hidden(net, weights, ws.o, n, ws.h, ws.d, ws.sums, zero, tile)
        if net.inputs == EMBEDDED:
            backward_inputs(net, weights, ws.d, n, ws.dx, ws.sums, zero)
            scatter(net, data.words, order, at, n, ws.dx, ws.mask, ws.collected, zero)
        h_stride = net.n_hidden + SPARE
        if net.n_columns_out == net.n_logits:
            step_matrix(
                ws.h, h_stride, ws.o, net.n_logits, n, net.n_rows_out, net.n_columns_out, net.at_output, rule, weights,
                moment1, moment2, g, q, begins, ends, micro > 0, c, tile,
            )  # fmt: skip
        else:
            step_matrix(
                ws.o, LANES, ws.h, h_stride, n, net.n_rows_out, net.n_columns_out, net.at_output, rule, weights,
                moment1, moment2, g, q, begins, ends, micro > 0, c, tile,
            )  # fmt: skip
            step_bias(
                ws.o, n, net.at_bias, rule, weights, moment1, moment2, g, q, begins, ends, micro > 0, c, zero
            )  # fmt: skip
        step_matrix(
            ws.x, net.n_inputs + SPARE, ws.d, net.n_hidden, n, net.n_rows, net.n_hidden, net.at_hidden, rule, weights,
            moment1, moment2, g, q, begins, ends, micro > 0, c, tile,
        )  # fmt: skip
        if net.inputs == EMBEDDED:
            step_embedding(
                net.at_hidden, ws.collected, rule, weights, moment1, moment2, g, q, begins, ends, micro > 0, c, zero
            )  # fmt: skip


@njit(cache=True, nogil=True)
def mean_loss(net, weights, data, n_samples, ws, zero, tile):
    """Return the mean loss and the share of errors over all samples."""
    loss, n_errors = 0.0, 0
    if net.inputs == LINEAR:
        for i in range(n_samples):
            loss += 0.5 * np.float64(_residual(net, weights, data, i, zero)) ** 2
        return loss / n_samples, np.nan
    if net.inputs != CNN:
        transpose_output(net, weights, ws.transposed)
    for start in range(0, n_samples, CHUNK):
        n = min(CHUNK, n_samples - start)
        if net.inputs == CNN:
            gather_patches(net, data.features, ws.identity, start, n, ws.x)
            more = margin_loss(
                net, weights, data.values, ws.identity, start, n, ws.x, ws.h, ws.d, weights.dtype.type(1), zero, tile
            )  # fmt: skip
        else:
            gather(net, weights, data.features, data.words, ws.identity, start, n, ws.x, zero)
            forward(net, weights, ws.transposed, ws.x, n, ws.h, ws.o, zero, tile)
            more = cross_entropy(
                net, ws.o, data.targets, ws.identity, start, n, weights.dtype.type(1), True, zero
            )
        loss += more[0]
        n_errors += more[1]
    return loss / n_samples, n_errors / n_samples


@njit(cache=True, nogil=True)
def population_risk(net, weights, teacher):
    """Return E (x . w - y)^2 / 2 = (|w - w*|^2 + noise^2) / 2, inputs of unit covariance; w*, noise in `teacher`."""
    total = np.float64(teacher.values[0]) ** 2
    for j in range(net.n_inputs):
        total += (np.float64(weights[j]) - np.float64(teacher.features[j])) ** 2
    return 0.5 * total


@njit(cache=True, nogil=True)
def _held_out(net, weights, data, n_samples, ws, zero, tile):
    if net.inputs == LINEAR:
        return population_risk(net, weights, data), np.nan
    return mean_loss(net, weights, data, n_samples, ws, zero, tile)


@njit(cache=True, nogil=True, error_model="numpy")
def train(
    net, rule, weights, moment1, moment2, best, data, held_out, n_held_out, n_batch, replacement, micro, lr, beta1,
    beta2, eps, l2, decoupled, seed, max_steps, interval, patience, history, ws, zero, tile,
):  # fmt: skip
    """Train until the best validation loss lies far enough back; leave the best weights in `best`.

    An evaluation before the first step and after every `interval` steps. The run ends when it has gone on for more than
    `patience` times as many steps as it took to reach its best evaluation, and for `FEWEST_EVALUATIONS` evaluations.

    Returns
    -------
    status, n_steps, best_step, best_loss, n_evaluations
        Losses of the first evaluations are in `history`, as many as it has room for.
    """
    mode = flush_subnormals(-1)
    n_samples, n_entries = ws.order.size, net.n_entries
    n_batches = n_samples // n_batch
    share = n_batch // micro if micro else 1
    best_loss, best_step = _held_out(net, weights, held_out, n_held_out, ws, zero, tile)[0], 0
    best[:] = weights
    if history.size:
        history[0] = best_loss
    status, step, n_evaluations = UNFINISHED, 0, 1
    power1, power2 = 1.0, 1.0
    while step < max_steps:
        if step % n_batches == 0 and (n_batches > 1 or replacement or step == 0):
            fill_order(ws.order, ws.picks, ws.counters, seed, np.uint64(step // n_batches), replacement)
        power1 *= beta1
        power2 *= beta2
        fill_coefficients(ws.coefficients, rule, lr, beta1, beta2, eps, l2, decoupled, power1, power2, share)
        first = (step % n_batches) * n_batch
        step_batch(
            net, rule, weights, moment1, moment2, data, ws.order, first, n_batch, micro, ws, zero, tile
        )
        step += 1
        if step % interval:
            continue
        loss = _held_out(net, weights, held_out, n_held_out, ws, zero, tile)[0]
        if n_evaluations < history.size:
            history[n_evaluations] = loss
        n_evaluations += 1
        if not math.isfinite(loss):
            status = OK if best_step > 0 else DIVERGED
            break
        if loss < best_loss:
            best_loss, best_step = loss, step
            for j in range(n_entries):
                best[j] = weights[j]
        elif step - best_step >= max(FEWEST_EVALUATIONS * interval, patience * best_step):
            status = OK if best_step > 0 else DIVERGED
            break
    flush_subnormals(mode)
    return status, step, best_step, best_loss, n_evaluations


@njit(cache=True, nogil=True)
def squared_gradients(net, weights, data, n_samples, ws, zero, tile):
    """Return the sum over samples of |g_i|^2, each factor of each layer by itself; exact but for rounding."""
    total, one = 0.0, weights.dtype.type(1)
    if net.inputs == LINEAR:
        for i in range(n_samples):
            norm = 0.0
            for j in range(net.n_inputs):
                norm += np.float64(data.features[i * net.n_inputs + j]) ** 2
            total += np.float64(_residual(net, weights, data, i, zero)) ** 2 * norm
        return total
    if net.inputs != CNN:
        transpose_output(net, weights, ws.transposed)
    for start in range(0, n_samples, CHUNK):
        n = min(CHUNK, n_samples - start)
        if net.inputs == CNN:
            gather_patches(net, data.features, ws.identity, start, n, ws.x)
            margin_loss(net, weights, data.values, ws.identity, start, n, ws.x, ws.h, ws.d, one, zero, tile)
            for s in range(n):
                total += squared_gradient(net, ws.x, ws.d, s)
            continue
        gather(net, weights, data.features, data.words, ws.identity, start, n, ws.x, zero)
        forward(net, weights, ws.transposed, ws.x, n, ws.h, ws.o, zero, tile)
        cross_entropy(net, ws.o, data.targets, ws.identity, start, n, one, False, zero)
        backward_hidden(net, weights, ws.o, n, ws.h, ws.d, ws.sums, zero, tile)
        if net.inputs == EMBEDDED:
            backward_inputs(net, weights, ws.d, n, ws.dx, ws.sums, zero)
        for s in range(n):
            x2 = _square(ws.x, s * (net.n_inputs + SPARE), net.n_inputs + 1)
            h2 = _square(ws.h, s * (net.n_hidden + SPARE), net.n_hidden + 1)
            total += x2 * _square(ws.d, s * net.n_hidden, net.n_hidden)
            total += h2 * _square(ws.o, s * net.n_logits, net.n_logits)
            if net.inputs == EMBEDDED:
                total += _square_of_rows(net, data.words, start + s, ws.dx, s * (net.n_inputs + SPARE))
    return total


@njit(cache=True, nogil=True)
def _square(array, at, n):
    total = 0.0
    for j in range(n):
        total += np.float64(array[at + j]) ** 2
    return total


@njit(cache=True, nogil=True)
def _square_of_rows(net, words, i, dx, at):
    """Return the squared gradient of the embedding for one sample; a word that occurs twice has one row."""
    total = 0.0
    for c in range(net.n_context):
        word, seen = words[i * net.n_context + c], False
        for other in range(c):
            seen |= words[i * net.n_context + other] == word
        if seen:
            continue
        for j in range(net.n_embedding):
            entry = 0.0
            for other in range(c, net.n_context):
                if words[i * net.n_context + other] == word:
                    entry += np.float64(dx[at + other * net.n_embedding + j])
            total += entry**2
    return total


@njit(cache=True, nogil=True)
def measure(net, weights, moved, gradient, data, n_samples, rho, ws, zero, tile):
    """Measure a point: loss, its rise along rho sign(g), |g|_1, |g|^2 and the sum over samples of |g_i|^2.

    `gradient` becomes the gradient of the mean loss, `moved` the point weights + rho sign(g).
    """
    mode = flush_subnormals(-1)
    step_batch(
        net, GRADIENT, weights, gradient, moved, data, ws.identity, 0, n_samples, 0, ws, zero, tile
    )  # fmt: skip
    norm1, norm2 = 0.0, 0.0
    for j in range(net.n_entries):
        norm1 += abs(np.float64(gradient[j]))
        norm2 += np.float64(gradient[j]) ** 2
    loss = mean_loss(net, weights, data, n_samples, ws, zero, tile)[0]
    squares = squared_gradients(net, weights, data, n_samples, ws, zero, tile)
    for j in range(0, net.n_entries, LANES):
        store(moved, j, fma(sign(load(gradient, j, zero)), rho, load(weights, j, zero)))
    rise = mean_loss(net, moved, data, n_samples, ws, zero, tile)[0] - loss
    flush_subnormals(mode)
    return loss, rise, norm1, norm2, squares
