"""Many independent training runs on least squares: Adam and SGD with momentum, batches without replacement.

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

from sim.monte_carlo.blocks import in_threads
from sim.monte_carlo.rows import rows_dot_vector, weighted_sum_of_rows
from sim.monte_carlo.sampling import draw_permutations
from sim.monte_carlo.vectors import aligned_zeros, lanes_of, load, padded, reciprocal_sqrt, store, zero_vector
from sim.records import InputError
from sim.theory import one_minus_power

RUNS_IN_BLOCK = 32
"""Runs that a thread takes at a time."""
MAX_RUNS = 2**32
"""Runs of a seed, and so the largest `first_run` + `n_runs`."""


class Data(NamedTuple):
    """Least squares, padded: `features` (n_samples, width), `targets` (n_samples,)."""

    features: np.ndarray
    targets: np.ndarray
    batch_size: int


class State(NamedTuple):
    """Runs of a block, each array (n_runs, width): parameters and (biased) moving sums of gradients and squares."""

    theta: np.ndarray
    exp_avg: np.ndarray
    exp_avg_sq: np.ndarray


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
        As in `sim.monte_carlo.blocks.in_threads`.

    Returns
    -------
    ndarray of float64, shape (n_runs, n_epochs, d)

    Raises
    ------
    InputError
        For an argument outside its range.
    """
    _check_beta("beta1", beta1)
    _check_beta("beta2", beta2)
    if not 0 < eps_root < np.inf:
        raise InputError(f"eps_root is {eps_root}, allowed: finite and > 0")
    n_steps = n_epochs * (len(features) // max(batch_size, 1))
    t = np.arange(n_steps)
    scale1 = lr * (1 - beta1) / one_minus_power(beta1, t + 1)
    scale2 = (1 - beta2) / one_minus_power(beta2, t + 1)

    decays = float(beta1), float(beta2)

    def train_epoch(data, orders, state, epoch, zero):
        steps = slice(epoch * data.features.shape[0] // batch_size, None)
        _adam_epoch(data, orders, state, *decays, float(eps_root), scale1[steps], scale2[steps], zero)

    settings = batch_size, lr, beta1, n_epochs, n_runs, seed, first_run, progress, n_threads
    return _train(train_epoch, features, targets, theta, *settings)


def sgd_runs(
    features: np.ndarray,
    targets: np.ndarray,
    theta: np.ndarray,
    batch_size: int,
    lr: float,
    beta1: float,
    n_epochs: int,
    n_runs: int,
    seed: int,
    first_run: int = 0,
    progress: Callable[[int], object] | None = None,
    n_threads: int | None = None,
) -> np.ndarray:
    """Train `n_runs` times with SGD with momentum and keep the parameters after each epoch.

    theta <- theta - lr sum_k beta1^(t-k) g_k (heavy ball, without damping). A run that diverges ends in nan.

    Parameters
    ----------
    features, targets, theta, batch_size, lr, beta1, n_epochs, n_runs, seed, first_run, progress, n_threads
        As in `adam_runs`; the same runs see the same batches.

    Returns
    -------
    ndarray of float64, shape (n_runs, n_epochs, d)

    Raises
    ------
    InputError
        For an argument outside its range.
    """

    def train_epoch(data, orders, state, _epoch, zero):
        _sgd_epoch(data, orders, state, float(beta1), float(lr), zero)

    settings = batch_size, lr, beta1, n_epochs, n_runs, seed, first_run, progress, n_threads
    return _train(train_epoch, features, targets, theta, *settings)


def _train(
    train_epoch, features, targets, theta,
    batch_size, lr, beta1, n_epochs, n_runs, seed, first_run, progress, n_threads,
):  # fmt: skip
    """Run `train_epoch` on blocks of runs, epoch after epoch."""
    features, targets, theta = (np.asarray(array, np.float64) for array in (features, targets, theta))
    _check_problem(features, targets, theta, batch_size)
    _check_beta("beta1", beta1)
    if not 0 <= lr < np.inf:
        raise InputError(f"lr is {lr}, allowed: finite and >= 0")
    for name, value in [("n_epochs", n_epochs), ("n_runs", n_runs)]:
        if value < 1:
            raise InputError(f"{name} is {value}, allowed: >= 1")
    if not 0 <= first_run <= MAX_RUNS - n_runs:
        raise InputError(f"first_run is {first_run}, allowed: 0 to {MAX_RUNS} - n_runs")
    n_samples, d = features.shape
    zero = zero_vector(8 if d <= 16 else 32)
    data = Data(padded(features, zero.size), targets, batch_size)
    result = np.empty((n_runs, n_epochs, d))

    def block(start):
        size = min(RUNS_IN_BLOCK, n_runs - start)
        state = State(*(aligned_zeros((size, data.features.shape[1])) for _ in State._fields))
        state.theta[:, :d] = theta
        for epoch in range(n_epochs):
            orders = draw_permutations(n_samples, size, seed, first_run + start + epoch * 2**32)
            train_epoch(data, orders.view(np.uint32), state, epoch, zero)
            result[start : start + size, epoch] = state.theta[:, :d]
        return size

    for size in in_threads(block, range(0, n_runs, RUNS_IN_BLOCK), n_threads):
        if progress is not None:
            progress(size)
    return result


def _check_problem(features, targets, theta, batch_size):
    if features.ndim != 2 or targets.shape != features.shape[:1] or theta.shape != features.shape[1:]:
        raise InputError(
            f"features has shape {features.shape}, targets {targets.shape} and theta {theta.shape}, "
            "allowed: (n_samples, d), (n_samples,) and (d,)"
        )
    for name, array in [("features", features), ("targets", targets), ("theta", theta)]:
        if array.size == 0 or not np.isfinite(array).all():
            raise InputError(f"{name} is empty or has entries that are not finite, allowed: finite numbers")
    if not (batch_size >= 1 and len(features) % batch_size == 0):
        raise InputError(f"batch_size is {batch_size}, allowed: a divisor of n_samples = {len(features)}")


def _check_beta(name, beta):
    if not 0 <= beta < 1:
        raise InputError(f"{name} is {beta}, allowed: 0 <= {name} < 1")


@njit(cache=True, nogil=True, error_model="numpy")
def _adam_epoch(data, orders, state, beta1, beta2, eps_root, scale1, scale2, zero):
    """One epoch of every run; scale1[t] = lr (1 - beta1) / (1 - beta1^(t+1)), scale2 alike without lr."""
    batch_size, d = data.batch_size, data.features.shape[1]
    errors = np.zeros((1, batch_size + 3))
    eps = zero + eps_root
    for run in range(orders.shape[0]):
        order = orders[run]
        for t in range(order.size // batch_size):
            _batch_errors(data, order, t * batch_size, state.theta, run, errors, zero)
            for c in range(0, d, lanes_of(zero)):
                g = weighted_sum_of_rows(data.features, order, t * batch_size, batch_size, errors, c, zero)
                exp_avg = load(state.exp_avg, (run, c), zero) * beta1 + g
                exp_avg_sq = load(state.exp_avg_sq, (run, c), zero) * beta2 + g * g
                step = exp_avg * -scale1[t] * reciprocal_sqrt(exp_avg_sq * scale2[t] + eps)
                store(state.exp_avg, (run, c), exp_avg)
                store(state.exp_avg_sq, (run, c), exp_avg_sq)
                store(state.theta, (run, c), load(state.theta, (run, c), zero) + step)


@njit(cache=True, nogil=True, error_model="numpy")
def _sgd_epoch(data, orders, state, beta1, lr, zero):
    """One epoch of every run."""
    batch_size, d = data.batch_size, data.features.shape[1]
    errors = np.zeros((1, batch_size + 3))
    for run in range(orders.shape[0]):
        order = orders[run]
        for t in range(order.size // batch_size):
            _batch_errors(data, order, t * batch_size, state.theta, run, errors, zero)
            for c in range(0, d, lanes_of(zero)):
                g = weighted_sum_of_rows(data.features, order, t * batch_size, batch_size, errors, c, zero)
                exp_avg = load(state.exp_avg, (run, c), zero) * beta1 + g
                store(state.exp_avg, (run, c), exp_avg)
                store(state.theta, (run, c), load(state.theta, (run, c), zero) + exp_avg * -lr)


@njit(cache=True, error_model="numpy")
def _batch_errors(data, order, start, theta, run, errors, zero):
    """Write (a_r . theta - y_r) / b for the samples of a batch."""
    rows_dot_vector(data.features, order, start, data.batch_size, theta, run, errors, zero)
    share = 1 / data.batch_size
    for i in range(data.batch_size):
        errors[0, i] = (errors[0, i] - data.targets[order[start + i]]) * share
