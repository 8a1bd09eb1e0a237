"""The terms of E[Corr_n] of SGD with momentum, measured one by one and beside their closed forms."""

import numpy as np

from adam_minibatch_noise.expansion.second_order import sgd_momentum_expectation
from adam_minibatch_noise.theory import Array, batch_variance_factor
from sim.losses.problems import Quadratics
from sim.monte_carlo.orders import Progress, average_over_orders, ignore
from sim.monte_carlo.term_results import Result


def sgd_momentum_terms(
    problem: Quadratics,
    batch_size: int,
    beta: float,
    n_epochs: int = 1,
    n_permutations: int | None = None,
    seed: int = 0,
    progress: Progress = ignore,
) -> list[Result]:
    """The two terms of the modified loss of SGD with momentum: |g|^2, tr(Sigma).

    Parameters, result and errors as in `sim.monte_carlo.term_studies.adam_terms`; `beta` is the momentum.
    """
    moments = problem.moments()
    n_batches = problem.n_samples // batch_size
    n_steps = n_batches * n_epochs
    v = float(batch_variance_factor(problem.n_samples, batch_size))
    zeroth, exact = sgd_momentum_expectation(moments, beta, n_batches, n_steps - 1, v)
    # grad |g|^2/2 = H g and grad tr(Sigma)/2 = sum_j E d_ij d_j
    square = beta / (1 - beta) ** 3 * moments.hessian @ moments.gradient
    trace = beta / ((1 - beta) ** 2 * (1 + beta)) * moments.cross.sum(axis=1)
    quiet = sgd_corr(
        moments.gradient + np.zeros((1, n_steps, 1)), moments.hessian + np.zeros((1, n_steps, 1, 1)), beta
    )

    def evaluate(gradients, hessians):
        return sgd_corr(gradients, hessians, beta) - quiet

    mean, stderr = average_over_orders(
        problem, batch_size, n_epochs, n_permutations, seed, evaluate, progress
    )
    zero, scale = np.zeros_like(zeroth), np.abs(zeroth).max() + np.zeros_like(zeroth)
    return [
        Result("|g|^2", "", "", "", quiet[0], zero, square, square, zeroth, zero, scale),
        Result("tr(Sigma)", "", "", "", mean, stderr, v * trace, trace / batch_size, exact, zero, scale),
    ]


def sgd_corr(gradients: Array, hessians: Array, beta: float) -> Array:
    """Corr_n of SGD with momentum, F_t = sum_k beta^(t-k) grad L_k, for many orders.

    Parameters
    ----------
    gradients : (n_orders, n_steps, n_params) ndarray
    hessians : (n_orders, n_steps, n_params, n_params) ndarray
    beta : float
        In [0, 1).

    Returns
    -------
    (n_orders, n_params) ndarray
    """
    t = gradients.shape[1] - 1
    updates = np.empty_like(gradients[:, :-1])
    velocity = np.zeros_like(gradients[:, 0])
    for step in range(t):
        velocity = beta * velocity + gradients[:, step]
        updates[:, step] = velocity
    future = np.cumsum(updates[:, ::-1], axis=1)[:, ::-1]
    return np.einsum(
        "k,pkij,pkj->pi", beta ** np.arange(t, 0.0, -1.0), hessians[:, :-1], future, optimize=True
    )
