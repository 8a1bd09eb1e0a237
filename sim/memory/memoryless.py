r"""Update rules with memory and their memoryless twins (Theorem 2.3 of [1]_), on losses known by their derivatives.

With memory: theta_{t+1} = theta_t - lr F_t(theta_t, ..., theta_0). Without: every batch gradient and Hessian
is taken at the current theta,

    theta_{t+1} = theta_t - lr Main_t(theta_t) - lr^2 Corr_t(theta_t).

F_t is that of an `expansion.update_rule.UpdateRule`.
Weights of steps that lie so far back that they are below `NEGLIGIBLE` times the newest are taken as 0.

References
----------
.. [1] Cattaneo and Shigida, "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv:2602.01642, 2026.
"""

import math

import numpy as np
from numba import float64, int64, typeof, void

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.theory import Array
from sim.losses.landscapes import Landscape
from sim.memory.memoryless_kernels import main_and_corr_at, run_with_memory, run_without_memory
from sim.monte_carlo.compiled_rule import formulas_of, pointer, tabulate_rule

_LINE = float64[::1]
NEGLIGIBLE = 1e-18
"""Relative weight below which a past step is left out: far below the rounding of a sum."""
ROUNDING_MARGIN = 1000.0
"""A distance counts only if it is that many times the rounding of theta; the sums over steps are compensated."""


def memory_of(rule: UpdateRule) -> float:
    """Return the length of the longest average in steps, 1/(1 - decay)."""
    return 1 / (1 - _longest(rule))


def n_lags_of(rule: UpdateRule) -> int:
    """Return the number of steps whose weight is at least `NEGLIGIBLE` times the newest, >= 1."""
    longest = _longest(rule)
    # two more: an average may begin at the step before the last, and give the last another weight
    return 1 if longest == 0 else 3 + math.floor(math.log(NEGLIGIBLE) / math.log(longest))


def _longest(rule: UpdateRule) -> float:
    return max(float(weights.decay[0]) for weights in rule.weights)


def with_memory(landscape: Landscape, rule: UpdateRule, batches: np.ndarray, lr: float) -> Array:
    """Run the algorithm itself: every gradient at the point where its step was taken.

    Parameters
    ----------
    landscape : Landscape
    rule : UpdateRule
    batches : (n_steps, batch_size) ndarray of int
        Samples of the batch of every step; for a rule that averages over micro-batches (n_steps, n_micro_batches,
        micro_batch_size).
    lr : float
        > 0.

    Returns
    -------
    (n_steps + 1, n_params) ndarray
        theta_0 .. theta_{n_steps}.
    """
    trajectory = np.empty((len(batches) + 1, landscape.start.size))
    trajectory[0] = landscape.start
    tables, (evaluate, write_psi, update, _) = tabulate_rule(rule, len(batches)), formulas_of(rule)
    batches, arrays = _micro_batches(rule, batches), landscape.arrays
    signature = float64(_LINE, typeof(arrays), int64, _LINE)
    run_with_memory(
        pointer(landscape.gradient, signature), evaluate, write_psi, update, arrays, batches, lr, tables,
        rule.weight_decay, trajectory,
    )  # fmt: skip
    return trajectory


def without_memory(
    landscape: Landscape, rule: UpdateRule, batches: np.ndarray, lr: float, correction: float = 1.0
) -> Array:
    """Run the memoryless iteration theta - lr Main_t(theta) - correction lr^2 Corr_t(theta).

    Implements Theorem 2.3 of [1]_.

    Parameters
    ----------
    landscape, rule, batches, lr
        As in `with_memory`.
    correction : float
        1: the theorem's iteration; 0: without the correction.

    Returns
    -------
    (n_steps + 1, n_params) ndarray
        theta_0 .. theta_{n_steps}.

    Notes
    -----
    With `correction` = 1 the distance to `with_memory` is O(lr^2), with any other value O(lr), over
    O(1/lr) steps.
    """
    members, ids = np.unique(_micro_batches(rule, batches), axis=0, return_inverse=True)
    trajectory = np.empty((len(batches) + 1, landscape.start.size))
    trajectory[0] = landscape.start
    tables, arrays = tabulate_rule(rule, len(batches)), landscape.arrays
    signature = void(_LINE, typeof(arrays), int64, _LINE, float64[:, ::1])
    run_without_memory(
        pointer(landscape.derivatives, signature), *formulas_of(rule), arrays, landscape.n_samples, members, ids,
        n_lags_of(rule), lr, correction, tables, rule.weight_decay, trajectory,
    )  # fmt: skip
    return trajectory


