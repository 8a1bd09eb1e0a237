"""What `sim.terms` measures: the terms of Proposition 3.3, the lines of Proposition A.6, the moments of Lemma A.7.

SGD with momentum: `sim.monte_carlo.sgd_terms`.
"""

import numpy as np

from adam_minibatch_noise.expansion.bounds import higher_order_bound
from adam_minibatch_noise.expansion.noise_sources import TERMS, SwitchedCorr
from adam_minibatch_noise.expansion.proposition_a6 import LINES, PARTS, adam_lines
from adam_minibatch_noise.expansion.second_order import adam_expectation
from adam_minibatch_noise.expansion.weight_sums import limit_weight_sums, weight_sums
from adam_minibatch_noise.theory import batch_variance_factor, expected_corr_terms, limit_constants
from sim.losses.problems import Quadratics
from sim.monte_carlo.orders import (
    Progress,
    average_over_orders,
    enumerated_average,
    every_independent_order,
    every_order,
    ignore,
)
from sim.monte_carlo.term_results import Result


def _adam(problem, batch_size, beta1, beta2, eps_root, n_epochs):
    """Return moments, weight sums, v, 1/b, Corr_n's two parts without noise, and the bound."""
    moments, n_batches = problem.moments(), problem.n_samples // batch_size
    n_steps = n_batches * n_epochs
    sums = weight_sums((beta1, beta2), n_batches, n_steps - 1)
    v = float(batch_variance_factor(problem.n_samples, batch_size))
    quiet = SwitchedCorr(
        np.broadcast_to(moments.gradient, (1, n_steps, problem.n_params)),
        np.broadcast_to(moments.hessian, (1, n_steps, *moments.hessian.shape)),
        moments,
        beta1,
        beta2,
        eps_root,
    )
    parts = np.array([part[0] for part in quiet.parts()])
    with np.errstate(divide="ignore", invalid="ignore"):
        bound, _ = higher_order_bound(
            problem.gradients,
            problem.hessian_row,
            moments,
            batch_size,
            sums,
            eps_root,
            odd_orders=False,
        )
    return moments, sums, v, parts, np.where(np.isnan(bound), np.inf, bound)


def adam_terms(
    problem: Quadratics,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float = 0.0,
    n_epochs: int = 1,
    n_permutations: int | None = None,
    seed: int = 0,
    progress: Progress = ignore,
) -> list[Result]:
    """FB and MBN1 .. MBN5 of Adam at the last step of some epochs, each measured by itself.

    Parameters
    ----------
    problem : Quadratics
    batch_size : int
        A divisor of the number of samples.
    beta1, beta2 : float
        In [0, 1).
    eps_root : float
        >= 0.
    n_epochs : int
        >= 1.
    n_permutations, seed : int, optional
        Random orders to average over, and their seed. Default: all orders.
    progress : callable
        Called with the number of orders done since the last call.

    Returns
    -------
    list of Result

    Raises
    ------
    InputError
        If there are too many orders, a batch gradient is 0 and `eps_root` too, or a component of g is 0.
    """
    moments, sums, v, parts, bound = _adam(problem, batch_size, beta1, beta2, eps_root, n_epochs)
    zeroth, exact = adam_expectation(moments, sums, v, eps_root)
    constants = limit_constants(beta1, beta2)
    limit = expected_corr_terms(moments, constants, v)
    per_batch = expected_corr_terms(moments, constants, 1 / batch_size)

    def evaluate(gradients, hessians):
        switched = SwitchedCorr(gradients, hessians, moments, beta1, beta2, eps_root)
        return np.array([switched.pair(a, b).sum(axis=0) for a, b in TERMS.values()])

    mean, stderr = average_over_orders(
        problem, batch_size, n_epochs, n_permutations, seed, evaluate, progress
    )
    zero, scale = np.zeros_like(zeroth), np.abs(parts).sum(axis=0)
    first = (parts.sum(axis=0), zero, limit["FB"], per_batch["FB"], zeroth, zero, scale)
    return [Result("FB", "", "", "", *first)] + [
        Result(term, "", "", "", value, error, limit[term], per_batch[term], exact[term], bound, scale)
        for term, value, error in zip(TERMS, mean, stderr, strict=True)
    ]


