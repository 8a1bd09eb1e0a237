"""R1 to R3: where the best beta is, how it moves with the batch size, and what it gains."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.cubes import Cube, at_lr, choose_lr, has_best, interval, mean_of, tuned
from analysis.reductions.overfitting.rules import BASELINES, FIXED_LRS, MIN_BATCH_SIZES, verdict

CLAIMED = {"beta2": -1, "beta1": 1, "diagonal": 1}
"""Sign of the slope that the published claim says; of the diagonal, its rule of thumb for large batches."""
METRICS = ("min_valid_loss", "test_loss")
"""Losses that a gain is in."""


def swept(cube: Cube, curve: str) -> Array:
    """Return the values of the beta that a curve sweeps, (P,)."""
    return np.array([pair[0 if curve == "beta1" else 1] for pair in cube.pairs])


def log_memory(beta: Array) -> Array:
    """Return log10 of the memory in steps, 1 / (1 - beta)."""
    return -np.log10(1 - np.asarray(beta))


def slope(sizes: np.ndarray, memory: Array) -> Array:
    """Return the least-squares slope of log10(memory), (..., B), over log10(batch size); nan for too few batch sizes.

    Batch sizes without a memory (nan) are left out; `MIN_BATCH_SIZES` are needed.
    """
    known = np.isfinite(memory)
    count = known.sum(axis=-1, keepdims=True)
    x = np.broadcast_to(np.log10(sizes), memory.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.where(known, x - np.where(known, x, 0).sum(axis=-1, keepdims=True) / count, 0)
        result = (x * np.where(known, memory, 0)).sum(axis=-1) / (x * x).sum(axis=-1)
    return np.where(count[..., 0] >= MIN_BATCH_SIZES, np.round(result, 9), np.nan)  # equal bests: exactly 0


def best(loss: Array, memory: Array) -> Array:
    """Return the memory at the least loss of each batch size, (..., B) of (..., B, P); nan where there is none."""
    loss = np.where(np.isnan(loss), np.inf, loss)
    return np.where(np.isfinite(loss.min(axis=-1)), memory[loss.argmin(axis=-1)], np.nan)


def _slopes(
    cube: Cube, curve: str, loss: Callable[..., Array], samples: Any, **what: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Bootstrap slope and bests of a loss (..., B, P) of seeds; return the slope's row and a row a batch size."""
    memory = log_memory(swept(cube, curve))

    def statistic(*places: np.ndarray) -> Array:
        found = best(loss(*places), memory)
        return np.concatenate([slope(cube.sizes, found)[..., None], found], axis=-1)

    value, low, high = interval(statistic, samples)
    rows = [
        {"variant": cube.variant, "curve": curve, **what, "batch_size": int(size), "best": 1 - 10 ** -value[1 + i],
         "low": 1 - 10 ** -low[1 + i], "high": 1 - 10 ** -high[1 + i]}
        for i, size in enumerate(cube.sizes)
    ]  # fmt: skip
    said = {
        "slope": value[0],
        "low": low[0],
        "high": high[0],
        "verdict": verdict(low[0], high[0], CLAIMED[curve]),
    }
    return {"variant": cube.variant, "curve": curve, **what, **said}, rows


