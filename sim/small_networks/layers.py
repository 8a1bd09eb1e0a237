"""A network of one hidden layer, forward and back, for the samples of a batch: each product a loop over vectors.

All arrays are flat. The parameters of a network lie in one array, `weights`, as `Network` says: the rows of the
embedding, the hidden layer (a row an input, then the row of biases), the output layer. Rows of samples carry a 1 behind
their last entry, so that a bias is one more row. With at most 16 classes the output layer is stored class by class
("narrow"), otherwise hidden unit by hidden unit; padding has gradient 0 and stays as it is.

Working space of a chunk of samples: `x` inputs, `h` hidden units, `o` logits and later their gradient, `d` gradient of
the hidden units; `sums` holds 16 vectors whose lanes are to be added up.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from sim.small_networks.simd import (
    LANES,
    entry,
    exponential,
    fma,
    greater,
    lanes_of,
    load,
    max_lanes,
    positive_part,
    store,
    sum_lanes,
    sums_of_16,
    where_positive,
)

CHUNK = 64
"""Samples that go through the network at a time."""
SPARE = 16
"""Entries behind a row of samples: its 1, then zeros."""
NO_CLASS = -1e30
"""Bias of a logit that belongs to no class."""
DENSE, EMBEDDED, FROZEN, ONE_HOT = range(4)
"""What the inputs are: numbers, words with a trained or a fixed embedding, or each word a unit vector."""


class Network(NamedTuple):
    """Sizes of a network, and where its parameters lie.

    Attributes
    ----------
    inputs : int
        `DENSE`, `EMBEDDED`, `FROZEN` or `ONE_HOT`.
    n_words, n_context, n_embedding : int
        Words of the vocabulary, words of a sample, entries of a word; 0 where inputs are dense.
    n_inputs, n_hidden, n_classes : int
        Sizes of the layers.
    n_rows, n_logits, n_rows_out, n_columns_out : int
        Rows of the hidden layer, logits with padding, rows and columns of the output layer.
    at_hidden, at_output, at_bias, n_entries : int
        First entries of the hidden layer, of the output layer, of its biases (narrow: 16 entries), and the number of
        all entries.
    """

    inputs: int
    n_words: int
    n_context: int
    n_embedding: int
    n_inputs: int
    n_hidden: int
    n_classes: int
    n_rows: int
    n_logits: int
    n_rows_out: int
    n_columns_out: int
    at_hidden: int
    at_output: int
    at_bias: int
    n_entries: int


def make_network(
    n_inputs: int, n_hidden: int, n_classes: int, inputs: int = DENSE, n_words: int = 0, n_context: int = 0
) -> Network:
    """Lay out a network.

    Parameters
    ----------
    n_inputs, n_hidden, n_classes : int
        Sizes of the layers; `n_hidden` is a multiple of 32.
    inputs : {DENSE, EMBEDDED, FROZEN, ONE_HOT}
    n_words, n_context : int
        Size of the vocabulary and words of a sample; a word has ``n_inputs / n_context`` entries.

    Returns
    -------
    Network
    """

    def up(n, step):
        return -(-n // step) * step

    narrow = n_classes <= LANES
    embeds = inputs in (EMBEDDED, FROZEN)
    n_logits = LANES if narrow else up(n_classes, 2 * LANES)
    n_rows, at_hidden = up(n_inputs + 1, 4), n_words * LANES if embeds else 0
    n_rows_out, n_columns_out = (up(n_classes, 4), n_hidden) if narrow else (up(n_hidden + 1, 4), n_logits)
    at_output = at_hidden + n_rows * n_hidden
    at_bias = at_output + n_rows_out * n_columns_out
    return Network(
        inputs,
        n_words,
        n_context,
        n_inputs // n_context if n_context else 0,
        n_inputs,
        n_hidden,
        n_classes,
        n_rows,
        n_logits,
        n_rows_out,
        n_columns_out,
        at_hidden,
        at_output,
        at_bias,
        at_bias + (LANES if narrow else 0),
    )


@njit(cache=True, nogil=True)
def gather(net, weights, features, words, order, first, n, x, zero):
    """Write the inputs of samples order[first], ..., order[first + n - 1] to `x`, rows of n_inputs + SPARE."""
    stride = net.n_inputs + SPARE
    for s in range(n):
        i, at = order[first + s], s * stride
        if net.inputs == DENSE:
            for j in range(0, net.n_inputs, LANES):
                store(x, at + j, load(features, i * net.n_inputs + j, zero))
        elif net.inputs == ONE_HOT:
            for j in range(net.n_inputs):
                x[at + j] = 0
            for c in range(net.n_context):
                x[at + c * net.n_words + words[i * net.n_context + c]] = 1
        else:
            for c in range(net.n_context):
                row = words[i * net.n_context + c] * LANES  # its padding is 0, and the next word lies over it
                store(x, at + c * net.n_embedding, load(weights, row, zero))
        x[at + net.n_inputs] = 1


@njit(cache=True, nogil=True)
def multiply(a, a_stride, n, n_terms, weights, at, n_columns, out, out_stride, rectify, tile):
    """Write the product of n rows of `a` and a matrix (n_terms, n_columns) to `out`; negative entries as 0 if asked."""
    lanes = lanes_of(tile)
    for j in range(0, n_columns, lanes):
        s = 0
        while s < n:
            if n == 1:
                c0 = tile
                for i in range(n_terms):
                    c0 = fma(entry(a, i), load(weights, at + i * n_columns + j, tile), c0)
                store(out, j, positive_part(c0) if rectify else c0)
            else:
                c0, c1, c2, c3 = tile, tile, tile, tile
                a0 = s * a_stride
                a1, a2, a3 = a0 + a_stride, a0 + 2 * a_stride, a0 + 3 * a_stride
                for i in range(n_terms):
                    w = load(weights, at + i * n_columns + j, tile)
                    c0, c1 = fma(entry(a, a0 + i), w, c0), fma(entry(a, a1 + i), w, c1)
                    c2, c3 = fma(entry(a, a2 + i), w, c2), fma(entry(a, a3 + i), w, c3)
                if rectify:
                    c0, c1, c2, c3 = (
                        positive_part(c0),
                        positive_part(c1),
                        positive_part(c2),
                        positive_part(c3),
                    )
                to = s * out_stride + j
                store(out, to, c0)
                store(out, to + out_stride, c1)
                store(out, to + 2 * out_stride, c2)
                store(out, to + 3 * out_stride, c3)
            s += 4


@njit(cache=True, nogil=True)
def multiply_transposed(
    a, a_stride, n, n_terms, weights, at, n_rows, row_stride, out, out_stride, sums, zero
):
    """Write the product of n rows of `a` and the transpose of a matrix of `n_rows` rows, n_terms a multiple of 16.

    `n_rows` is a multiple of 16; `sums` is working space for 64 vectors of 16.
    """
    size = LANES * LANES
    for j in range(0, n_rows, LANES):
        s = 0
        while s < n:
            if n == 1:
                for r in range(0, LANES, 4):
                    c0, c1, c2, c3 = zero, zero, zero, zero
                    w0 = at + (j + r) * row_stride
                    w1, w2, w3 = w0 + row_stride, w0 + 2 * row_stride, w0 + 3 * row_stride
                    for k in range(0, n_terms, LANES):
                        u = load(a, k, zero)
                        c0, c1 = (
                            fma(u, load(weights, w0 + k, zero), c0),
                            fma(u, load(weights, w1 + k, zero), c1),
                        )
                        c2, c3 = (
                            fma(u, load(weights, w2 + k, zero), c2),
                            fma(u, load(weights, w3 + k, zero), c3),
                        )
                    store(sums, r * LANES, c0)
                    store(sums, (r + 1) * LANES, c1)
                    store(sums, (r + 2) * LANES, c2)
                    store(sums, (r + 3) * LANES, c3)
                store(out, j, sums_of_16(sums, 0, zero))
            else:
                a0 = s * a_stride
                a1, a2, a3 = a0 + a_stride, a0 + 2 * a_stride, a0 + 3 * a_stride
                for r in range(LANES):
                    c0, c1, c2, c3 = zero, zero, zero, zero
                    row = at + (j + r) * row_stride
                    for k in range(0, n_terms, LANES):
                        w = load(weights, row + k, zero)
                        c0, c1 = fma(load(a, a0 + k, zero), w, c0), fma(load(a, a1 + k, zero), w, c1)
                        c2, c3 = fma(load(a, a2 + k, zero), w, c2), fma(load(a, a3 + k, zero), w, c3)
                    store(sums, r * LANES, c0)
                    store(sums, size + r * LANES, c1)
                    store(sums, 2 * size + r * LANES, c2)
                    store(sums, 3 * size + r * LANES, c3)
                to = s * out_stride + j
                store(out, to, sums_of_16(sums, 0, zero))
                store(out, to + out_stride, sums_of_16(sums, size, zero))
                store(out, to + 2 * out_stride, sums_of_16(sums, 2 * size, zero))
                store(out, to + 3 * out_stride, sums_of_16(sums, 3 * size, zero))
            s += 4


@njit(cache=True, nogil=True)
def transpose_output(net, weights, transposed):
    """Write the output layer of a network with few classes hidden unit by hidden unit, 16 logits each, biases last."""
    if net.n_columns_out == net.n_logits:
        return
    for j in range(net.n_hidden):
        for k in range(net.n_classes):
            transposed[j * LANES + k] = entry(weights, net.at_output + k * net.n_hidden + j)
    for k in range(LANES):
        transposed[net.n_hidden * LANES + k] = weights[net.at_bias + k]


@njit(cache=True, nogil=True)
def forward(net, weights, transposed, x, n, h, o, zero, tile):
    """Compute the hidden units `h` (rows of n_hidden + SPARE, a 1 behind them) and the logits `o` of n samples.

    `transposed` is what `transpose_output` made of the weights.
    """
    m, h_stride = net.n_hidden, net.n_hidden + SPARE
    multiply(x, net.n_inputs + SPARE, n, net.n_inputs + 1, weights, net.at_hidden, m, h, h_stride, True, tile)
    if net.n_columns_out == net.n_logits:
        multiply(h, h_stride, n, m + 1, weights, net.at_output, net.n_logits, o, net.n_logits, False, tile)
    else:
        multiply(h, h_stride, n, m + 1, transposed, 0, LANES, o, LANES, False, zero)


@njit(cache=True, nogil=True, error_model="numpy")
def cross_entropy(net, o, targets, order, first, n, scale, with_loss, zero):
    """Replace the logits of n samples by their gradient times `scale`; if asked, add up losses and errors."""
    loss, n_errors = 0.0, 0
    for s in range(n):
        at, target = s * net.n_logits, targets[order[first + s]]
        high = load(o, at, zero)
        for k in range(LANES, net.n_logits, LANES):
            high = greater(load(o, at + k, zero), high)
        highest = max_lanes(high)
        own = o[at + target]
        total = zero
        for k in range(0, net.n_logits, LANES):
            e = exponential(load(o, at + k, zero) - highest)
            total = total + e
            store(o, at + k, e)
        partition = sum_lanes(total)
        if with_loss:
            n_errors += not own >= highest
            loss += math.log(np.float64(partition)) + (np.float64(highest) - np.float64(own))
        factor = scale / partition
        for k in range(0, net.n_logits, LANES):
            store(o, at + k, load(o, at + k, zero) * factor)
        o[at + target] -= scale
    return loss, n_errors


@njit(cache=True, nogil=True)
def backward_hidden(net, weights, o, n, h, d, sums, zero, tile):
    """Compute the gradient `d` of the hidden units before rectification, rows of n_hidden."""
    h_stride = net.n_hidden + SPARE
    if net.n_columns_out == net.n_logits:
        multiply_transposed(
            o, net.n_logits, n, net.n_logits, weights, net.at_output, net.n_hidden, net.n_logits, d, net.n_hidden,
            sums, zero,
        )  # fmt: skip
    else:
        multiply(
            o, LANES, n, net.n_classes, weights, net.at_output, net.n_hidden, d, net.n_hidden, False, tile
        )  # fmt: skip
    for s in range(n):
        for j in range(0, net.n_hidden, LANES):
            at = s * net.n_hidden + j
            store(d, at, where_positive(load(h, s * h_stride + j, zero), load(d, at, zero)))


@njit(cache=True, nogil=True)
def backward_inputs(net, weights, d, n, dx, sums, zero):
    """Compute the gradient `dx` of the inputs, rows of n_inputs + SPARE."""
    multiply_transposed(
        d, net.n_hidden, n, net.n_hidden, weights, net.at_hidden, net.n_inputs, net.n_hidden, dx,
        net.n_inputs + SPARE, sums, zero,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def scatter(net, words, order, first, n, dx, mask, gradient, zero):
    """Add the gradients of the inputs to those of the rows of the embedding that they came from.

    `mask` holds a 1 for each entry of a word, then zeros.
    """
    stride, own = net.n_inputs + SPARE, load(mask, 0, zero)
    for s in range(n):
        i = order[first + s]
        for c in range(net.n_context):
            row = words[i * net.n_context + c] * LANES
            more = load(dx, s * stride + c * net.n_embedding, zero)
            store(gradient, row, fma(own, more, load(gradient, row, zero)))
