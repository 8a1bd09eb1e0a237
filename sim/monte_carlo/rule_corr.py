r"""Monte Carlo over permutations of Corr_n of any update rule at a fixed theta.

Two passes over an epoch of m batches, n = m - 1 being the last step. Forward: gradients of batches (and micro-batches),
psi_a and psi_a', the averages z_a and updates F_t. Backward: u_k = F_k + ... + F_{n-1} grows by one step at a time, and
with it the sums of w^a_{n,k} psi_a'(g_k) * (H_k u_k), of which Corr_n is the sum with dPhi/dz_a. The loops over
gathered rows are those of Adam's own kernel (`sim.monte_carlo.corr_kernels`), which is faster and good for numbers near
the ends of float64; the formulas are compiled from the rule (`sim.monte_carlo.compiled_rule`).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.theory import Array
from sim.losses.problems import LeastSquares, Problem
from sim.monte_carlo.compiled_rule import RuleTables, formulas_of, tabulate_rule
from sim.monte_carlo.gathered_rows import rows_dot_vector, weighted_sum_of_rows
from sim.monte_carlo.simd import lanes_of, load, padded, panel_lanes, store, zero_vector


class Epoch(NamedTuple):
    """What a kernel needs to know of an epoch beside the rows of the samples.

    Attributes
    ----------
    rule : RuleTables
        Up to step n.
    last : (K, m) ndarray
        Weights at step n, over the number of samples of a batch.
    decay : (width,) ndarray
        weight_decay times theta.
    size, n_micro, n_params : int
        Samples of a micro-batch, micro-batches of a batch, and components of a row before its padding.
    """

    rule: RuleTables
    last: Array
    decay: Array
    size: int
    n_micro: int
    n_params: int


def corr_of_rule(
    problem: Problem,
    rule: UpdateRule,
    batch_size: int,
    micro_batch_size: int | None = None,
) -> Callable[[np.ndarray], Array]:
    """Make the function that maps orders of the samples to values of Corr_n.

    Parameters
    ----------
    problem : LeastSquares or Quadratics
    rule : UpdateRule
    batch_size : int
        A divisor of the number of samples.
    micro_batch_size : int, optional
        A divisor of `batch_size`, of a rule that averages over micro-batches.

    Returns
    -------
    callable
        From orders (n_orders, n_samples) to (n_orders, n_params); batch k of a row holds its entries k batch_size to
        (k + 1) batch_size - 1. Raises InputError where Corr_n is not finite.

    Raises
    ------
    InputError
        For a size that does not divide, or weight decay of a problem without `theta`.
    """
    size = micro_batch_size if rule.of_micro_batches and micro_batch_size else batch_size
    if batch_size < 1 or problem.n_samples % batch_size or size < 1 or batch_size % size:
        raise InputError(
            f"batch_size is {batch_size} of micro-batches of {size}, allowed: divisors of n_samples = "
            f"{problem.n_samples}"
        )
    n_batches, zero = problem.n_samples // batch_size, zero_vector(panel_lanes(problem.n_params))
    decay = rule.require_parameters(problem.theta)
    last = np.array([weights.at(n_batches - 1) for weights in rule.weights]) / size
    if isinstance(problem, LeastSquares):
        rows, weights, hessians = problem.features, problem.residuals, np.zeros((0, 0, 0))
    else:
        rows, weights, hessians = (
            problem.gradients,
            np.ones(problem.n_samples),
            padded(problem.hessians, zero.size),
        )
    rows = padded(rows, zero.size)
    away = padded(np.zeros(problem.n_params) if decay is None else decay, zero.size)
    epoch = Epoch(tabulate_rule(rule, n_batches), last, away, size, batch_size // size, problem.n_params)
    formulas, least_squares = formulas_of(rule), isinstance(problem, LeastSquares)

    def corr(orders: np.ndarray) -> Array:
        values = np.empty((len(orders), rows.shape[1]))
        with np.errstate(all="ignore"):
            _kernel(
                *formulas, least_squares, rows, weights / size, hessians, epoch,
                np.ascontiguousarray(orders, np.int32), zero, values,
            )  # fmt: skip
        values = values[:, : problem.n_params]
        if not np.isfinite(values).all():
            raise InputError(
                f"Corr_n of {rule.name} is not a finite number for an order of the batches, allowed: batch gradients "
                "where its formula has derivatives; with eps_root = 0 they are not zero"
            )
        return values

    return corr


@njit(cache=True, nogil=True, error_model="numpy")
def _mean_rows(rows, n, means):
    """Write the mean of each `n` rows in turn; assignments to slices would take longer to compile than the kernel."""
    for k in range(len(means)):
        for j in range(means.shape[1]):
            total = rows[k * n, j]
            for i in range(1, n):
                total += rows[k * n + i, j]
            means[k, j] = total / n


@njit(cache=True, nogil=True, error_model="numpy")
def _kernel(
    evaluate, write_psi, update, partials, least_squares, rows, weights, hessians, epoch, orders, zero, values
):
    """Write Corr_n of every order (n_orders, n_samples) into `values` (n_orders, width).

    The first four are the functions of `compiled_rule.Formulas`. The version of the loops over gathered rows is in the
    type of `zero`, so that none is taken from Numba's cache that was made with another.
    """
    rule, n_micro, size = epoch.rule, epoch.n_micro, epoch.size
    (n_averages, m), width = epoch.last.shape, rows.shape[1]
    micro = np.empty((m * n_micro, width))  # gradients of micro-batches
    batch = np.empty((m, width))
    shape = (n_averages, m * n_micro, width)
    values_of_micro, slopes = np.empty(shape), np.empty(shape)
    psi, bends = np.empty((n_averages, m, width)), np.empty((n_averages, m, width))
    averages, updates = np.empty((n_averages, m, width)), np.empty((m, width))
    sums, u, product = np.empty((n_averages, width)), np.empty((1, width)), np.empty(width)
    dots, seen = np.empty((1, size + 3)), np.empty(width)
    ends, z_end = np.empty((n_averages, width)), np.empty((n_averages, width))
    for p in range(orders.shape[0]):
        order = orders[p].view(np.uint32)
        for k in range(m * n_micro):
            members = order[k * size : (k + 1) * size]
            for c in range(0, width, lanes_of(zero)):
                total = zero
                for r in members:
                    total = total + load(rows, (r, c), zero) * weights[r]
                store(micro, (k, c), total)
            for j in range(epoch.n_params, width):
                micro[k, j] = 1.0  # a padding of zeros would be 0/0
        _mean_rows(micro, n_micro, batch)
        evaluate(
            write_psi, micro, batch, rule.settings, rule.of_micro_batches, values_of_micro, slopes, psi, bends
        )
        for a in range(n_averages):
            seen[:] = 0.0
            for k in range(m):
                past, current, decay = rule.past[a, k], rule.current[a, k], rule.decay[a]
                for j in range(width):
                    value = psi[a, k, j]
                    averages[a, k, j] = past * seen[j] + current * value
                    seen[j] = decay * seen[j] + value
        update(averages.reshape((n_averages, m * width)), rule.settings, updates.reshape(m * width))
        sums[:], u[:] = 0.0, 0.0
        for k in range(m - 2, -1, -1):
            for j in range(width):
                u[0, j] += updates[k, j] + epoch.decay[j]
            for i in range(n_micro):
                members = order[(k * n_micro + i) * size : (k * n_micro + i + 1) * size]
                if least_squares:
                    rows_dot_vector(rows, members, u, 0, dots)
                for c in range(0, width, lanes_of(zero)):
                    if least_squares:
                        total = weighted_sum_of_rows(rows, members, dots, c, zero)
                    else:
                        total = zero
                        for r in members:
                            for j in range(hessians.shape[1]):
                                total = total + load(hessians, (r, j, c), zero) * u[0, j]
                    store(product, (c,), total)
                for a in range(n_averages):
                    weight = epoch.last[a, k] / n_micro
                    of_micro = n_micro > 1 and rule.of_micro_batches[a]
                    slope = slopes[a, k * n_micro + i] if of_micro else bends[a, k]
                    for j in range(width):
                        sums[a, j] += weight * slope[j] * product[j]
        for a in range(n_averages):
            for j in range(width):
                z_end[a, j] = averages[a, m - 1, j]
        partials(z_end, rule.settings, ends)
        for j in range(width):
            values[p, j] = 0.0
        for a in range(n_averages):
            for j in range(width):
                values[p, j] += ends[a, j] * sums[a, j]