def published(
    cube: Cube, curve: str, lrs: Sequence[float] = FIXED_LRS
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """R1: slopes at each of some learning rates, and the bests.

    Returns
    -------
    slopes, bests : lists of dict
    """
    slopes, bests = [], []
    for lr in lrs:
        found = np.flatnonzero(np.isclose(cube.lrs, lr))
        if not found.size:
            continue

        def loss(seeds: np.ndarray, part: Cube = cube.of_lr(int(found[0]))) -> Array:  # noqa: B008  # of this lr
            known = part.usable[:, 0] & has_best(part, seeds)[..., None]
            return np.where(known, mean_of(part, "min_valid_loss", seeds)[..., 0, :], np.inf)

        said, rows = _slopes(cube, curve, loss, [np.arange(cube.seeds.size)], lr=lr)
        slopes.append(said)
        bests += rows
    return slopes, bests


def tuned_best(cube: Cube, curve: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """R2: the slope at tuned learning rates, and the bests; `at_edge` counts learning rates at an end of theirs."""
    said, rows = _slopes(cube, curve, lambda *halves: tuned(cube, *halves), cube.halves, lr="tuned")
    chosen = choose_lr(cube, np.arange(cube.seeds.size))
    loss = at_lr(cube.values["min_valid_loss"].mean(axis=0), chosen)
    for i, row in enumerate(rows):
        there = np.flatnonzero(~np.isnan(cube.values["min_valid_loss"][:, i]).all(axis=(0, 2)))
        known = np.where(np.isfinite(loss[i]), loss[i], np.inf)
        row["best_lr"] = cube.lrs[chosen[i, known.argmin()]] if np.isfinite(row["best"]) else np.nan
        row["at_edge"] = int(np.isin(chosen[i], (there[0], there[-1])).sum())
        row["n_betas"] = len(cube.pairs)
        row["n_unfinished"] = int(cube.unfinished[i].sum())
    return said, rows


def gains(cube: Cube, part: Cube, curve: str, baselines: Sequence[float] = BASELINES) -> list[dict[str, Any]]:
    """R3: what the best pair of a curve gains over each baseline at each batch size, percent, validation and test.

    Parameters
    ----------
    cube : Cube
        Of all pairs: a baseline need not lie on the curve.
    part : Cube
        Of the pairs on the curve.
    curve : str
    baselines : sequence of float, optional
        Values of beta2 at beta1 = 0.9; along other curves than that of beta2 the first alone counts.
    """
    over = baselines if curve == "beta2" else baselines[:1]
    places = [cube.pairs.index((0.9, beta2)) for beta2 in over]
    own = np.array([cube.pairs.index(pair) for pair in part.pairs])

    def statistic(one: np.ndarray, other: np.ndarray) -> Array:
        return gain_of_best(cube, own, places, one, other)

    shape = len(METRICS), len(places), cube.sizes.size
    value, low, high = (each.reshape(shape) for each in interval(statistic, cube.halves))
    return [
        {"variant": cube.variant, "curve": curve, "metric": metric, "baseline": baseline, "batch_size": int(size),
         "gain": value[i, j, k], "low": low[i, j, k], "high": high[i, j, k],
         "verdict": verdict(low[i, j, k], high[i, j, k])}
        for i, metric in enumerate(METRICS)
        for j, baseline in enumerate(over)
        for k, size in enumerate(cube.sizes)
    ]  # fmt: skip


def gain_of_best(
    cube: Cube, own: np.ndarray, baselines: list[int], one: np.ndarray, other: np.ndarray
) -> Array:
    """Return the gain of the best pair over baselines, percent: chosen on one half of the seeds, judged on the other.

    Parameters
    ----------
    cube : Cube
    own : (n,) ndarray of int
        Places of the pairs to choose from.
    baselines : list of int
        Places of pairs.
    one, other : (..., n) ndarrays of int
        Places of the seeds of the halves.

    Returns
    -------
    (..., n_metrics n_baselines B) ndarray
        By `METRICS`, then baseline, then batch size.
    """
    parts = []
    for a, b in ((one, other), (other, one)):
        chosen = choose_lr(cube, a)
        known = at_lr(mean_of(cube, "min_valid_loss", a), chosen)[..., own]
        known_best = has_best(cube.of_pairs(own.tolist()), a)
        top = own[np.where(np.isnan(known), np.inf, known).argmin(axis=-1)]
        for metric in METRICS:
            cost = cube.cost(at_lr(cube.values[metric][b], chosen[..., None, :, :]))  # (..., S, B, P)
            at_best = np.take_along_axis(cost, top[..., None, :, None], axis=-1)[..., 0]
            parts += [
                np.where(known_best, (1 - at_best / cost[..., place]).mean(axis=-2), np.nan)
                for place in baselines
            ]
    half = len(parts) // 2
    return 50 * np.concatenate([a + b for a, b in zip(parts[:half], parts[half:], strict=True)], axis=-1)
