"""Distances between trajectories of different batch sizes as the learning rate falls; behind `sim.invariance`.

Three ways to train with a batch of kappa micro-batches (`RULES`): batch-size invariant Adam under its own rule, Adam
under the square-root rule, and as a control Adam under the invariant rule ("linear"), which differs from the first
in what is squared only.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array, batch_variance_factor
from sim.batch_invariance.cases import CASES, RULES, Case
from sim.batch_invariance.kappas import run_over, scaled
from sim.batch_invariance.small_lr_limit import limit_trajectory
from sim.losses.landscapes import Landscape
from sim.losses.noise_summary import gradient_noise_scale
from sim.memory.order_of_error import fit_slope
from sim.monte_carlo.parallel_mean import in_threads
from sim.monte_carlo.sampling import draw_batches

TOLERANCE = 0.1
"""Accepted error of a slope, and relative error of a floor."""
N_LIMIT_STEPS = 2000
"""Steps of the deterministic limit; it is right to about 1/N_LIMIT_STEPS of its length."""


def noise_to_signal_at_start(loss: Landscape, batch_size: int) -> float:
    """tr(Sigma) v(batch_size) / |g|^2 at the starting point."""
    gradients = np.array(
        [loss.loss_and_gradient(loss.start, np.array([r]))[1] for r in range(loss.n_samples)]
    )
    return float(batch_variance_factor(loss.n_samples, batch_size)) * gradient_noise_scale(gradients)


def relative_distance(trajectory: Array, reference: Array) -> float:
    """Largest distance (2-norm) over the reference's largest distance from its start."""
    gap = np.linalg.norm(trajectory - reference, axis=1).max()
    return float(gap / np.linalg.norm(reference - reference[0], axis=1).max())


def distances(
    case: Case,
    kappas: list[int],
    lr: float,
    betas: tuple[float, float],
    n_micro_batches: int,
    seed: int,
) -> dict[tuple[str, int], float]:
    """Relative distance of every rule and kappa to one micro-batch a batch, over the same micro-batches.

    Parameters
    ----------
    case : Case
    kappas : list of int
        The largest is a multiple of each and divides `n_micro_batches`.
    lr : float
    betas : (float, float)
        At kappa = 1.
    n_micro_batches, seed : int

    Returns
    -------
    dict
        From (rule, kappa).

    Raises
    ------
    InputError
        If a beta would fall below 0, or a run diverges.
    """
    loss, every = case.loss(seed), max(kappas)
    micro_batches = draw_batches(loss.n_samples, case.micro_batch_size, n_micro_batches, seed)
    reference = run_over(micro_batches, loss, scaled("invariant", 1, lr, betas), every)
    gaps = {}
    for rule in RULES:
        for kappa in kappas:
            trajectory = run_over(micro_batches, loss, scaled(rule, kappa, lr, betas), every)
            gaps[rule, kappa] = relative_distance(trajectory, reference)
            if not np.isfinite(gaps[rule, kappa]):
                raise InputError(
                    f"{case.problem} at learning rate {lr:.3g} diverges, allowed: a smaller --lr-max"
                )
    return gaps


def limits(
    case: Case, kappas: list[int], taus: tuple[float, float], horizon: float, seed: int
) -> dict[tuple[str, int], float]:
    """What `distances` tend to as lr -> 0 at fixed `horizon` = lr n_micro_batches and `taus` = lr/(1 - beta)."""
    loss, b = case.loss(seed), case.micro_batch_size
    reference = limit_trajectory(loss, b, 1.0, taus, horizon, N_LIMIT_STEPS)
    gaps = {}
    for rule, (scaling, squares_micro_batches) in RULES.items():
        for kappa in kappas:
            speed = kappa**-0.5 if scaling == "square-root" else 1.0
            size = b if squares_micro_batches else b * kappa
            trajectory = limit_trajectory(loss, size, speed, taus, horizon, N_LIMIT_STEPS)
            gaps[rule, kappa] = relative_distance(trajectory, reference)
    return gaps


def curves(
    name: str,
    kappas: list[int],
    counts: list[int],
    gaps: list[dict[tuple[str, int], float]],
    taus: tuple[float, float],
    horizon: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Fit and judge the curves of one case, by the rules of `sim.invariance`.

    Parameters
    ----------
    name : str
        Of `CASES`.
    kappas, taus, horizon, seed
        As in `limits`.
    counts : list of int
        Micro-batches of every run, rising: learning rates falling.
    gaps : list of dict
        `distances` of every run.

    Returns
    -------
    list of dict
        One a rule, kappa and learning rate.
    """
    case, lr = CASES[name], horizon / np.array(counts)
    limit = limits(case, kappas, taus, horizon, seed)
    lam = noise_to_signal_at_start(case.loss(seed), case.micro_batch_size)
    rows = []
    for rule, kappa in limit:
        curve = [gap[rule, kappa] for gap in gaps]
        slope, stderr = fit_slope(lr, np.array(curve))
        verdict = ""
        if rule == "invariant":
            verdict = "accepted" if abs(slope - 1) <= TOLERANCE else "violated"
        elif rule == "square-root" and lam < 1:
            off = abs(curve[-1] / limit[rule, kappa] - 1)
            verdict = "accepted" if off <= TOLERANCE else "violated"
        about = {"case": name, "problem": case.problem, "lam": lam, "rule": rule, "kappa": kappa}
        fit = {"slope": slope, "slope_stderr": stderr, "limit": limit[rule, kappa], "verdict": verdict}
        points = zip(lr.tolist(), counts, curve, strict=True)
        rows += [about | {"lr": x, "n_micro_batches": n, "distance": gap} | fit for x, n, gap in points]
    return rows


def slope_rows(
    names: Sequence[str],
    kappas: list[int],
    counts: list[int],
    betas: tuple[float, float],
    lr_max: float,
    horizon: float,
    seed: int,
    progress: Callable[[int], object] = lambda n: None,
    n_threads: int | None = None,
) -> list[dict[str, Any]]:
    """Measure distances at falling learning rates; one row a point, with the slope and verdict of its curve.

    Parameters
    ----------
    names : sequence of str
        Of `CASES`.
    kappas : list of int
    counts : list of int
        Of `sim.memory.order_of_error.learning_rates`, rising.
    betas : (float, float)
        At kappa = 1 and `lr_max`; 1 - beta falls with the learning rate.
    lr_max, horizon : float
    seed : int
    progress : callable
        Called with the number of micro-batches done.
    n_threads : int, optional
        Default: all processors.

    Returns
    -------
    list of dict
        The same for any number of threads.

    Raises
    ------
    InputError
        As `distances`.
    """
    memories = lr_max / (1 - betas[0]), lr_max / (1 - betas[1])  # 1 - beta = lr / memory

    def measure(job: tuple[str, int]) -> dict[tuple[str, int], float]:
        name, n = job
        lr = horizon / n
        gaps = distances(CASES[name], kappas, lr, (1 - lr / memories[0], 1 - lr / memories[1]), n, seed)
        progress(n)
        return gaps

    jobs = [(name, n) for n in reversed(counts) for name in names]
    measured = dict(zip(jobs, in_threads(measure, jobs, n_threads), strict=True))
    rows = []
    for name in names:
        gaps = [measured[name, n] for n in counts]
        rows += curves(name, kappas, counts, gaps, memories, horizon, seed)
    return rows
