"""R4 and R7: how well the theory and the field's rules order the betas, and what it costs to follow them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from adam_minibatch_noise import theory
from adam_minibatch_noise.expansion.turning_points import coefficients, epoch_geometry
from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.bests import log_memory, swept
from analysis.reductions.overfitting.cubes import Cube, at_lr, choose_lr, interval, tuned
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
        at_lr(cube.values[name].mean(axis=0), chosen)
        for name in ("trace_covariance", "gradient_squared", "epoch_of_min")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        noise_scale = trace / square
    factor = np.array([theory.batch_variance_factor(cube.n_samples, int(size)) for size in cube.sizes])
    return Point(noise_scale, factor[:, None] * noise_scale, epochs)


def c_total_limit(cube: Cube, point: Point) -> Array:
    """C_total of each cell in the limit of many steps, (B, P)."""
    beta1, beta2 = np.array(cube.pairs).T
    with np.errstate(invalid="ignore"):
        return np.array([theory.c_total(beta1, beta2, np.nan_to_num(lam)) for lam in point.lam])


def c_total_exact(cube: Cube, point: Point) -> Array:
    """C_total of each cell at the last step of the epoch of its minimum, exactly, (B, P)."""
    beta1, beta2 = np.array(cube.pairs).T
    result = np.empty(point.lam.shape)
    for i, size in enumerate(cube.sizes):
        n_batches, _, correlation = epoch_geometry(cube.n_samples, int(size))
        most = max(1, MAX_STEPS // n_batches)
        epochs = np.clip(np.nan_to_num(np.rint(point.n_epochs[i]), nan=1, posinf=most), 1, most).astype(int)
        for n_epochs in np.unique(epochs):
            forward, noise = coefficients(beta1, beta2, n_batches, int(n_epochs))
            here = epochs == n_epochs
            lam = np.nan_to_num(point.lam[i])
            result[i, here] = (forward + (noise[0] + correlation * noise[1]) * lam)[here]
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
samples, Marek et al. 2025; its clip, the pretraining sweep of marin-community; square root, Malladi et al. 2022; beta1 =
beta2, Orvieto and Gower 2025."""
DEFAULT = {"beta2": "default .999", "beta1": "default .9"}


def rank_correlation(preferred: Array, loss: Array) -> Array:
    """Return Spearman's correlation of (P,) preferences with minus (P,) losses; nan where either is constant."""
    known = np.isfinite(preferred) & np.isfinite(loss)
    if known.sum() < 3:
        return np.float64(np.nan)
    x, y = rankdata(preferred[known]), rankdata(-loss[known])
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return x @ y / norm if norm > 0 else np.float64(np.nan)


def regret(cube: Cube, preferred: Array, loss: Array) -> Array:
    """Return what following a rule costs over the best beta of each batch size, percent, (B,); nan without a loss."""
    cost = cube.cost(np.where(np.isfinite(loss), loss, np.nan))
    named = np.where(np.isfinite(loss), preferred, -np.inf).argmax(axis=1)
    with np.errstate(invalid="ignore"):
        return 100 * (np.take_along_axis(cost, named[:, None], axis=1)[:, 0] / np.nanmin(cost, axis=1) - 1)


def rank(cube: Cube, curve: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """R4: every rule's rank correlation and regret (means over batch sizes), and which rules are worse than which.

    Returns
    -------
    rules, pairs : lists of dict
        A row a rule; a row an ordered pair of rules of which the first has the higher regret, significantly.
    """
    memory, point = log_memory(swept(cube, curve)), points_of(cube)
    preferred = {name: rule(cube, point, memory) for name, rule in RULES[curve].items()}

    def statistic(one: np.ndarray, other: np.ndarray) -> Array:
        loss = tuned(cube, one, other)
        ranks = [
            [rank_correlation(p, row) for p, row in zip(each, loss, strict=True)]
            for each in preferred.values()
        ]
        regrets = np.array([regret(cube, each, loss) for each in preferred.values()])
        means = np.nanmean(regrets, axis=1)
        with np.errstate(invalid="ignore"):
            return np.array([np.nanmean(np.array(ranks), axis=1), means, *(means[:, None] - means)])

    value, low, high = interval(statistic, cube.halves)
    names = list(preferred)
    rules = [
        {"variant": cube.variant, "curve": curve, "rule": name,
         "rank_correlation": value[0, i], "rank_low": low[0, i], "rank_high": high[0, i],
         "regret": value[1, i], "regret_low": low[1, i], "regret_high": high[1, i]}
        for i, name in enumerate(names)
    ]  # fmt: skip
    pairs = [
        {"variant": cube.variant, "curve": curve, "worse": names[i], "better": names[j],
         "difference": value[2 + i, j], "low": low[2 + i, j], "high": high[2 + i, j]}
        for i in range(len(names))
        for j in range(len(names))
        if low[2 + i, j] > 0
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
                    np.nanmean(regret(cube, near(memory, candidate(name, constant, cube, point)), loss))
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
    """R7, second part: the regret of the formula less that of every rule, on the odd seeds of a variant it has not seen."""
    memory, point = log_memory(swept(cube, "beta2")), points_of(cube)
    own = near(memory, candidate(formula, constant, cube, point))
    preferred = {name: rule(cube, point, memory) for name, rule in RULES["beta2"].items()}
    seeds = cube.halves[1]

    def statistic(one: np.ndarray, other: np.ndarray) -> Array:
        loss = tuned(cube, one, other)
        mine = np.nanmean(regret(cube, own, loss))
        return np.array([mine - np.nanmean(regret(cube, each, loss)) for each in preferred.values()])

    value, low, high = interval(statistic, (seeds[::2], seeds[1::2]))
    return [
        {"variant": cube.variant, "rule": name, "difference": value[i], "low": low[i], "high": high[i]}
        for i, name in enumerate(preferred)
    ]
