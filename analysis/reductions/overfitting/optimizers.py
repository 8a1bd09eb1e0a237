"""R11: does the optimiser whose C_total cares less about the batch have a validation loss that cares less?"""

from typing import Any

import numpy as np

from adam_minibatch_noise.theory import Array
from analysis.reductions.overfitting.cubes import Cube, choose_lr, interval, tuned
from analysis.reductions.overfitting.rankings import MAX_STEPS, mean_over_sizes, points_of, rank_correlation
from analysis.reductions.overfitting.rules import verdict
from sim.memory.optimizer_bias_study import bias_rows
from sim.small_networks.study import OPTIMIZERS

CHANGES, ORDER = "C_total and loss change less", "C_total and low loss"
CLAIMED_LESS = (("invariant-adam", "adam"), ("adam-short", "adam"))
"""Pairs of optimisers of which the theory says that the first cares less about the batch."""
RULE_OF = {"invariant-adamw": "invariant-adam"}
"""Update rule of a trained optimiser whose name is another; without weight decay they are the same."""


def compare(cube: Cube) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Apply R11 to a variant.

    Parameters
    ----------
    cube : Cube
        Of a variant that trains `study.OPTIMIZERS`.

    Returns
    -------
    measured : list of dict
        A row an optimiser and batch size: tuned loss with its interval, learning rate chosen on all seeds and whether
        it is at an end of its range, noise-to-signal ratio, epoch of the minimum, C_total.
    said : list of dict
        A row a question: value, interval and verdict; and a row an optimiser with the change of its loss, percent.
    """
    point, theory = points_of(cube), c_total(cube)
    there = [pair for pair in CLAIMED_LESS if set(pair) <= set(cube.pairs)]
    n_sizes, n = theory.shape

    def statistic(one: np.ndarray, other: np.ndarray) -> Array:
        loss = cube.cost(tuned(cube, one, other))
        change = 100 * (loss.max(axis=-2) / loss.min(axis=-2) - 1)
        changes = rank_correlation(np.ptp(theory, axis=0)[None], -change[..., None, :])
        order = mean_over_sizes(rank_correlation(theory, loss))[..., None]
        less = [change[..., [cube.pairs.index(a)]] - change[..., [cube.pairs.index(b)]] for a, b in there]
        return np.concatenate([changes, order, *less, change, loss.reshape(*loss.shape[:-2], -1)], axis=-1)

    numbers = np.transpose(interval(statistic, cube.halves))
    questions = [CHANGES, ORDER, *(f"{a} less than {b}" for a, b in there), *cube.pairs]
    claimed = [1, 1] + [-1] * len(there)
    said = []
    for i, name in enumerate(questions):
        value, low, high = numbers[i]
        row = {"variant": cube.variant, "question": name, "value": value, "low": low, "high": high}
        said.append(row | {"verdict": verdict(low, high, claimed[i]) if i < len(claimed) else None})
    chosen = choose_lr(cube, np.arange(cube.seeds.size))
    losses = numbers[len(questions) :].reshape(n_sizes, n, 3)
    measured = [
        {"variant": cube.variant, "optimizer": name, "batch_size": int(size),
         "loss": losses[i, p, 0], "low": losses[i, p, 1], "high": losses[i, p, 2],
         "best_lr": cube.lrs[chosen[i, p]], "at_edge": int(chosen[i, p] in _ends(cube, i, p)), "lam": point.lam[i, p],
         "epoch_of_min": point.n_epochs[i, p], "c_total": theory[i, p]}
        for p, name in enumerate(cube.pairs)
        for i, size in enumerate(cube.sizes)
    ]  # fmt: skip
    return measured, said


def _ends(cube: Cube, i: int, p: int) -> np.ndarray:
    """Return the places of the least and the greatest learning rate of a batch size and optimiser."""
    return np.flatnonzero(~np.isnan(cube.values["min_valid_loss"][0, i, :, p]))[[0, -1]]


def c_total(cube: Cube) -> Array:
    """C_total of every optimiser at its own best point at each batch size, exact, per step squared, (B, P)."""
    point = points_of(cube)
    result = np.empty(point.lam.shape)
    for p, name in enumerate(cube.pairs):
        run = OPTIMIZERS[name]
        rule = RULE_OF.get(run["optimizer"], run["optimizer"]), {"beta2": run["beta2"]}
        for i, size in enumerate(cube.sizes.tolist()):
            most = max(1, MAX_STEPS * size // cube.n_samples)
            epochs = int(np.clip(np.nan_to_num(np.rint(point.n_epochs[i, p]), nan=1, posinf=most), 1, most))
            noise_scale, micro = float(point.noise_scale[i, p]), run.get("micro_batch_size", size)
            (row,) = bias_rows(cube.n_samples, (size,), noise_scale, epochs, micro, {name: rule})
            result[i, p] = row["c_total_exact"]
    return result
