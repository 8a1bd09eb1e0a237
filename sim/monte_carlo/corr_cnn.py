"""Monte Carlo over permutations: Corr_n of Adam for the two-layer network of `sim.losses.cnn`, at fixed weights.

The forward pass is that of `sim.monte_carlo.corr_kernels`. The backward pass never forms a Hessian: with s = p (1 - p),
p = 1 / (1 + exp(margin)), e_f = y j_f and z_fp = <w_f, x_p>, the Hessian of a sample's loss maps u to

    (hess u)_f = sum_p x_p [ a_fp (sum_{f',p'} a_f'p' <u_f', x_p'>) + c_fp <u_f, x_p> ],
    a_fp = sqrt(s) e_f act'(z_fp),     c_fp = - p e_f act''(z_fp),

where a and c are tabulated once. Parameters are laid out with the filters innermost, u[l, f], so that the lanes of a
vector are filters: both <u_f, x_p> and the sum over p take a number x_p[l] times a vector, and no sum across lanes.

References
----------
.. [1] Cattaneo & Shigida (2026), "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv 2602.01642.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from adam_minibatch_noise.errors import InputError
from sim.losses import cnn
from sim.monte_carlo.corr import CorrOfOrders, check_finite, check_settings, exponent, of_kernel
from sim.monte_carlo.corr_kernels import U, Units, add_product, add_step, combine, forward
from sim.monte_carlo.simd import (
    ZeroVector,
    aligned_zeros,
    lanes_of,
    load,
    padded,
    store,
    sums_of_four,
    zero_vector,
)

FAINTEST = -532
"""Exponent of 2 below which R_t depends on gradients of the network that have lost digits, below 2^-1022."""


class Network(NamedTuple):
    """Patches, and the derivatives of the network at them; filters, patches and samples padded with zeros.

    Attributes
    ----------
    patches : ndarray, shape (n_samples + 1, 2, length)
        The last sample, all zeros, fills up batches to a multiple of four samples.
    slopes, bends : ndarray, shape (n_samples + 1, 2, F)
        a and c above, the filters of class +1 first.
    zero : ZeroVector
        Its lanes divide F.
    """

    patches: np.ndarray
    slopes: np.ndarray
    bends: np.ndarray
    zero: ZeroVector | np.ndarray


def adam_cnn(
    weights: np.ndarray,
    data: cnn.CnnData,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
    q: int = 3,
) -> CorrOfOrders:
    """Make the function that maps sample orders to Corr_n of Adam, for the loss of the two-layer network.

    Parameters
    ----------
    weights : ndarray of float, shape (2, n_filters, patch_length)
        theta; d = weights.size, in the order of ``weights.ravel()``.
    data : CnnData
    batch_size, beta1, beta2, eps_root
        As in `sim.monte_carlo.corr.adam_least_squares`.
    q : int
        Power of the activation, >= `sim.losses.cnn.MIN_POWER`.

    Returns
    -------
    callable
        As `sim.monte_carlo.corr.adam_least_squares`.

    Raises
    ------
    InputError
        As `sim.monte_carlo.corr.adam_least_squares`, or where gradients have lost digits below 1e-307.
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 3 or len(weights) != 2:
        raise InputError(f"weights has shape {weights.shape}, allowed: (2, n_filters, patch_length)")
    check_finite(weights=weights, patches=data.patches)
    gradients = cnn.gradients(weights, data, q).reshape(data.n_samples, -1)
    check_settings(data.n_samples, batch_size, beta1, beta2, eps_root)
    size = np.maximum(exponent(gradients, axis=0), exponent(np.sqrt(eps_root)))
    largest = np.abs(gradients).max(axis=0)
    faint = (largest > 0) & ((size < FAINTEST) | (largest.max() < 2.0**-970))
    if faint.any():
        j = int(np.argmax(faint))
        raise InputError(
            f"gradient component {j} is at most {largest[j]:.3g} and eps_root is {eps_root:g}: too few digits left, "
            "allowed: larger gradients, or all of them zero and eps_root > 0"
        )
    unit = exponent(data.patches)
    network = _tabulate(weights, data, q, unit)
    shape = network.patches.shape[2], network.slopes.shape[2]  # padded
    columns = np.arange(np.prod(shape)).reshape(shape)[: weights.shape[2], : 2 * weights.shape[1]].T.ravel()
    rows = aligned_zeros((data.n_samples, np.prod(shape)))
    rows[:, columns] = np.ldexp(gradients, -size)
    problem = rows, np.full(data.n_samples, 1 / batch_size), network
    return of_kernel(_corr_cnn, problem, batch_size, beta1, beta2, eps_root, Units(size, 2 * unit), columns)


def _tabulate(weights, data, q, unit):
    """Make the `Network`, its patches divided by 2^unit."""
    filters = weights.reshape(-1, weights.shape[2])
    signs = data.labels[:, None, None] * np.repeat(cnn.CLASS_SIGNS, weights.shape[1])  # e_f, (N, 1, F)
    active = np.maximum(data.patches @ filters.T, 0)
    margins = cnn.margins(weights, data, q)[:, None, None]
    doubt, root = np.exp(-np.logaddexp(0, margins)), np.exp(-np.logaddexp(margins / 2, -margins / 2))
    slopes, bends = root * signs * q * active ** (q - 1), -doubt * signs * q * (q - 1) * active ** (q - 2)
    patches = np.ldexp(data.patches, -unit)
    tables = [padded(np.concatenate([table, 0 * table[:1]]), 8) for table in (patches, slopes, bends)]
    return Network(tables[0], tables[1], tables[2], zero_vector(8))


