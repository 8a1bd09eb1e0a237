"""What `sim.terms` measures: the terms of Proposition 3.3, the lines of Proposition A.6, the moments of Lemma A.7."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.expansion.bounds import higher_order_bound, noise_sizes
from adam_minibatch_noise.expansion.noise_sources import TERMS, SwitchedCorr
from adam_minibatch_noise.expansion.proposition_a6 import LINES, PARTS, adam_lines
from adam_minibatch_noise.expansion.second_order import adam_expectation, sgd_momentum_expectation
from adam_minibatch_noise.expansion.weight_sums import limit_weight_sums, weight_sums
from adam_minibatch_noise.theory import Array, batch_variance_factor, expected_corr_terms, limit_constants
from sim.losses.problems import Quadratics
from sim.monte_carlo.orders import average, chunk_size, drawn_orders, every_independent_order, every_order

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Result:
    """One quantity, measured and predicted; arrays of one shape.

    Attributes
    ----------
    term, part, places, batches : str
        What it is; empty where it does not apply.
    measured, stderr : ndarray
    predicted_limit, predicted_per_batch, predicted_exact : ndarray
        As m -> infinity, the same with 1/b in place of v, and for this problem.
    bound : ndarray
        On noise of order three and more.
    scale : ndarray
        What rounding errors are relative to.
    """

    term: str
    part: str
    places: str
    batches: str
    measured: Array
    stderr: Array
    predicted_limit: Array
    predicted_per_batch: Array
    predicted_exact: Array
    bound: Array
    scale: Array


def largest_noise(problem: Quadratics, batch_size: int) -> float:
    """Return the largest deviation of a batch gradient from g, relative to g, over components; rho of `bounds`."""
    g = problem.gradients.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.where(g == 0, np.inf, (problem.gradients - g) / np.abs(g))
    if not np.isfinite(noise).all():
        return float("inf")
    return float(noise_sizes(noise, batch_size)[2].max())


def _mean(problem, args, evaluate, progress):
    """Average `evaluate` over all orders, or over drawn ones."""
    size = chunk_size(problem)
    if args.method == "montecarlo":
        settings = (args.batch_size, args.n_epochs, args.n_permutations, args.seed)
        chunks = drawn_orders(problem.n_samples, *settings, size)
        return average(problem, chunks, evaluate, progress)
    mean, _ = _enumerated(
        problem, every_order(problem.n_samples, args.batch_size, args.n_epochs), evaluate, progress
    )
    return mean, np.zeros_like(mean)


def _enumerated(problem, orders, evaluate, progress):
    size = chunk_size(problem)
    chunks = (orders[start : start + size] for start in range(0, len(orders), size))
    return average(problem, chunks, evaluate, progress)


def _adam(problem, args):
    """Return moments, weight sums, v, 1/b, Corr_n's two parts without noise, and the bound."""
    moments, n_batches = problem.moments(), problem.n_samples // args.batch_size
    n_steps = n_batches * args.n_epochs
    sums = weight_sums((args.beta1, args.beta2), n_batches, n_steps - 1)
    v = float(batch_variance_factor(problem.n_samples, args.batch_size))
    quiet = SwitchedCorr(
        np.broadcast_to(moments.gradient, (1, n_steps, problem.n_params)),
        np.broadcast_to(moments.hessian, (1, n_steps, *moments.hessian.shape)),
        moments,
        args.beta1,
        args.beta2,
        args.eps_root,
    )
    parts = np.array([part[0] for part in quiet.parts()])
    with np.errstate(divide="ignore", invalid="ignore"):
        bound, _ = higher_order_bound(
            problem.gradients,
            problem.hessian_row,
            moments,
            args.batch_size,
            sums,
            args.eps_root,
            odd_orders=False,
        )
    return moments, sums, v, parts, np.where(np.isnan(bound), np.inf, bound)


