"""Spread over batch sizes of the training loss, in the form of the published figure; behind `sim.invariance`."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array
from sim.batch_invariance.cases import RULES
from sim.batch_invariance.kappas import run_over, scaled
from sim.losses import cnn
from sim.losses.landscapes import cnn_landscape, landscape_of
from sim.losses.problems import make_least_squares
from sim.monte_carlo.parallel_mean import in_threads
from sim.monte_carlo.sampling import draw_batches

N_TRAIN, N_TEST, MICRO_BATCH_SIZE = 512, 1000, 8
"""Training and test samples, and the samples of a micro-batch."""
N_CHECKPOINTS = 16
"""Points of a trajectory at which the loss is taken, the last of them at its end."""
_PATCH, _FILTERS, _NOISE_STD = 20, 4, 0.5


def training_losses(
    problem: str,
    rule: str,
    kappas: list[int],
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    n_epochs: int,
    seed: int,
) -> tuple[Array, Array]:
    """Train with every kappa over the same micro-batches.

    Parameters
    ----------
    problem : {"least-squares", "cnn"}
        10 parameters with relative spread 1; 4 filters a class of length 20, half of the noise patch filled.
    rule : str
        Of `sim.batch_invariance.cases.RULES`.
    kappas : list of int
        Divisors of 64 n_epochs / `N_CHECKPOINTS`.
    lr, betas, weight_decay
        At kappa = 1.
    n_epochs, seed : int
        The seed is that of data, start and order.

    Returns
    -------
    losses : (n_kappas, N_CHECKPOINTS + 1) ndarray
        Mean loss over all training samples, the start first; not finite after a divergence.
    accuracy : (n_kappas,) ndarray
        On fresh samples, at the end; nan for least squares.
    """
    if problem == "least-squares":
        loss = landscape_of(make_least_squares(N_TRAIN, 10, 1.0, seed))
    else:
        # one draw holds both: training samples first
        data = cnn.make_data(N_TRAIN + N_TEST, _PATCH, _PATCH // 2, _NOISE_STD, 0.2, seed)
        weights = cnn.make_weights(_FILTERS, _PATCH, init_std=0.3, seed=seed)
        loss = cnn_landscape(weights, data.take(np.arange(N_TRAIN)))
        test = data.take(np.arange(N_TRAIN, N_TRAIN + N_TEST))
    n_steps = n_micro_batches(n_epochs)
    micro_batches = draw_batches(N_TRAIN, MICRO_BATCH_SIZE, n_steps, seed)
    losses, accuracy = np.empty((len(kappas), N_CHECKPOINTS + 1)), np.full(len(kappas), np.nan)
    for i, kappa in enumerate(kappas):
        run = scaled(rule, kappa, lr, betas, weight_decay)
        trajectory = run_over(micro_batches, loss, run, n_steps // N_CHECKPOINTS)
        losses[i] = [loss.loss_and_gradient(theta)[0] for theta in trajectory]
        if problem == "cnn":
            accuracy[i] = (cnn.margins(trajectory[-1].reshape(weights.shape), test) > 0).mean()
    return losses, accuracy


def spread_rows(
    problems: Sequence[str],
    kappas: Sequence[int],
    lrs: Sequence[float],
    betas: tuple[float, float],
    weight_decay: float,
    n_epochs: int,
    seeds: Sequence[int],
    progress: Callable[[int], object] = lambda n: None,
    n_threads: int | None = None,
) -> list[dict[str, Any]]:
    """Train with every rule, lr0, batch size and seed; one row a batch size, with the spread over batch sizes.

    Parameters
    ----------
    problems : sequence of str
        Of `sim.batch_invariance.cases.SPREAD_PROBLEMS`.
    kappas : sequence of int
        Micro-batches a batch; 1 is added.
    lrs : sequence of float
        Learning rates lr0, at kappa = 1.
    betas, weight_decay, n_epochs
        As in `training_losses`.
    seeds : sequence of int
    progress : callable
        Called with the number of micro-batches done since the last call.
    n_threads : int, optional
        Default: all processors.

    Returns
    -------
    list of dict
        The same for any number of threads.
    """
    kappas = [1, *kappas]

    def train(job: tuple[str, str, float, int]) -> tuple[Array, Array]:
        problem, rule, lr, seed = job
        result = training_losses(problem, rule, kappas, lr, betas, weight_decay, n_epochs, seed)
        progress(len(kappas) * n_micro_batches(n_epochs))
        return result

    results = in_threads(train, list(itertools.product(problems, RULES, lrs, seeds)), n_threads)
    rows = []
    for problem, rule, lr in itertools.product(problems, RULES, lrs):
        losses, accuracy = map(np.array, zip(*(next(results) for _ in seeds), strict=True))
        about = {"problem": problem, "rule": rule, "lr0": lr, "n_seeds": len(seeds)}
        summary = about | spreads(losses, accuracy)
        for i, kappa in enumerate(kappas):
            ends = {"loss": float(losses[:, i, -1].mean()), "accuracy": float(accuracy[:, i].mean())}
            rows.append(summary | {"batch_size": kappa * MICRO_BATCH_SIZE} | ends)
    return rows


def n_micro_batches(n_epochs: int) -> int:
    """Micro-batches of a run of so many epochs."""
    return n_epochs * N_TRAIN // MICRO_BATCH_SIZE


def check_kappas(kappas: Sequence[int], n_epochs: int) -> None:
    """Refuse batches above the full one, and checkpoints that do not fall on batches.

    Raises
    ------
    InputError
    """
    if max(kappas) > N_TRAIN // MICRO_BATCH_SIZE:
        raise InputError(
            f"--kappas has {max(kappas)}, allowed: at most {N_TRAIN // MICRO_BATCH_SIZE}, the full batch of a problem"
        )
    every = n_micro_batches(n_epochs) // N_CHECKPOINTS
    if any(every % kappa for kappa in kappas):
        raise InputError(
            f"--kappas is {list(kappas)}, allowed: divisors of {every}, the micro-batches between two of the "
            f"{N_CHECKPOINTS} checkpoints of {n_epochs} epochs"
        )


def spreads(losses: Array, accuracy: Array) -> dict[str, float]:
    """Spread over batch sizes, as `sim.invariance` defines it; infinite if a run is not finite.

    Parameters
    ----------
    losses : (n_seeds, n_kappas, n_checkpoints) ndarray
        The start first; kappa = 1 first.
    accuracy : (n_seeds, n_kappas) ndarray

    Returns
    -------
    dict
        `spread`, at the end; `spread_low`, `spread_high`, the smallest and largest of a single seed; `spread_path`;
        `relative` = spread_path over `fall`; `spread_accuracy`.
    """
    losses = np.where(np.isfinite(losses), losses, np.inf)
    mean = losses.mean(axis=0)
    with np.errstate(invalid="ignore"):  # inf - inf
        ends, path = np.ptp(losses[:, :, -1], axis=1), np.ptp(mean, axis=0)
    ends, path = (np.where(np.isnan(values), np.inf, values) for values in (ends, path))
    fall = float(np.abs(mean[0] - mean[0, 0]).max())
    relative = float(path.max() / fall) if np.isfinite(fall) else np.inf
    return {
        "fall": fall,
        "spread": float(path[-1]),
        "spread_low": float(ends.min()),
        "spread_high": float(ends.max()),
        "spread_path": float(path.max()),
        "relative": relative,
        "spread_accuracy": float(np.ptp(accuracy.mean(axis=0))),
    }


def breaking_points(rows: list[dict[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """Find the smallest lr0 whose `relative` is above `threshold`, for every problem and rule; None: at none."""
    keys = list(dict.fromkeys((row["problem"], row["rule"]) for row in rows))
    points = []
    for problem, rule in keys:
        curve = [row for row in rows if (row["problem"], row["rule"]) == (problem, rule)]
        broken = [row["lr0"] for row in curve if row["relative"] > threshold]
        points.append(
            {
                "problem": problem,
                "rule": rule,
                "breaks_at": min(broken, default=None),
                "smallest_relative": min(row["relative"] for row in curve),
                "largest_relative": max(row["relative"] for row in curve),
            }
        )
    return points
