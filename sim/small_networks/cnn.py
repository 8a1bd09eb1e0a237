"""The two-layer convolutional network of `sim.losses.cnn` for `kernels`: two rows of inputs and hidden units a sample.

Filters are the columns of one matrix, those of class +1 first, filled up to a multiple of 32. With h the responses of
the filters to the two patches, cut at 0, the margin is y sum_patches (sum_+ h^q - sum_- h^q), and the loss
log(1 + exp(-margin)).
"""

import math

import numpy as np
from numba import njit

from sim.losses.cnn import make_data, make_weights
from sim.small_networks.layers import SPARE, Network, multiply
from sim.small_networks.simd import LANES, load, sum_lanes

N_PATCHES = 2
PATCH_LENGTH, N_NOISE, NOISE_STD, FEATURE_NOISE = 96, 16, 0.25, 0.2
N_FILTERS, INIT_STD, POWER = 16, 0.1, 3
N_HELD_OUT = 1024
"""Samples for validation, and as many for the test."""


def make_cnn(kind: int) -> Network:
    """Lay out the network; `kind` is its `inputs`."""
    n_columns = 2 * N_FILTERS
    return Network(
        kind,
        0,
        N_PATCHES,
        0,
        PATCH_LENGTH,
        n_columns,
        2,
        PATCH_LENGTH,
        0,
        0,
        0,
        0,
        0,
        0,
        PATCH_LENGTH * n_columns,
    )


def make_cnn_samples(n_samples: int, seed: int):
    """Draw (patches, labels) for training, validation and test: (n, 2, PATCH_LENGTH) and (n,) of +1 and -1."""
    n_all = n_samples + 2 * N_HELD_OUT
    data = make_data(n_all, PATCH_LENGTH, N_NOISE, NOISE_STD, FEATURE_NOISE, seed)
    ends = np.cumsum([n_samples, N_HELD_OUT, N_HELD_OUT])
    for start, end in zip([0, *ends], ends, strict=False):
        yield data.patches[start:end], data.labels[start:end]


def first_weights(seed: int) -> np.ndarray:
    """Draw the filters, (PATCH_LENGTH, 2 N_FILTERS), a column each."""
    return make_weights(N_FILTERS, PATCH_LENGTH, INIT_STD, seed).reshape(-1, PATCH_LENGTH).T


@njit(cache=True, nogil=True)
def gather_patches(net, features, order, first, n, x):
    """Write both patches of n samples to `x`, rows of n_inputs + SPARE."""
    size, stride = net.n_inputs, net.n_inputs + SPARE
    for s in range(n):
        for p in range(N_PATCHES):
            at, i = (N_PATCHES * s + p) * stride, (N_PATCHES * order[first + s] + p) * size
            for j in range(size):
                x[at + j] = features[i + j]


@njit(cache=True, nogil=True)
def margin_loss(net, weights, labels, order, first, n, x, h, d, scale, zero, tile):
    """Add up losses and errors of n samples; write `scale` times the gradients of the responses, d(loss)/d(h)."""
    m, h_stride = net.n_hidden, net.n_hidden + SPARE
    multiply(x, net.n_inputs + SPARE, N_PATCHES * n, net.n_inputs, weights, 0, m, h, h_stride, True, tile)
    loss, n_errors = 0.0, 0
    for s in range(n):
        total = zero
        for p in range(N_PATCHES):
            at = (N_PATCHES * s + p) * h_stride
            for j in range(0, m // 2, LANES):
                plus, minus = load(h, at + j, zero), load(h, at + m // 2 + j, zero)
                total = total + (plus * plus * plus - minus * minus * minus)
        label = np.float64(labels[order[first + s]])
        margin = label * np.float64(sum_lanes(total))
        small = math.exp(-abs(margin))
        loss += max(-margin, 0.0) + math.log1p(small)
        n_errors += not margin > 0
        doubt = small / (1 + small) if margin > 0 else 1 / (1 + small)
        slope = weights.dtype.type(-POWER * label * doubt) * scale
        for p in range(N_PATCHES):
            for j in range(m):
                response = h[(N_PATCHES * s + p) * h_stride + j]
                sign = slope if j < m // 2 else -slope
                d[(N_PATCHES * s + p) * m + j] = sign * response * response
    return loss, n_errors


@njit(cache=True, nogil=True)
def squared_gradient(net, x, d, s):
    """Return |g_s|^2 of a sample: the gradient is the sum over its patches of x d^T."""
    total, stride = 0.0, net.n_inputs + SPARE
    for p in range(N_PATCHES):
        for q in range(N_PATCHES):
            xx, dd = 0.0, 0.0
            for j in range(net.n_inputs):
                xx += np.float64(x[(N_PATCHES * s + p) * stride + j]) * np.float64(
                    x[(N_PATCHES * s + q) * stride + j]
                )
            for j in range(net.n_hidden):
                dd += np.float64(d[(N_PATCHES * s + p) * net.n_hidden + j]) * np.float64(
                    d[(N_PATCHES * s + q) * net.n_hidden + j]
                )
            total += xx * dd
    return total
