"""Many independent training runs of Adam on least squares, batches without replacement.

The loss of sample r is l_r = (a_r . theta - y_r)^2 / 2. Each run reshuffles the samples at every epoch, with
permutations of its own (`sim.monte_carlo.sampling`): number run + 2^32 epoch of the seed. So a run does not depend on
how many others there are, on the number of threads, or on how many epochs follow.

References
----------
.. [1] Cattaneo & Shigida (2026), "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv 2602.01642.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.ranges import AT_LEAST_ONE, NONNEGATIVE, POSITIVE, within
from adam_minibatch_noise.theory import one_minus_power
from sim.monte_carlo.corr import check_finite, check_settings
from sim.monte_carlo.gathered_rows import shifted_rows_dot_vector, weighted_sum_of_rows
from sim.monte_carlo.parallel_mean import in_threads
from sim.monte_carlo.sampling import fill_permutation, make_counters
from sim.monte_carlo.simd import (
    aligned_zeros,
    lanes_of,
    load,
    padded,
    panel_lanes,
    reciprocal_sqrt,
    store,
    zero_vector,
)

RUNS_IN_BLOCK = 32
"""Runs that a thread takes at a time."""
MAX_RUNS = 2**32
"""Runs of a seed, and so the largest `first_run` + `n_runs`."""


class Data(NamedTuple):
    """Least squares, padded, and where its runs begin: `features` (n_samples, width), `targets` (n_samples,)."""

    features: np.ndarray
    targets: np.ndarray
    theta: np.ndarray
    batch_size: int
    seed: np.uint64


class Run(NamedTuple):
    """A run under way: parameters, (biased) moving sums of gradients and squares, its epoch's order.

    `theta`, `exp_avg`, `exp_avg_sq` are (1, width), `errors` (1, batch_size + 3), `order`, `picks` (working space) and
    `counters` (`sim.monte_carlo.sampling.make_counters`) (n_samples,), `minus_targets` (n_samples + 3,) in that order.
    """

    theta: np.ndarray
    exp_avg: np.ndarray
    exp_avg_sq: np.ndarray
    errors: np.ndarray
    order: np.ndarray
    picks: np.ndarray
    counters: np.ndarray
    minus_targets: np.ndarray


def adam_runs(
    features: np.ndarray,
    targets: np.ndarray,
    theta: np.ndarray,
    batch_size: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps_root: float,
    n_epochs: int,
    n_runs: int,
    seed: int,
    first_run: int = 0,
    progress: Callable[[int], object] | None = None,
    n_threads: int | None = None,
) -> np.ndarray:
    """Train `n_runs` times with Adam and keep the parameters after each epoch.

    Implements Definition 3.1 of [1]_: theta <- theta - lr M_t / R_t with bias correction, `eps_root` inside the
    square root of R_t.

    Parameters
    ----------
    features : ndarray of float, shape (n_samples, d)
    targets : ndarray of float, shape (n_samples,)
    theta : ndarray of float, shape (d,)
        Where every run begins.
    batch_size : int
        A divisor of n_samples.
    lr : float
        Finite, >= 0.
    beta1, beta2 : float
        In [0, 1).
    eps_root : float
        > 0.
    n_epochs, n_runs : int
        >= 1.
    seed, first_run : int
        Run `first_run` + i of the seed is row i of the result.
    progress : callable, optional
        Called with the number of runs done since the last call.
    n_threads : int, optional
        As in `sim.monte_carlo.parallel_mean.in_threads`.

    Returns
    -------
    ndarray of float64, shape (n_runs, n_epochs, d)

    Raises
    ------
    InputError
        For an argument outside its range.
    """
    features, targets, theta = (np.asarray(array, np.float64) for array in (features, targets, theta))
    if features.ndim != 2 or targets.shape != features.shape[:1] or theta.shape != features.shape[1:]:
        raise InputError(
            f"features has shape {features.shape}, targets {targets.shape} and theta {theta.shape}, "
            "allowed: (n_samples, d), (n_samples,) and (d,)"
        )
    check_finite(features=features, targets=targets, theta=theta)
    check_settings(len(features), batch_size, beta1, beta2, eps_root)
    within("lr", lr, NONNEGATIVE)
    within("eps_root", eps_root, POSITIVE)
    for name, value in [("n_epochs", n_epochs), ("n_runs", n_runs)]:
        within(name, value, AT_LEAST_ONE)
    if not 0 <= first_run <= MAX_RUNS - n_runs:
        raise InputError(f"first_run is {first_run}, allowed: 0 to {MAX_RUNS} - n_runs")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed is {seed}, allowed: 0 to {2**63 - 1}")
    (n_samples, d), steps = features.shape, np.arange(1, n_epochs * (len(features) // batch_size) + 1)
    numbers = float(beta1), float(beta2), float(eps_root)
    scale1 = lr * (1 - beta1) / one_minus_power(beta1, steps)
    scale2 = (1 - beta2) / one_minus_power(beta2, steps)
    zero = zero_vector(panel_lanes(d))
    data = Data(padded(features, zero.size), targets, theta, batch_size, np.uint64(seed))
    result = np.empty((n_runs, n_epochs, d))
    with np.errstate(over="ignore"):  # as in `sim.monte_carlo.sampling.draw_permutations`
        counters = make_counters(n_samples)

    def block(start):
        rows = result[start : start + RUNS_IN_BLOCK]
        theta_of_run, exp_avg, exp_avg_sq = (aligned_zeros((1, data.features.shape[1])) for _ in range(3))
        run = Run(
            theta_of_run,
            exp_avg,
            exp_avg_sq,
            errors=np.zeros((1, batch_size + 3)),
            order=np.empty(n_samples, np.uint32),
            picks=np.empty(n_samples, np.uint32),
            counters=counters,
            minus_targets=np.zeros(n_samples + 3),
        )
        with np.errstate(over="ignore"):  # as in `sim.monte_carlo.sampling.draw_permutations`
            _adam(data, run, np.uint64(first_run + start), zero, rows, *numbers, scale1, scale2)
        return len(rows)

    for size in in_threads(block, range(0, n_runs, RUNS_IN_BLOCK), n_threads):
        if progress is not None:
            progress(size)
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _adam(data, run, first_run, zero, result, beta1, beta2, eps_root, scale1, scale2):
    """Every run of a block; scale1[t] = lr (1 - beta1) / (1 - beta1^(t+1)), scale2 alike without lr."""
    (n_samples, d), batch_size = data.features.shape, data.batch_size
    eps = zero + eps_root
    for i in range(result.shape[0]):
        _begin(data, run)
        for epoch in range(result.shape[1]):
            _shuffle_samples(data, run, first_run, i, epoch)
            for start in range(0, n_samples, batch_size):
                batch = run.order[start : start + batch_size]
                _batch_errors(data, run, start, batch)
                t = (epoch * n_samples + start) // batch_size
                for c in range(0, d, lanes_of(zero)):
                    g = weighted_sum_of_rows(data.features, batch, run.errors, c, zero)
                    exp_avg = load(run.exp_avg, (0, c), zero) * beta1 + g
                    exp_avg_sq = load(run.exp_avg_sq, (0, c), zero) * beta2 + g * g
                    step = exp_avg * -scale1[t] * reciprocal_sqrt(exp_avg_sq * scale2[t] + eps)
                    store(run.exp_avg, (0, c), exp_avg)
                    store(run.exp_avg_sq, (0, c), exp_avg_sq)
                    store(run.theta, (0, c), load(run.theta, (0, c), zero) + step)
            result[i, epoch] = run.theta[0, : result.shape[2]]


@njit(cache=True, error_model="numpy")
def _begin(data, run):
    """Set the parameters to where runs begin, and the moving sums to 0."""
    run.theta[0, : data.theta.size] = data.theta
    run.exp_avg[:] = 0
    run.exp_avg_sq[:] = 0


@njit(cache=True, error_model="numpy")
def _shuffle_samples(data, run, first_run, i, epoch):
    """Draw the order of an epoch of run `first_run` + i, and put the targets in that order."""
    index = first_run + np.uint64(i) + np.uint64(epoch) * np.uint64(2**32)
    fill_permutation(run.order, run.picks, run.counters, data.seed, index)
    for k in range(run.order.size):  # once an epoch: in each step it would hold up the sum of rows
        run.minus_targets[k] = -data.targets[run.order[k]]


@njit(error_model="numpy", forceinline=True)  # not cached: see `gathered_rows`
def _batch_errors(data, run, start, batch):
    """Write (a_r . theta - y_r) / b for the samples of `batch`, from place `start` of the epoch on."""
    shifts = run.minus_targets[start:]
    shifted_rows_dot_vector(data.features, batch, run.theta, 0, shifts, 1 / data.batch_size, run.errors)