def lines(
    problem: Quadratics,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float = 0.0,
    n_epochs: int = 1,
    progress: Progress = ignore,
) -> list[Result]:
    """Every line of `expansion.proposition_a6`, the noise of a batch with itself and of different batches apart.

    Parameters, result and errors as in `adam_terms`, over all orders.
    """
    moments, sums, v, parts, bound = _adam(problem, batch_size, beta1, beta2, eps_root, n_epochs)
    n_batches = problem.n_samples // batch_size
    n_steps = n_batches * n_epochs
    betas = beta1, beta2
    limit = limit_weight_sums(betas)
    predictions = [
        adam_lines(moments, limit, v),
        adam_lines(moments, limit, 1 / batch_size),
        adam_lines(moments, weight_sums(betas, n_batches, n_steps - 1, 0.0), v, eps_root),
        adam_lines(moments, sums, v, eps_root),
    ]

    def evaluate(gradients, hessians):
        switched = SwitchedCorr(gradients, hessians, moments, *betas, eps_root)
        return np.array([switched.pair((a,), (b,))[PARTS.index(part)] for part, a, b in LINES])

    apart = every_independent_order(problem.n_samples, batch_size, n_steps)
    together = every_order(problem.n_samples, batch_size, n_epochs)
    same = enumerated_average(problem, apart, evaluate, progress)
    both = enumerated_average(problem, together, evaluate, progress)
    results = []
    zero = np.zeros(problem.n_params)
    for (line, term), own, total in zip(LINES.items(), same, both, strict=True):
        part, *places = line
        scale = np.abs(parts[PARTS.index(part)])
        at_once, per_batch, apart, together = (prediction[line] for prediction in predictions)
        labels = (term, part, " ".join(places))
        results += [
            Result(*labels, "same", own, zero, at_once, per_batch, apart, bound, scale),
            Result(*labels, "different", total - own, zero, zero, zero, together - apart, 2 * bound, scale),
        ]
    return results


def moments(problem: Quadratics, batch_size: int, progress: Progress = ignore) -> list[Result]:
    """Lemma A.7: second moments of the batch noise, within a batch and between two.

    Parameters and errors as in `adam_terms`, over all orders; the results are (n_params, n_params) matrices.
    """
    b, n_batches = batch_size, problem.n_samples // batch_size
    v = float(batch_variance_factor(problem.n_samples, b))
    orders = every_order(problem.n_samples, b)
    gradients, hessians = problem.gradients[orders].mean(axis=2), problem.hessians[orders].mean(axis=2)
    progress(len(orders))
    noise, bends = gradients - problem.gradients.mean(axis=0), hessians - problem.hessians.mean(axis=0)
    by_gradient = np.einsum("opi,oqj->pqij", noise, noise, optimize=True) / len(orders)
    by_hessian = np.einsum("opij,oqj->pqij", bends, noise, optimize=True) / len(orders)
    covariance = problem.moments().covariance
    # Sigma_jj along theta_i is a parabola for quadratics: a difference over any distance is its exact slope
    away = problem.gradients[:, None] + problem.hessians, problem.gradients[:, None] - problem.hessians
    slope = (away[0].var(axis=0) - away[1].var(axis=0)) / 2  # (i, j): dSigma_jj/dtheta_i
    results = []
    pairs = {"same": np.eye(n_batches, dtype=bool)} | (
        {"different": ~np.eye(n_batches, dtype=bool)} if v else {}
    )
    for name, measured, unit in (
        ("E d_i d_j", by_gradient, covariance),
        ("E d_ij d_j", by_hessian, slope / 2),
    ):
        for batches, pattern in pairs.items():
            factor = 1.0 if batches == "same" else -1 / (n_batches - 1)
            predicted = factor * v * unit
            values = measured[pattern]
            worst = np.abs(values - predicted).reshape(len(values), -1).argmax(axis=0)
            value = np.take_along_axis(values.reshape(len(values), -1), worst[None], 0)[0].reshape(unit.shape)
            zero, limit = np.zeros_like(unit), float(batches == "same")
            scale = 100 * np.abs(unit).max() / b + zero  # accepted: 1e-12 of it
            predictions = (limit * v * unit, limit / b * unit, predicted)
            results.append(Result(name, "", "", batches, value, zero, *predictions, zero, scale))
    return results