@njit(cache=True, nogil=True, error_model="numpy")
def _corr_cnn(rows, weights, network, batch_size, adam, orders, work, zero, values):
    """Fill `values` (n_permutations, width) for gradients b weights[r] rows[r] and the Hessians of `network`."""
    batch = np.full((batch_size + 3) // 4 * 4, len(rows), orders.dtype)
    moved = np.empty((4, 2, network.slopes.shape[2]))
    for p in range(orders.shape[0]):
        order = orders[p]
        forward(rows, weights, order, batch_size, adam, work, zero)
        for k in range(len(adam.mu) - 2, -1, -1):
            add_step(k, work, zero)
            batch[:batch_size] = order[k * batch_size : (k + 1) * batch_size]
            for i in range(0, len(batch), 4):
                _apply_to_patches(network, batch[i : i + 4], work, moved)
                _add_hessian_products(network, batch[i : i + 4], k, adam, work, moved)
        combine(adam, work, zero, values[p : p + 1])


@njit(cache=True, error_model="numpy")
def _apply_to_patches(network, four, work, moved):
    """Write <u_f, x_p> to moved[i, p, f], and sum_{f,p} a_fp <u_f, x_p> to work.slopes[0, i], for four samples i."""
    patches, slopes, zero = network.patches, network.slopes, network.zero
    n_filters = slopes.shape[2]
    r0, r1, r2, r3 = four[0], four[1], four[2], four[3]
    a0, a1, a2, a3 = zero, zero, zero, zero
    for f in range(0, n_filters, lanes_of(zero)):
        y0, y1, y2, y3 = zero, zero, zero, zero  # the first patch of each sample
        z0, z1, z2, z3 = zero, zero, zero, zero  # the second
        for j in range(patches.shape[2]):
            u = load(work.sums, (U, j * n_filters + f), zero)
            y0, z0 = y0 + u * patches[r0, 0, j], z0 + u * patches[r0, 1, j]
            y1, z1 = y1 + u * patches[r1, 0, j], z1 + u * patches[r1, 1, j]
            y2, z2 = y2 + u * patches[r2, 0, j], z2 + u * patches[r2, 1, j]
            y3, z3 = y3 + u * patches[r3, 0, j], z3 + u * patches[r3, 1, j]
        a0 = a0 + _keep(moved, 0, f, y0, z0, slopes, r0)
        a1 = a1 + _keep(moved, 1, f, y1, z1, slopes, r1)
        a2 = a2 + _keep(moved, 2, f, y2, z2, slopes, r2)
        a3 = a3 + _keep(moved, 3, f, y3, z3, slopes, r3)
    store(work.slopes, (0, 0), sums_of_four(a0, a1, a2, a3))


@njit(cache=True, error_model="numpy")
def _keep(moved, i, f, y, z, slopes, r):
    """Store the products with the two patches of sample r; return their share of its slope, by filters."""
    store(moved, (i, 0, f), y)
    store(moved, (i, 1, f), z)
    return y * load(slopes, (r, 0, f), y) + z * load(slopes, (r, 1, f), y)


@njit(cache=True, error_model="numpy")
def _add_hessian_products(network, four, k, adam, work, moved):
    """Add the four samples' sum_p x_p (factor of x_p), their share of b H_k u, to L and P."""
    patches, zero = network.patches, network.zero
    n_filters = moved.shape[2]
    r0, r1, r2, r3 = four[0], four[1], four[2], four[3]
    for f in range(0, n_filters, lanes_of(zero)):
        y0, z0 = _factor(network, r0, 0, 0, f, work, moved), _factor(network, r0, 0, 1, f, work, moved)
        y1, z1 = _factor(network, r1, 1, 0, f, work, moved), _factor(network, r1, 1, 1, f, work, moved)
        y2, z2 = _factor(network, r2, 2, 0, f, work, moved), _factor(network, r2, 2, 1, f, work, moved)
        y3, z3 = _factor(network, r3, 3, 0, f, work, moved), _factor(network, r3, 3, 1, f, work, moved)
        for j in range(patches.shape[2]):
            product = y0 * patches[r0, 0, j] + z0 * patches[r0, 1, j]
            product = product + y1 * patches[r1, 0, j] + z1 * patches[r1, 1, j]
            product = product + y2 * patches[r2, 0, j] + z2 * patches[r2, 1, j]
            product = product + y3 * patches[r3, 0, j] + z3 * patches[r3, 1, j]
            add_product(product, k, j * n_filters + f, adam, work)


@njit(cache=True, error_model="numpy")
def _factor(network, r, i, p, f, work, moved):
    """a_fp (slope of the sample along u) + c_fp <u_f, x_p>."""
    curved = load(network.bends, (r, p, f), network.zero) * load(moved, (i, p, f), network.zero)
    return load(network.slopes, (r, p, f), network.zero) * work.slopes[0, i] + curved
