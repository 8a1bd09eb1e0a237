"""Jitted kernels: Corr_n of Adam for a block of sample orders, in one thread.

Two passes over an epoch of m batches, n = m - 1 being the last step. Forward: batch gradients g_t and steps
F_t = M_t / R_t. Backward: u_k = F_k + ... + F_{n-1} grows by one step at a time, and with it

    L_n = sum_k mu_k H_k u_k,     P_n = sum_k nu_k g_k * (H_k u_k),     Corr_n = L_n / R_n - M_n P_n / R_n^3

(Definition 3.1 and Theorem 2.3 of [1]_). Rows are padded with zeros to a width that is a multiple of the lanes of
`zero`, and each loop over c walks the panels of a row (`sim.monte_carlo.simd`). `sim.monte_carlo.corr` is the
door: nothing here checks an index.

References
----------
.. [1] Cattaneo & Shigida (2026), "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv 2602.01642.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from adam_minibatch_noise.theory import one_minus_power
from sim.monte_carlo.gathered_rows import rows_dot_vector, weighted_sum_of_rows
from sim.monte_carlo.simd import (
    aligned_zeros,
    dots_of_four,
    lanes_of,
    load,
    prefetch,
    reciprocal_sqrt,
    store,
)

SMALLEST_ROOT = 2.0**-508
"""Below it, in units of the largest gradient, R_t has lost digits: the squares it is made of are below 2^-1022."""


class Units(NamedTuple):
    """Powers of 2 by which a problem is divided, so that no square or product leaves the range of float64.

    Attributes
    ----------
    gradient : ndarray of int, shape (d,)
        Of component j of the gradients, and of the square root of eps_root beside them.
    hessian : int
    """

    gradient: np.ndarray
    hessian: int


class AdamWeights(NamedTuple):
    """Adam's weights over an epoch of m batches; each batch sum is 1 / scale times a batch mean.

    Attributes
    ----------
    beta1, beta2 : float
    scale1, scale2 : ndarray, shape (m,)
        (1 - beta) / (1 - beta^(t+1)): M_t = scale1[t] sum_k beta1^(t-k) g_k, and R_t^2 alike.
    mu, nu : ndarray, shape (m,)
        Weights of the batches in M_n and R_n^2, divided by the batch size: they multiply sums over a batch.
    eps_root : ndarray, shape (1, width)
        1 in the padding, where R would be 0.
    units : ndarray, shape (3, width)
        Powers of 2 whose product takes Corr_n back to the caller's units.
    faint : bool
        An R_t may be below `SMALLEST_ROOT`.
    """

    beta1: float
    beta2: float
    scale1: np.ndarray
    scale2: np.ndarray
    mu: np.ndarray
    nu: np.ndarray
    eps_root: np.ndarray
    units: np.ndarray
    faint: bool


def make_adam_weights(
    n_batches: int, batch_size: int, beta1: float, beta2: float, eps_root: float, units: Units, columns: np.ndarray,
    width: int, smallest: float,
) -> AdamWeights:  # fmt: skip
    """Tabulate the weights of Definition 3.1 of [1]_ for `n_batches` batches; component j is at columns[j].

    No sample has a gradient component below `smallest`, in `units`.
    """
    t = np.arange(n_batches)
    scale1 = (1 - beta1) / one_minus_power(beta1, t + 1)
    scale2 = (1 - beta2) / one_minus_power(beta2, t + 1)
    mu, nu = scale1[-1] * beta1 ** t[::-1] / batch_size, scale2[-1] * beta2 ** t[::-1] / batch_size
    floor, factors = aligned_zeros((1, width)), aligned_zeros((3, width))
    floor[:] = 1
    floor[0, columns] = np.ldexp(float(eps_root), -2 * units.gradient)
    power = units.hessian - units.gradient  # Corr is of degree 1 in the Hessians, -1 in the gradients
    factors[:, columns] = np.ldexp(1.0, [(power + i) // 3 for i in range(3)])
    # a sum of numbers above 2^-300 is 0, and then said to be so, or above 2^-410
    faint = (smallest < 2.0**-300 or beta2 < 1e-3) and floor.min() < SMALLEST_ROOT**2
    return AdamWeights(float(beta1), float(beta2), scale1, scale2, mu, nu, floor, factors, bool(faint))


class Workspace(NamedTuple):
    """What one thread keeps of one epoch, all of the padded width, and overwrites with the next.

    Attributes
    ----------
    gradients, steps : ndarray, shape (m, width)
        g_t and F_t.
    last : ndarray, shape (3, width)
        M_n, 1 / R_n and the sum of all 1 / R_t^2 (0 unless `AdamWeights.faint`).
    sums : ndarray, shape (3, width)
        u_k, L and P so far.
    slopes : ndarray, shape (1, batch_size + 3)
        a_r . u_k for the rows of a batch.
    """

    gradients: np.ndarray
    steps: np.ndarray
    last: np.ndarray
    sums: np.ndarray
    slopes: np.ndarray


U, L, P = 0, 1, 2  # rows of Workspace.sums


def make_workspace(n_batches: int, batch_size: int, width: int) -> Workspace:
    """Allocate a `Workspace`."""
    shapes = (n_batches, width), (n_batches, width), (3, width), (3, width), (1, batch_size + 3)
    return Workspace(*map(aligned_zeros, shapes))


@njit(cache=True, nogil=True, error_model="numpy")
def corr_least_squares(features, residuals, batch_size, adam, orders, work, zero, values):
    """Fill `values` (n_permutations, width) for rows a_r with Hessian a_r a_r^T and gradient b residuals[r] a_r."""
    for p in range(orders.shape[0]):
        order = orders[p]
        forward(features, residuals, order, batch_size, adam, work, zero)
        _backward_least_squares(features, order, batch_size, adam, work, zero)
        combine(adam, work, zero, values[p : p + 1])


@njit(cache=True, nogil=True, error_model="numpy")
def corr_quadratics(gradients, hessians, weights, batch_size, adam, orders, work, zero, values):
    """Fill `values` (n_permutations, width) for gradients b weights[r] gradients[r] and hessians (N, d, width)."""
    for p in range(orders.shape[0]):
        order = orders[p]
        forward(gradients, weights, order, batch_size, adam, work, zero)
        _backward_quadratics(hessians, order, batch_size, adam, work, zero)
        combine(adam, work, zero, values[p : p + 1])


@njit(cache=True, error_model="numpy")
def forward(rows, weights, order, batch_size, adam, work, zero):
    """Batch gradients g_t = sum_r weights[r] rows[r] and steps F_t = M_t / R_t, t = 0..m-1."""
    for c in range(0, rows.shape[1], lanes_of(zero)):
        eps_root = load(adam.eps_root, (0, c), zero)
        exp_avg, exp_avg_sq = zero, zero  # M_t / scale1[t], R_t^2 / scale2[t]
        for t in range(len(adam.mu)):
            gradient = zero
            for r in order[t * batch_size : (t + 1) * batch_size]:
                gradient = gradient + load(rows, (r, c), zero) * weights[r]
            exp_avg = exp_avg * adam.beta1 + gradient
            exp_avg_sq = exp_avg_sq * adam.beta2 + gradient * gradient
            first = exp_avg * adam.scale1[t]
            one_over_root = reciprocal_sqrt(exp_avg_sq * adam.scale2[t] + eps_root)
            store(work.gradients, (t, c), gradient)
            store(work.steps, (t, c), first * one_over_root)
        store(work.last, (0, c), first)
        store(work.last, (1, c), one_over_root)
        for i in range(3):
            store(work.sums, (i, c), zero)
    if adam.faint:
        _sum_one_over_squares(adam, work, zero)


@njit(cache=True, error_model="numpy")
def _sum_one_over_squares(adam, work, zero):
    """Sum 1 / R_t^2 over the steps, for `combine` to see the smallest R_t."""
    for c in range(0, work.gradients.shape[1], lanes_of(zero)):
        exp_avg_sq, total = zero, zero
        for t in range(len(adam.mu)):
            gradient = load(work.gradients, (t, c), zero)
            exp_avg_sq = exp_avg_sq * adam.beta2 + gradient * gradient
            one_over_root = reciprocal_sqrt(exp_avg_sq * adam.scale2[t] + load(adam.eps_root, (0, c), zero))
            total = total + one_over_root * one_over_root
        store(work.last, (2, c), total)


@njit(cache=True, error_model="numpy")
def add_step(k, work, zero):
    """u_k = u_{k+1} + F_k."""
    for c in range(0, work.steps.shape[1], lanes_of(zero)):
        store(work.sums, (U, c), load(work.sums, (U, c), zero) + load(work.steps, (k, c), zero))


@njit(cache=True, error_model="numpy")
def _backward_least_squares(features, order, batch_size, adam, work, zero):
    """Sum L and P over the batches: b H_k u = sum_r a_r (a_r . u)."""
    if features.shape[1] == lanes_of(zero):
        _backward_one_panel(features, order, batch_size, adam, work, zero)
        return
    for k in range(len(adam.mu) - 2, -1, -1):
        add_step(k, work, zero)
        batch = order[k * batch_size : (k + 1) * batch_size]
        rows_dot_vector(features, batch, work.sums, U, work.slopes)
        for c in range(0, features.shape[1], lanes_of(zero)):
            product = weighted_sum_of_rows(features, batch, work.slopes, c, zero)
            add_product(product, k, c, adam, work)


@njit(cache=True, error_model="numpy")
def _backward_one_panel(features, order, batch_size, adam, work, zero):
    """The same for rows of one panel: each is read once, and stays in registers while its a_r . u is summed."""
    u, slopes = zero, work.slopes
    for k in range(len(adam.mu) - 2, -1, -1):
        u = u + load(work.steps, (k, 0), zero)
        product = zero
        start, stop = k * batch_size, (k + 1) * batch_size
        in_fours = stop - batch_size % 4
        for i in range(start, in_fours, 4):
            for j in range(i, i + 4):  # as many rows of the next batch, k - 1
                prefetch(features, (order[max(j, batch_size) - batch_size], 0), zero)
            a0, a1 = load(features, (order[i], 0), zero), load(features, (order[i + 1], 0), zero)
            a2, a3 = load(features, (order[i + 2], 0), zero), load(features, (order[i + 3], 0), zero)
            store(slopes, (0, 0), dots_of_four(a0, a1, a2, a3, u))
            product = product + a0 * slopes[0, 0] + a1 * slopes[0, 1] + a2 * slopes[0, 2] + a3 * slopes[0, 3]
        for i in range(in_fours, stop):
            a0 = load(features, (order[i], 0), zero)
            store(slopes, (0, 0), dots_of_four(a0, zero, zero, zero, u))
            product = product + a0 * slopes[0, 0]
        add_product(product, k, 0, adam, work)


@njit(cache=True, error_model="numpy")
def _backward_quadratics(hessians, order, batch_size, adam, work, zero):
    """Sum L and P over the batches: b H_k u = sum_r sum_j u_j (row j of the symmetric Hessian of sample r)."""
    for k in range(len(adam.mu) - 2, -1, -1):
        add_step(k, work, zero)
        for c in range(0, hessians.shape[2], lanes_of(zero)):
            product = zero
            for i in range(k * batch_size, (k + 1) * batch_size):
                for j in range(hessians.shape[1]):
                    product = product + load(hessians, (order[i], j, c), zero) * work.sums[U, j]
            add_product(product, k, c, adam, work)


@njit(cache=True, error_model="numpy")
def add_product(product, k, c, adam, work):
    """Add batch k's part, b H_k u_k in the panel that begins at c, to L and P."""
    store(work.sums, (L, c), load(work.sums, (L, c), product) + product * adam.mu[k])
    weighted = product * load(work.gradients, (k, c), product)
    store(work.sums, (P, c), load(work.sums, (P, c), product) + weighted * adam.nu[k])


@njit(cache=True, error_model="numpy")
def combine(adam, work, zero, value):
    """Corr_n = L_n / R_n - M_n P_n / R_n^3 in the caller's units; nan where an R_t is below `SMALLEST_ROOT`."""
    for c in range(0, value.shape[1], lanes_of(zero)):
        first, one_over_root = load(work.last, (0, c), zero), load(work.last, (1, c), zero)
        second = (first * one_over_root) * (load(work.sums, (P, c), zero) * one_over_root)
        corr = (load(work.sums, (L, c), zero) + second * -1.0) * one_over_root
        for i in range(3):
            corr = corr * load(adam.units, (i, c), zero)
        lost = load(work.last, (2, c), zero) * (2.0**1023 * SMALLEST_ROOT * SMALLEST_ROOT * 2)  # or infinite
        store(value, (0, c), corr + lost * 0.0)
