"""R4 and R7: how well the theory and the field's rules order the betas, and what it costs to follow them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adam_minibatch_noise import theory
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.turning_points import coefficients, epoch_geometry
from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.bests import log_memory, swept
from analysis.reductions.overfitting.cubes import Cube, at_lr, choose_lr, interval, mean_of, tuned
from analysis.reductions.overfitting.rules import R7_CANDIDATES, REFERENCE_BATCH_SIZE, REFERENCE_BETA2

MAX_STEPS = 30_000
"""Steps behind which the exact C_total no longer changes: nine times the longest memory."""
CLIP = 0.95, 0.9999
"""Ends of the published clip of beta2."""


@dataclass(frozen=True)
class Point:
    """The best points of a curve, tuned: what the theory needs of them, each (B, P).

    Attributes
    ----------
    noise_scale : ndarray
        tr(Sigma) / |g|^2, both averaged over seeds.
    lam : ndarray
        The theory's noise-to-signal ratio at this noise scale and batch size.
    n_epochs : ndarray
        Mean epoch of the minimum.
    """

    noise_scale: Array
    lam: Array
    n_epochs: Array


def points_of(cube: Cube) -> Point:
    """Return the best points of a curve at learning rates tuned on all seeds."""
    chosen = choose_lr(cube, np.arange(cube.seeds.size))
    trace, square, epochs = (
        at_lr(mean_of(cube, name, np.arange(cube.seeds.size)), chosen)
        for name in ("trace_covariance", "gradient_squared", "epoch_of_min")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        noise_scale = trace / square
    factor = np.array([epoch_geometry_of(cube, int(size))[1] for size in cube.sizes])
    return Point(noise_scale, factor[:, None] * noise_scale, epochs)


def epoch_geometry_of(cube: Cube, size: int) -> tuple[int, float, float]:
    """Return batches an epoch, v and the correlation of two batches, as `turning_points.epoch_geometry` does.

    Batches that are drawn with replacement are independent, with v = 1/b.
    """
    n_batches, v, correlation = epoch_geometry(cube.n_samples, size)
    return (n_batches, 1 / size, 0.0) if cube.replacement else (n_batches, v, correlation)


def epochs_of_minimum(cube: Cube, point: Point) -> np.ndarray:
    """Return the whole epochs of the minima, (B, P), at most those behind which C_total no longer changes."""
    most = np.array([max(1, MAX_STEPS * int(size) // cube.n_samples) for size in cube.sizes])[:, None]
    epochs = np.where(np.isnan(point.n_epochs), 1, np.minimum(np.rint(point.n_epochs), most))
    return np.maximum(epochs, 1).astype(int)


def c_total_limit(cube: Cube, point: Point) -> Array:
    """C_total of each cell in the limit of many steps, (B, P)."""
    beta1, beta2 = np.array(cube.pairs).T
    with np.errstate(invalid="ignore"):
        return np.array([theory.c_total(beta1, beta2, np.nan_to_num(lam)) for lam in point.lam])


def c_total_exact(cube: Cube, point: Point) -> Array:
    """C_total of each cell at the last step of the epoch of its minimum, exactly, (B, P)."""
    beta1, beta2 = np.array(cube.pairs).T
    result, epochs = np.empty(point.lam.shape), epochs_of_minimum(cube, point)
    for i, size in enumerate(cube.sizes):
        n_batches, _, correlation = epoch_geometry_of(cube, int(size))
        for n_epochs in np.unique(epochs[i]):
            here = epochs[i] == n_epochs
            rule = make_rule("adam", {"beta1": beta1[here], "beta2": beta2[here]})
            forward, noise = coefficients(rule, n_batches, int(n_epochs))
            lam = np.nan_to_num(point.lam[i, here])
            result[i, here] = forward + (noise[0] + correlation * noise[1]) * lam
    return result


def near(memory: Array, target: Array) -> Array:
    """Return what a rule prefers that names a memory (log10) for each batch size: the nearest beta of the grid."""
    return -np.abs(memory[None, :] - np.asarray(target)[:, None])


Rule = Callable[[Cube, Point, Array], Array]


def _same_memory(cube: Cube, share: float) -> Array:
    """log10 of the memory that keeps `share` of its samples where the batch size is the reference."""
    return -np.log10(np.clip(share * cube.sizes / REFERENCE_BATCH_SIZE, 1e-9, 1))


def _power(sizes: np.ndarray) -> Array:
    return 1 - REFERENCE_BETA2 ** (sizes / REFERENCE_BATCH_SIZE)


RULES: dict[str, dict[str, Rule]] = {
    "beta2": {
        "C_total, limit": lambda cube, point, memory: c_total_limit(cube, point),
        "C_total, exact": lambda cube, point, memory: c_total_exact(cube, point),
        "longest memory": lambda cube, point, memory: near(memory, np.full(cube.sizes.size, 9.0)),
        "default .999": lambda cube, point, memory: near(memory, np.full(cube.sizes.size, 3.0)),
        "constant in samples": lambda cube, point, memory: near(memory, -np.log10(_power(cube.sizes))),
        "clipped, in samples": lambda cube, point, memory: near(
            memory, -np.log10(np.clip(_power(cube.sizes), 1 - CLIP[1], 1 - CLIP[0]))
        ),
        "square root": lambda cube, point, memory: near(memory, _same_memory(cube, 1 - REFERENCE_BETA2)),
        "beta1 = beta2": lambda cube, point, memory: near(memory, np.full(cube.sizes.size, 1.0)),
    },
    "beta1": {
        "C_total, limit": lambda cube, point, memory: c_total_limit(cube, point),
        "C_total, exact": lambda cube, point, memory: c_total_exact(cube, point),
        "longest memory": lambda cube, point, memory: near(memory, np.full(cube.sizes.size, 9.0)),
        "default .9": lambda cube, point, memory: near(memory, np.full(cube.sizes.size, 1.0)),
        "square root": lambda cube, point, memory: near(memory, _same_memory(cube, 0.1)),
    },
    "diagonal": {
        "C_total, limit": lambda cube, point, memory: c_total_limit(cube, point),
        "C_total, exact": lambda cube, point, memory: c_total_exact(cube, point),
        "longest memory": lambda cube, point, memory: near(memory, np.full(cube.sizes.size, 9.0)),
        "constant in samples": lambda cube, point, memory: near(memory, -np.log10(_power(cube.sizes))),
    },
}
"""What each rule prefers, (B, P), higher is better; `memory` is log10(1/(1 - beta)) of the grid. Sources: constant in
samples, Marek et al. 2025; its clip, the pretraining sweep of marin-community; square root, Malladi et al. 2022;
beta1 = beta2, Orvieto and Gower 2025."""
DEFAULT = {"beta2": "default .999", "beta1": "default .9"}


def rank_correlation(preferred: Array, loss: Array) -> Array:
    """Return Spearman's correlation of preferences (B, P) with minus losses (..., B, P), (..., B).

    Betas without a loss (nan) or a preference are left out, those of the first resample in all; nan for fewer than
    three, and where either is constant.
    """
    return agreement(np.where(np.isfinite(preferred), -preferred, np.nan), loss)


def agreement(one: Array, other: Array) -> Array:
    """Return Spearman's correlation of two quantities over the betas, (..., B) of (..., B, P) each, broadcast.

    Betas at which either is not measured are left out, those of the first resample in all; nan for fewer than three.
    """
    leading = tuple(range(max(one.ndim, other.ndim) - 2))
    known = ~np.isnan(one + other).any(axis=leading)
    x, y = (_centred_ranks(np.where(known, each, np.nan)) for each in (one, other))
    norm = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    decided = (known.sum(axis=-1) >= 3) & (norm > 0)
    return np.where(decided, (x * y).sum(axis=-1) / np.where(norm > 0, norm, 1), np.nan)


def _centred_ranks(values: Array) -> Array:
    """Return ranks less their mean, ties averaged: half of how many are smaller less how many are larger; 0 for nan."""
    larger = values[..., :, None] > values[..., None, :]
    ranks: Array = (larger.sum(axis=-1) - larger.sum(axis=-2)) / 2
    return ranks


def regret(cube: Cube, preferred: Array, loss: Array) -> Array:
    """Return what following a rule costs over the best beta of each batch size, percent, (..., B)."""
    cost = cube.cost(loss)
    named = np.where(np.isnan(loss), -np.inf, preferred).argmax(axis=-1)
    least = np.where(np.isnan(cost), np.inf, cost).min(axis=-1)
    with np.errstate(invalid="ignore"):
        return 100 * (np.take_along_axis(cost, named[..., None], axis=-1)[..., 0] / least - 1)


def mean_over_sizes(values: Array) -> Array:
    """Return the mean over batch sizes, the last axis, of those that have a value."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)


