"""E[Corr_n] over batch orders, measured, and held against Proposition 3.3 and what it leaves out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adam_minibatch_noise.expansion.bounds import left_out
from adam_minibatch_noise.expansion.registry import ADAM
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.theory import (
    Array,
    batch_variance_factor,
    expected_corr_terms,
    limit_constants,
)
from sim.losses.problems import LeastSquares, Problem
from sim.monte_carlo import corr
from sim.monte_carlo.averaging_settings import FEWEST_PERMUTATIONS, N_STDERR
from sim.monte_carlo.control_variate import linear_part
from sim.monte_carlo.parallel_mean import BLOCK, mean_and_stderr
from sim.monte_carlo.rule_corr import corr_of_rule
from sim.monte_carlo.sampling import ordered_partitions

ROUNDING = 1e-12
"""Accepted relative error of the arithmetic itself."""
CHUNK = 16 * BLOCK
"""Orders between two reports of an enumeration."""


@dataclass(frozen=True)
class Comparison:
    """E[Corr_n], measured and predicted; arrays have shape (n_params,).

    Attributes
    ----------
    measured, stderr : ndarray
        Mean over permutations and its standard error (0 by enumeration).
    predicted : ndarray
        Proposition 3.3, summed: n -> infinity, then eps -> 0; of other optimisers their own limit.
    exact : ndarray
        Second order in the noise, exact for this epoch (`expansion.second_order`).
    left_out : ndarray
        `exact` less the limit of the formula, summed without closed forms.
    bound : ndarray
        On noise of order three and more; inf where there is none.
    rho : float
        Largest relative noise of a batch; there is a bound below sqrt(2) - 1.
    n_permutations : int, optional
        Random orders behind the mean; None: all orders.
    """

    measured: Array
    stderr: Array
    predicted: Array
    exact: Array
    left_out: Array
    bound: Array
    rho: float
    n_permutations: int | None = None

    @property
    def excess(self) -> Array:
        """|measured - predicted - left_out| over what is accepted; above 1 the formula is violated.

        nan where there is no bound, so that nothing can be said, or no number was measured.
        """
        rounding = ROUNDING * np.maximum(np.abs(self.measured), np.abs(self.predicted))
        accepted = N_STDERR * self.stderr + self.bound + rounding
        excess = np.abs(self.measured - self.predicted - self.left_out) / accepted
        return np.where(np.isinf(self.bound), np.nan, excess)

    @property
    def verdict(self) -> str:
        """One of "agreed", "violated", "too few orders", "no bound"."""
        if np.isinf(self.bound).any():
            return "no bound"
        if (self.excess <= 1).all():  # what is no number is not accepted
            return "agreed"
        few = self.n_permutations is not None and self.n_permutations < FEWEST_PERMUTATIONS
        return "too few orders" if few else "violated"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a component; None where there is no excess."""
        names = ("measured", "stderr", "predicted", "exact", "left_out", "bound")
        columns = [getattr(self, name).tolist() for name in names]
        excess = [None if np.isnan(value) else float(value) for value in self.excess]
        return [
            {"component": j} | dict(zip(names, values, strict=True)) | {"excess": value}
            for j, (*values, value) in enumerate(zip(*columns, excess, strict=True))
        ]


def corr_function(
    problem: Problem, rule: UpdateRule, batch_size: int, micro_batch_size: int | None = None
) -> Callable[[np.ndarray], Array]:
    """Return the function from orders (n, n_samples) to Corr_n (n, n_params), by the fastest kernel there is."""
    if not _is_plain_adam(rule):
        return corr_of_rule(problem, rule, batch_size, micro_batch_size)
    beta1, beta2, eps_root = _adam_settings(rule)
    if isinstance(problem, LeastSquares):
        return corr.adam_least_squares(
            problem.features, problem.residuals, batch_size, beta1, beta2, eps_root
        )
    return corr.adam_quadratics(problem.gradients, problem.hessians, batch_size, beta1, beta2, eps_root)


def _is_plain_adam(rule: UpdateRule) -> bool:
    """Whether Adam's own kernel computes the rule."""
    return rule.name == "adam" and rule.formula == ADAM and rule.settings["eps"] == 0


