"""What `sim.terms` measures: the terms of Proposition 3.3, the lines of Proposition A.6, the moments of Lemma A.7."""

import numpy as np

from adam_minibatch_noise.expansion.bounds import higher_order_bound
from adam_minibatch_noise.expansion.one_order import SwitchedCorr
from adam_minibatch_noise.expansion.registry import ADAM, LINEAR
from adam_minibatch_noise.expansion.second_order import (
    Line,
    places_of,
    second_order_lines,
    second_order_terms,
    term_of,
    term_places,
)
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.expansion.weight_sums import WeightSums, limit_weight_sums, weight_sums
from adam_minibatch_noise.theory import Array, Moments, batch_variance_factor
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

ADAM_PARTS = ("L/R", "-MP/R^3")
"""Corr_n of Adam = L_n/R_n - M_n P_n/R_n^3: its two summands."""
ADAM_PLACES = {"z2": "root", "z1": "first"}
"""Noise of the averages: in R_n and in M_n."""


class _Study:
    """A rule on a problem: moments, weight sums, v, Corr_n's summands without noise, and the bound.

    `size` is that of what is drawn, batches or, for a rule that averages over them, micro-batches.
    """

    def __init__(
        self,
        problem: Quadratics,
        rule: UpdateRule,
        batch_size: int,
        n_epochs: int,
        micro_batch_size: int | None,
    ) -> None:
        self.rule, self.theta, self.moments = rule, problem.theta, problem.moments()
        self.size = (micro_batch_size or batch_size) if rule.of_micro_batches else batch_size
        self.n_micro = batch_size // self.size
        self.n_batches = problem.n_samples // batch_size
        self.n_steps = self.n_batches * n_epochs
        self.sums = weight_sums(rule.weights, self.n_batches, self.n_steps - 1)
        sizes = np.array([batch_size, self.size])
        self.v = tuple(
            batch_variance_factor(problem.n_samples, sizes).tolist()
        )  # of a batch and a micro-batch
        self.per_batch = tuple((1 / sizes).tolist())
        shape = (1, self.n_steps * self.n_micro, problem.n_params)
        quiet = self.switched(
            np.broadcast_to(self.moments.gradient, shape),
            np.broadcast_to(self.moments.hessian, (*shape, problem.n_params)),
        )
        self.parts = quiet.parts()[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            bound, _ = higher_order_bound(
                rule,
                problem.gradients,
                problem.hessian_row,
                self.moments,
                self.size,
                self.sums,
                odd_orders=False,
                theta=problem.theta,
            )
        self.bound = np.where(np.isnan(bound), np.inf, bound)

    def switched(self, gradients: Array, hessians: Array) -> SwitchedCorr:
        """Return Corr_n of orders, (n_orders, n_steps * n_micro, ...), with noise in chosen places."""
        if self.rule.of_micro_batches:
            shape = len(gradients), self.n_steps, self.n_micro
            gradients = gradients.reshape(*shape, *gradients.shape[2:])
            hessians = hessians.reshape(*shape, *hessians.shape[2:])
        return SwitchedCorr(self.rule, gradients, hessians, self.moments, self.theta)

    def terms(
        self, rule: UpdateRule, sums: WeightSums, v: tuple[float, float]
    ) -> tuple[Array, dict[str, Array]]:
        """Return the expectation term by term."""
        return second_order_terms(rule, self.moments, sums, *v, self.theta)


def terms(
    problem: Quadratics,
    rule: UpdateRule,
    batch_size: int,
    n_epochs: int = 1,
    n_permutations: int | None = None,
    seed: int = 0,
    progress: Progress = ignore,
    micro_batch_size: int | None = None,
) -> list[Result]:
    """FB and MBN1 .. MBN5 at the last step of some epochs, each measured by itself.

    Of SGD with momentum the two terms of its modified loss, |g|^2 and tr(Sigma): there no other noises meet.

    Parameters
    ----------
    problem : Quadratics
    rule : UpdateRule
    batch_size : int
        A divisor of the number of samples.
    n_epochs : int
        >= 1.
    n_permutations, seed : int, optional
        Random orders to average over, and their seed. Default: all orders.
    progress : callable
        Called with the number of orders done since the last call.
    micro_batch_size : int, optional
        A divisor of `batch_size`, for a rule that averages over micro-batches.

    Returns
    -------
    list of Result

    Raises
    ------
    InputError
        If there are too many orders, a batch gradient is 0 where the rule is not defined, or a component of g is 0.
    """
    study = _Study(problem, rule, batch_size, n_epochs, micro_batch_size)
    linear, pairs = rule.formula == LINEAR, term_places(rule)
    zeroth, exact = study.terms(rule, study.sums, study.v)
    quiet_limit, limits = rule.without_eps(), limit_weight_sums(rule.weights)
    still, limit = study.terms(quiet_limit, limits, study.v)
    _, per_batch = study.terms(quiet_limit, limits, study.per_batch)

    def evaluate(gradients: Array, hessians: Array) -> Array:
        switched = study.switched(gradients, hessians)
        if linear:
            return (switched.parts(places_of(rule)) - study.parts[:, None]).sum(axis=0)[None]
        return np.array([switched.pair(a, b).sum(axis=0) for a, b in pairs.values()])

    mean, stderr = average_over_orders(
        problem, study.size, n_epochs, n_permutations, seed, evaluate, progress
    )
    zero, scale = np.zeros_like(zeroth), np.abs(study.parts).sum(axis=0)
    if linear:
        scale = np.abs(zeroth).max() + zero
    names = {"MBN4": "tr(Sigma)"} if linear else {name: name for name in pairs}
    first = (study.parts.sum(axis=0), zero, still, still, zeroth, zero, scale)
    return [Result("|g|^2" if linear else "FB", "", "", "", *first)] + [
        Result(name, "", "", "", value, error, limit[term], per_batch[term], exact[term], study.bound, scale)
        for (term, name), value, error in zip(names.items(), mean, stderr, strict=True)
    ]


def lines(
    problem: Quadratics,
    rule: UpdateRule,
    batch_size: int,
    n_epochs: int = 1,
    progress: Progress = ignore,
    micro_batch_size: int | None = None,
) -> list[Result]:
    """Every line of `expansion.second_order`, the noise of a batch with itself and of different batches apart.

    For Adam the lines of Proposition A.6, by the paper's names of the places. Parameters, result and errors as in
    `terms`, over all orders.
    """
    study = _Study(problem, rule, batch_size, n_epochs, micro_batch_size)
    there = lines_of(rule)
    limit, quiet = limit_weight_sums(rule.weights), rule.without_eps()
    apart = weight_sums(rule.weights, study.n_batches, study.n_steps - 1, 0.0)
    of_each = (
        (quiet, limit, study.v), (quiet, limit, study.per_batch), (rule, apart, study.v), (rule, study.sums, study.v),
    )  # fmt: skip
    predictions = [
        second_order_lines(used, study.moments, sums, v, micro, problem.theta)[1]
        for used, sums, (v, micro) in of_each
    ]

    def evaluate(gradients: Array, hessians: Array) -> Array:
        switched = study.switched(gradients, hessians)
        pairs = {(p, q): switched.pair((p,), (q,)) for _, p, q in there}
        return np.array([pairs[p, q][a] for a, p, q in there])

    orders = every_independent_order(problem.n_samples, batch_size, study.n_steps, study.size)
    same = enumerated_average(problem, orders, evaluate, progress)
    orders = every_order(problem.n_samples, study.size, n_epochs)
    both = enumerated_average(problem, orders, evaluate, progress)
    results, zero = [], np.zeros(problem.n_params)
    for line, own, total in zip(there, same, both, strict=True):
        scale = np.abs(study.parts[line[0]])
        at_once, per_batch, alone, together = (prediction[line] for prediction in predictions)
        labels = (term_of(line), *labels_of(rule, line))
        results += [
            Result(*labels, "same", own, zero, at_once, per_batch, alone, study.bound, scale),
            Result(
                *labels, "different", total - own, zero, zero, zero, together - alone, 2 * study.bound, scale
            ),
        ]
    return results


def lines_of(rule: UpdateRule) -> list[Line]:
    """Return the lines of a rule that are not 0 for every problem: those of one parameter with moments of size 1."""
    one, g = np.ones((1, 1)), 1.37  # a gradient at which nothing cancels by chance
    sums = weight_sums(rule.weights, 4, 3, 0.0)
    _, values = second_order_lines(rule, Moments(g * one[0], one, one, one), sums, 1.0, 1.0, one[0])
    return [line for line, value in values.items() if value[0] != 0]


def labels_of(rule: UpdateRule, line: Line) -> tuple[str, str]:
    """Name the summand of Corr_n that a line belongs to, and its places; Adam's by the letters of the paper."""
    a, *places = line
    if rule.formula != ADAM:
        return f"dPhi/dz{a + 1}", " ".join(places)
    order = list(ADAM_PLACES) + list(places_of(rule)[2:])
    return ADAM_PARTS[a], " ".join(ADAM_PLACES.get(p, p) for p in sorted(places, key=order.index))


def moments(problem: Quadratics, batch_size: int, progress: Progress = ignore) -> list[Result]:
    """Lemma A.7: second moments of the batch noise, within a batch and between two.

    Parameters and errors as in `terms`, over all orders; the results are (n_params, n_params) matrices.
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
