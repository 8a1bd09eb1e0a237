"""E[Corr_n] of Adam over batch orders, measured, and held against Proposition 3.3 and what it leaves out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adam_minibatch_noise.expansion.bounds import left_out
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
from sim.monte_carlo.parallel_mean import BLOCK
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
        Proposition 3.3, summed: n -> infinity, then eps -> 0.
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


def measure_by_enumeration(
    problem: Problem,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float = 0.0,
    progress: Callable[[int], object] = lambda n: None,
) -> Array:
    """Average Corr_n over every order of the batches.

    Parameters
    ----------
    problem : LeastSquares or Quadratics
    batch_size : int
        A divisor of the number of samples.
    beta1, beta2 : float
        In [0, 1).
    eps_root : float
        >= 0.
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
    orders = ordered_partitions(problem.n_samples, batch_size)
    arrays: tuple[Array, Array]
    corr_of: Callable[..., Array]
    if isinstance(problem, LeastSquares):
        arrays, corr_of = (problem.features, problem.residuals), corr.corr_of_permutations_least_squares
    else:
        arrays, corr_of = (problem.gradients, problem.hessians), corr.corr_of_permutations_quadratics
    values = []
    for start in range(0, len(orders), CHUNK):
        values.append(corr_of(*arrays, batch_size, beta1, beta2, eps_root, orders[start : start + CHUNK]))
        progress(len(values[-1]))
    return np.concatenate(values).mean(axis=0)


def measure_by_sampling(
    problem: Problem,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
    n_permutations: int,
    seed: int,
    control_variate: bool = True,
    progress: Callable[[int], object] = lambda n: None,
    n_threads: int | None = None,
) -> tuple[Array, Array]:
    """Average Corr_n over random orders; the same for any number of threads.

    Parameters
    ----------
    problem, batch_size, beta1, beta2, eps_root
        As in `measure_by_enumeration`.
    n_permutations : int
        >= 2.
    seed : int
    control_variate : bool
        Whether to subtract from Corr_n its part linear in the noise, whose expectation is 0.
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
        As in `sim.monte_carlo.corr.corr_moments_least_squares`.
    """
    arrays: tuple[Array, Array]
    moments_of: Callable[..., tuple[Array, Array]]
    if isinstance(problem, LeastSquares):
        arrays, moments_of = (problem.features, problem.residuals), corr.corr_moments_least_squares
    else:
        arrays, moments_of = (problem.gradients, problem.hessians), corr.corr_moments_quadratics
    adam = (batch_size, beta1, beta2, eps_root)
    return moments_of(
        *(*arrays, *adam),
        n_permutations,
        seed,
        progress=progress,
        n_threads=n_threads,
        control=linear_part(problem, *adam) if control_variate else None,
    )


def compare(
    problem: Problem,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
    measured: Array,
    stderr: Array,
    n_permutations: int | None = None,
) -> Comparison:
    """Put the prediction, and what it leaves out, beside a measured E[Corr_n].

    Parameters
    ----------
    problem, batch_size, beta1, beta2, eps_root
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
    adam = (batch_size, beta1, beta2, eps_root)
    gap = left_out(problem.gradients, problem.hessian_row, problem.moments(), *adam)
    v = float(batch_variance_factor(problem.n_samples, batch_size))
    terms = expected_corr_terms(problem.moments(), limit_constants(beta1, beta2), v)
    predicted = sum(terms.values(), np.zeros(()))
    parts = gap.exact, gap.second_order, gap.higher_order, gap.rho
    return Comparison(measured, stderr, predicted, *parts, n_permutations)