def adam_terms(problem: Quadratics, args: argparse.Namespace, progress: Progress) -> list[Result]:
    """FB and MBN1 .. MBN5 of Adam."""
    moments, sums, v, parts, bound = _adam(problem, args)
    zeroth, exact = adam_expectation(moments, sums, v, args.eps_root)
    constants = limit_constants(args.beta1, args.beta2)
    limit = expected_corr_terms(moments, constants, v)
    per_batch = expected_corr_terms(moments, constants, 1 / args.batch_size)

    def evaluate(gradients, hessians):
        switched = SwitchedCorr(gradients, hessians, moments, args.beta1, args.beta2, args.eps_root)
        return np.array([switched.pair(a, b).sum(axis=0) for a, b in TERMS.values()])

    mean, stderr = _mean(problem, args, evaluate, progress)
    zero, scale = np.zeros_like(zeroth), np.abs(parts).sum(axis=0)
    first = (parts.sum(axis=0), zero, limit["FB"], per_batch["FB"], zeroth, zero, scale)
    return [Result("FB", "", "", "", *first)] + [
        Result(term, "", "", "", value, error, limit[term], per_batch[term], exact[term], bound, scale)
        for term, value, error in zip(TERMS, mean, stderr, strict=True)
    ]


def sgd_momentum_terms(problem: Quadratics, args: argparse.Namespace, progress: Progress) -> list[Result]:
    """The two terms of the modified loss of SGD with momentum: |g|^2, tr(Sigma)."""
    beta, moments = args.beta1, problem.moments()
    n_batches = problem.n_samples // args.batch_size
    n_steps = n_batches * args.n_epochs
    v = float(batch_variance_factor(problem.n_samples, args.batch_size))
    zeroth, exact = sgd_momentum_expectation(moments, beta, n_batches, n_steps - 1, v)
    # grad |g|^2/2 = H g and grad tr(Sigma)/2 = sum_j E d_ij d_j
    square = beta / (1 - beta) ** 3 * moments.hessian @ moments.gradient
    trace = beta / ((1 - beta) ** 2 * (1 + beta)) * moments.cross.sum(axis=1)
    quiet = sgd_corr(
        moments.gradient + np.zeros((1, n_steps, 1)), moments.hessian + np.zeros((1, n_steps, 1, 1)), beta
    )

    def evaluate(gradients, hessians):
        return sgd_corr(gradients, hessians, beta) - quiet

    mean, stderr = _mean(problem, args, evaluate, progress)
    zero, scale = np.zeros_like(zeroth), np.abs(zeroth).max() + np.zeros_like(zeroth)
    return [
        Result("|g|^2", "", "", "", quiet[0], zero, square, square, zeroth, zero, scale),
        Result("tr(Sigma)", "", "", "", mean, stderr, v * trace, trace / args.batch_size, exact, zero, scale),
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
    velocity, updates = 0.0, np.empty_like(gradients[:, :-1])
    for step in range(t):
        velocity = beta * velocity + gradients[:, step]
        updates[:, step] = velocity
    future = np.cumsum(updates[:, ::-1], axis=1)[:, ::-1]
    return np.einsum(
        "k,pkij,pkj->pi", beta ** np.arange(t, 0.0, -1.0), hessians[:, :-1], future, optimize=True
    )


def lines(problem: Quadratics, args: argparse.Namespace, progress: Progress) -> list[Result]:
    """Every line of `expansion.proposition_a6`, the noise of a batch with itself and of different batches apart."""
    moments, sums, v, parts, bound = _adam(problem, args)
    n_batches = problem.n_samples // args.batch_size
    n_steps = n_batches * args.n_epochs
    betas, eps_root = (args.beta1, args.beta2), args.eps_root
    limit = limit_weight_sums(betas)
    predictions = [
        adam_lines(moments, limit, v),
        adam_lines(moments, limit, 1 / args.batch_size),
        adam_lines(moments, weight_sums(betas, n_batches, n_steps - 1, 0.0), v, eps_root),
        adam_lines(moments, sums, v, eps_root),
    ]

    def evaluate(gradients, hessians):
        switched = SwitchedCorr(gradients, hessians, moments, *betas, eps_root)
        return np.array([switched.pair((a,), (b,))[PARTS.index(part)] for part, a, b in LINES])

    apart = every_independent_order(problem.n_samples, args.batch_size, n_steps)
    together = every_order(problem.n_samples, args.batch_size, args.n_epochs)
    same, _ = _enumerated(problem, apart, evaluate, progress)
    both, _ = _enumerated(problem, together, evaluate, progress)
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


def moments(problem: Quadratics, args: argparse.Namespace, progress: Progress) -> list[Result]:
    """Lemma A.7: second moments of the batch noise, within a batch and between two."""
    b, n_batches = args.batch_size, problem.n_samples // args.batch_size
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