def distance(
    landscape: Landscape, rule: UpdateRule, batches: np.ndarray, lr: float, correction: float
) -> float:
    """Largest distance (2-norm) between the trajectories with and without memory.

    Parameters
    ----------
    landscape, rule, batches, lr, correction
        As in `without_memory`.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If a trajectory is not finite, or the distance is too close to the rounding of the arithmetic.
    """
    true = with_memory(landscape, rule, batches, lr)
    memoryless = without_memory(landscape, rule, batches, lr, correction)
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported below
        gap = np.linalg.norm(memoryless - true, axis=1).max()
    if not np.isfinite(gap):
        raise InputError(
            f"{rule.name} at learning rate {lr:.3g} diverges or divides by zero, "
            "allowed: a smaller --lr-max, or --eps-root > 0"
        )
    rounding = np.finfo(float).eps * np.linalg.norm(true, axis=1).max()
    if gap < ROUNDING_MARGIN * rounding:
        raise InputError(
            f"{rule.name} at learning rate {lr:.3g}: the distance {gap:.3g} is within {ROUNDING_MARGIN:g} "
            f"times the rounding {rounding:.3g}, allowed: larger learning rates, and betas that are memory"
        )
    return float(gap)


def main_and_corr(
    gradients: Array, hessians: Array, rule: UpdateRule, batches: np.ndarray, theta: Array | None = None
) -> tuple[Array, Array]:
    """Main_t and Corr_t at one point, t the last step of a sequence of batches.

    Implements Theorem 2.3 of [1]_: Main_t = F_t and, with u_{t,k} = sum_{l=k}^{t-1} F_l,
    Corr_t = sum_{k<t} (dF_t/dtheta_k) u_{t,k}.

    Parameters
    ----------
    gradients : (n_samples, n_params) ndarray
        Of every sample, at the point.
    hessians : (n_samples, n_params, n_params) ndarray
    rule : UpdateRule
    batches : (t + 1, batch_size) ndarray of int
        Or (t + 1, n_micro_batches, micro_batch_size), as in `with_memory`.
    theta : (n_params,) ndarray, optional
        The point itself, for a rule with weight decay.

    Returns
    -------
    main, corr : (n_params,) ndarray
    """
    members, ids = np.unique(_micro_batches(rule, batches), axis=0, return_inverse=True)
    window, t = ids[-n_lags_of(rule) :], len(ids) - 1
    tables = tabulate_rule(rule, len(ids))
    decay = rule.require_parameters(theta)
    away = np.zeros(gradients.shape[1]) if decay is None else decay
    with np.errstate(over="ignore"):  # compiled code says nothing either; without jit NumPy would
        return main_and_corr_at(
            *formulas_of(rule), gradients, hessians, members, window, t, tables, away, True
        )


def _micro_batches(rule: UpdateRule, batches: np.ndarray) -> np.ndarray:
    """Return batches as (n_steps, n_micro, size); those of a rule of whole batches are one micro-batch each."""
    if batches.ndim != 2 + rule.of_micro_batches:
        raise InputError(
            f"batches has {batches.ndim} axes, allowed for {rule.name}: {2 + rule.of_micro_batches}"
        )
    return batches if rule.of_micro_batches else batches[:, None]
