"""R9: beta1 = beta2 on trial, on maps of all pairs of betas at a few batch sizes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.cubes import Cube, at_lr, choose_lr
from analysis.reductions.overfitting.rankings import agreement, c_total_exact, points_of
from analysis.reductions.overfitting.rules import CONFIDENCE, FIXED_LRS, verdict

DEFAULT = (0.9, 0.999)
TUNED = "tuned"
BEST, ALIKE, WORSE, UNFINISHED = "best", "alike", "worse", "unfinished"
GAINS = (
    "best of the diagonal over the best off it",
    "best of the diagonal over the default",
    "highest of the diagonal over the default",
    "best of all over the default",
)


def student(values: Array) -> tuple[Array, Array, Array]:
    """Return mean and ends of Student's interval over the first axis; nan ends for fewer than two values."""
    from scipy.stats import t

    n = len(values)
    mean = values.mean(axis=0)
    if n < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def maps(
    cube: Cube, fixed_lrs: Sequence[float] = FIXED_LRS
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Judge the map of a variant.

    Parameters
    ----------
    cube : Cube
        With all pairs of betas.
    fixed_lrs : sequence of float
        Learning rates judged by themselves, beside `TUNED`.

    Returns
    -------
    cells : list of dict
        A row a learning rate (fixed or `TUNED`), batch size and pair of betas: `excess`, percent of the best pair's
        loss, with its interval; `status`: `BEST`, `ALIKE` (the interval reaches 0), `WORSE` or `UNFINISHED` (some run
        is, or diverged); `c_total` at the tuned best point of the pair.
    thumb : list of dict
        A row a learning rate, batch size and question: `GAINS` in percent, and rank correlations.
    """
    c_total, point = c_total_exact(cube, points_of(cube)), points_of(cube)
    known = np.isfinite(point.n_epochs)
    c_total = np.where(known, c_total, np.nan)
    cells, thumb = [], []
    lrs: list[float | str] = [*fixed_lrs, TUNED]
    for lr in lrs:
        if lr != TUNED and not np.isclose(cube.lrs, lr).any():
            continue
        loss = _by_seed(cube, lr)
        for i, size in enumerate(cube.sizes):
            if np.isfinite(loss[:, i]).all(axis=0).any():
                what = {
                    "variant": cube.variant,
                    "lr": lr,
                    "batch_size": int(size),
                    "n_seeds": cube.seeds.size,
                }
                cells += [what | row for row in _cells(cube, loss[:, i], c_total[i], point.lam[i])]
                ranks = _ranks(cube, loss[:, i], c_total[i])
                thumb += [what | row for row in (*_gains(cube, lr, i), *ranks)]
    return cells, thumb


def _chosen(cube: Cube, lr: float | str, seeds: np.ndarray) -> np.ndarray:
    """Places of the learning rates, (B, P): the one that is fixed, or those that some seeds choose; -1: none."""
    if lr == TUNED:
        return choose_lr(cube, seeds)
    place = int(np.flatnonzero(np.isclose(cube.lrs, lr))[0])
    return np.where(cube.usable[:, place], place, -1)


def _by_seed(cube: Cube, lr: float | str) -> Array:
    """Losses (S, B, P), learning rates chosen on the other half of the seeds."""
    loss = np.empty((cube.seeds.size, len(cube.sizes), len(cube.pairs)))
    for a, b in (cube.halves, cube.halves[::-1]):
        loss[b] = cube.cost(at_lr(cube.values["min_valid_loss"][b], _chosen(cube, lr, a)[None]))
    return loss


def _cells(cube: Cube, loss: Array, c_total: Array, lam: Array) -> list[dict[str, Any]]:
    mean = np.where(np.isnan(loss).any(axis=0), np.inf, loss.mean(axis=0))
    top = int(mean.argmin())
    with np.errstate(invalid="ignore"):
        value, low, high = (100 * np.expm1(ends) for ends in student(np.log(loss / loss[:, [top]])))
    rows = []
    for k, (beta1, beta2) in enumerate(cube.pairs):
        there = bool(np.isfinite(mean[k]))
        status = BEST if k == top else WORSE if there and low[k] > 0 else ALIKE if there else UNFINISHED
        rows.append(
            {"beta1": beta1, "beta2": beta2, "excess": value[k] if there else None, "low": low[k] if there else None,
             "high": high[k] if there else None, "status": status, "c_total": c_total[k], "lam": lam[k]}
        )  # fmt: skip
    return rows


def _gains(cube: Cube, lr: float | str, i: int) -> list[dict[str, Any]]:
    """Gains of pairs that one half of the seeds chose, on the other, paired by seed."""
    pairs = np.array(cube.pairs)
    on = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
    off = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    default = cube.pairs.index(DEFAULT)
    gains = np.full((len(GAINS), cube.seeds.size), np.nan)
    for a, b in (cube.halves, cube.halves[::-1]):
        chosen = _chosen(cube, lr, a)
        known = at_lr(cube.values["min_valid_loss"][a].mean(axis=0), chosen)[i]
        known = np.where(np.isnan(known), np.inf, known)
        judged = cube.cost(at_lr(cube.values["min_valid_loss"][b], chosen[None]))[:, i]
        converging = on[np.isfinite(known[on])]
        best_on, best_off, best = on[known[on].argmin()], off[known[off].argmin()], known.argmin()
        compared = (
            (best_on, best_off),
            (best_on, default),
            (converging[-1] if converging.size else default, default),
            (best, default),
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            gains[:, b] = [np.log(judged[:, other] / judged[:, one]) for one, other in compared]
    value, low, high = (-100 * np.expm1(-ends) for ends in student(gains.T))
    return [
        {
            "quantity": name,
            "value": value[k],
            "low": low[k],
            "high": high[k],
            "verdict": verdict(low[k], high[k]),
        }
        for k, name in enumerate(GAINS)
    ]


def _ranks(cube: Cube, loss: Array, c_total: Array) -> list[dict[str, Any]]:
    """Rank correlations of C_total and of the memory of beta2 with minus the loss, seed by seed."""
    measured = np.where(np.isnan(loss).any(axis=0), np.nan, loss)
    preferred = {"C_total": c_total, "memory of beta2": np.array([pair[1] for pair in cube.pairs])}
    ranks = {name: agreement(-each[None], measured[:, None])[:, 0] for name, each in preferred.items()}
    ranks["C_total less memory of beta2"] = ranks["C_total"] - ranks["memory of beta2"]
    rows = []
    for name, values in ranks.items():
        value, low, high = (float(end) for end in student(values))
        rows.append(
            {"quantity": f"rank correlation, {name}", "value": value, "low": low, "high": high,
             "verdict": verdict(low, high)}
        )  # fmt: skip
    return rows