def _adam_settings(rule: UpdateRule) -> tuple[float, float, float]:
    beta1, beta2 = (float(weights.decay[0]) for weights in rule.weights)
    return beta1, beta2, rule.settings["eps_root"]


def measure_by_enumeration(
    problem: Problem,
    rule: UpdateRule,
    batch_size: int,
    micro_batch_size: int | None = None,
    progress: Callable[[int], object] = lambda n: None,
) -> Array:
    """Average Corr_n over every order of the batches, and of the micro-batches in them.

    Parameters
    ----------
    problem : LeastSquares or Quadratics
    rule : UpdateRule
    batch_size : int
        A divisor of the number of samples.
    micro_batch_size : int, optional
        A divisor of `batch_size`, of a rule that averages over micro-batches.
    progress : callable
        Called with the number of orders done since the last call; `sampling.n_ordered_partitions` in all.

    Returns
    -------
    (n_params,) ndarray

    Raises
    ------
    InputError
        If there are too many orders, or Corr_n is not finite for one of them.
    """
    orders = ordered_partitions(problem.n_samples, micro_batch_size or batch_size)
    corr_of = corr_function(problem, rule, batch_size, micro_batch_size)
    values = []
    for start in range(0, len(orders), CHUNK):
        values.append(corr.in_blocks(corr_of, orders[start : start + CHUNK], problem.n_samples))
        progress(len(values[-1]))
    return np.concatenate(values).mean(axis=0)


def measure_by_sampling(
    problem: Problem,
    rule: UpdateRule,
    batch_size: int,
    micro_batch_size: int | None,
    n_permutations: int,
    seed: int,
    control_variate: bool = True,
    progress: Callable[[int], object] = lambda n: None,
    n_threads: int | None = None,
) -> tuple[Array, Array]:
    """Average Corr_n over random orders; the same for any number of threads.

    Parameters
    ----------
    problem, rule, batch_size, micro_batch_size
        As in `measure_by_enumeration`.
    n_permutations : int
        >= 2.
    seed : int
    control_variate : bool
        Whether to subtract from Adam's Corr_n its part linear in the noise, whose expectation is 0.
    progress : callable
        Called with the number of permutations done since the last call.
    n_threads : int, optional
        Default: all processors.

    Returns
    -------
    mean, stderr : (n_params,) ndarray

    Raises
    ------
    InputError
        As in `measure_by_enumeration`.
    """
    corr_of = corr_function(problem, rule, batch_size, micro_batch_size)
    if control_variate and _is_plain_adam(rule):
        control = linear_part(problem, batch_size, *_adam_settings(rule))
        corr_of = corr.subtract_control(corr_of, control)
    drawing: dict[str, Any] = {"progress": progress, "n_threads": n_threads}
    return mean_and_stderr(corr_of, problem.n_samples, n_permutations, seed, **drawing)


def compare(
    problem: Problem,
    rule: UpdateRule,
    batch_size: int,
    measured: Array,
    stderr: Array,
    n_permutations: int | None = None,
    micro_batch_size: int | None = None,
) -> Comparison:
    """Put the prediction, and what it leaves out, beside a measured E[Corr_n].

    Parameters
    ----------
    problem, rule, batch_size, micro_batch_size
        As in `measure_by_enumeration`.
    measured, stderr : (n_params,) ndarray
    n_permutations : int, optional
        Random orders behind them; None: all orders.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        If a component of the gradient is 0.
    """
    moments = problem.moments()
    rows = problem.gradients, problem.hessian_row
    gap = left_out(rule, *rows, moments, batch_size, micro_batch_size, problem.theta)
    predicted = gap.exact - gap.second_order
    if rule.name == "adam":  # the closed forms themselves
        beta1, beta2, _ = _adam_settings(rule)
        v = float(batch_variance_factor(problem.n_samples, batch_size))
        terms = expected_corr_terms(moments, limit_constants(beta1, beta2), v)
        predicted = sum(terms.values(), np.zeros(()))
    parts = gap.exact, gap.second_order, gap.higher_order, gap.rho
    return Comparison(measured, stderr, predicted, *parts, n_permutations)