def rank(cube: Cube, curve: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """R4: every rule's rank correlation and regret (means over batch sizes), and which rules are worse than which.

    Returns
    -------
    rules, pairs : lists of dict
        A row a rule; a row an ordered pair of rules of which the first has the higher regret, significantly.
    """
    memory, point = log_memory(swept(cube, curve)), points_of(cube)
    preferred = {name: rule(cube, point, memory) for name, rule in RULES[curve].items()}
    names = list(preferred)
    n = len(names)

    def statistic(one: np.ndarray, other: np.ndarray) -> Array:
        loss = tuned(cube, one, other)
        ranks = [mean_over_sizes(rank_correlation(each, loss)) for each in preferred.values()]
        regrets = [mean_over_sizes(regret(cube, each, loss)) for each in preferred.values()]
        return np.stack([*ranks, *regrets, *(a - b for a in regrets for b in regrets)], axis=-1)

    value, low, high = interval(statistic, cube.halves)
    rules = [
        {"variant": cube.variant, "curve": curve, "rule": name,
         "rank_correlation": value[i], "rank_low": low[i], "rank_high": high[i],
         "regret": value[n + i], "regret_low": low[n + i], "regret_high": high[n + i]}
        for i, name in enumerate(names)
    ]  # fmt: skip
    pairs = [
        {"variant": cube.variant, "curve": curve, "worse": names[i], "better": names[j],
         "difference": value[k], "low": low[k], "high": high[k]}
        for i in range(n)
        for j in range(n)
        if low[k := 2 * n + i * n + j] > 0
    ]  # fmt: skip
    return rules, pairs


def candidate(name: str, constant: float, cube: Cube, point: Point) -> Array:
    """Return log10 of the memory in steps that a formula of R7 names at each batch size, (B,)."""
    default = [int(np.argmin([abs(b - REFERENCE_BETA2) for _, b in cube.pairs]))]
    noise_scale = np.nan_to_num(point.noise_scale[:, default[0]], nan=1.0, posinf=1.0)
    share = {
        "constant": np.ones(cube.sizes.size),
        "samples": cube.sizes.astype(float),
        "epochs": cube.sizes / cube.n_samples,
        "noise": cube.sizes / noise_scale,
    }[name]
    return -np.log10(np.clip(constant * share, 1e-9, 1))


CONSTANTS = np.logspace(-5, 0, 41)
"""Where R7 looks for the constant of a formula."""


def half_loss(cube: Cube, half: int) -> Array:
    """Tuned losses of one half of the seeds alone: learning rates chosen on one quarter, judged on the other."""
    seeds = cube.halves[half]
    return tuned(cube, seeds[::2], seeds[1::2])


def fit_own_rule(cubes: list[Cube]) -> list[dict[str, Any]]:
    """R7, first part: the mean regret of each formula at its best constant, on the even seeds of some variants."""
    prepared = [
        (cube, points_of(cube), log_memory(swept(cube, "beta2")), half_loss(cube, 0)) for cube in cubes
    ]
    rows = []
    for name in R7_CANDIDATES:
        means = [
            np.mean(
                [
                    mean_over_sizes(regret(cube, near(memory, candidate(name, constant, cube, point)), loss))
                    for cube, point, memory, loss in prepared
                ]
            )
            for constant in CONSTANTS
        ]
        rows.append(
            {"formula": name, "constant": CONSTANTS[int(np.argmin(means))], "regret": float(np.min(means))}
        )
    return sorted(rows, key=lambda row: row["regret"])


def test_own_rule(cube: Cube, formula: str, constant: float) -> list[dict[str, Any]]:
    """R7, second part: the regret of the formula less that of each rule, on odd seeds of a variant it has not seen."""
    memory, point = log_memory(swept(cube, "beta2")), points_of(cube)
    own = near(memory, candidate(formula, constant, cube, point))
    preferred = {name: rule(cube, point, memory) for name, rule in RULES["beta2"].items()}
    seeds = cube.halves[1]

    def statistic(one: np.ndarray, other: np.ndarray) -> Array:
        loss = tuned(cube, one, other)
        mine = mean_over_sizes(regret(cube, own, loss))
        theirs = [mean_over_sizes(regret(cube, each, loss)) for each in preferred.values()]
        return np.stack([mine - each for each in theirs], axis=-1)

    value, low, high = interval(statistic, (seeds[::2], seeds[1::2]))
    return [
        {"variant": cube.variant, "rule": name, "difference": value[i], "low": low[i], "high": high[i]}
        for i, name in enumerate(preferred)
    ]
