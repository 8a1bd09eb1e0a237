"""C_total over the usual betas, in the limit and exactly for given epochs; which beta it prefers, and where that turns.

C_total is FB + (C1 + C2) lam, linear in lam: both parts are computed once, and serve a whole interval of noise scales.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.expansion.constants import exact_c_total
from adam_minibatch_noise.expansion.turning_points import steps_of_turning_points, turning_points
from adam_minibatch_noise.expansion.weight_sums import batch_correlation
from adam_minibatch_noise.theory import Array, c1, c2, forward_bias

BETA1_GRID = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)
BETA2_GRID = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995)
"""What people try; the paper sweeps the same ranges."""
MAX_STEPS = 200_000
"""Steps up to which expectations are computed exactly; above, the limit."""
MAX_WORK = 2_000_000
"""Steps, over all batch sizes that are looked at, up to which the exact turn is searched."""
REDUCED = 100_000
"""Samples to which larger sets are reduced for that search, in proportion with batch size and noise scale."""
FORGOTTEN = 40.0
"""Memories 1/(1 - beta) after which a start is forgotten, to e^-40."""


@dataclass(frozen=True)
class Schedule:
    """How long training lasts.

    Attributes
    ----------
    n_samples : float
        Infinite: no sample comes twice.
    batch_size : int
    n_steps : int or None
        None: unknown, taken as many.
    """

    n_samples: float
    batch_size: int
    n_steps: int | None

    def epochs(self, slowest_beta: float) -> tuple[int, int, float] | None:
        """Batches an epoch, epochs and the correlation of two batches of an epoch, for the exact expectation.

        None where only the limit can be computed: an unknown length, or too many steps. Epochs beyond the memory of
        the slowest beta are left out, and the last one is taken as whole.
        """
        if self.n_steps is None:
            return None
        if math.isinf(self.n_samples):
            n_batches, n_epochs, correlation = self.n_steps, 1, 0.0
        else:
            n_batches = max(int(self.n_samples // self.batch_size), 1)
            if n_batches > self.n_steps:  # a part of an epoch, whose batches share no sample either
                n_batches = self.n_steps
            n_epochs = max(self.n_steps // n_batches, 1)
            full = 2 * self.batch_size > self.n_samples
            correlation = 0.0 if full else batch_correlation(self.n_samples, self.batch_size)
        memory = FORGOTTEN / (1 - slowest_beta)
        n_epochs = min(n_epochs, math.ceil(memory / n_batches) + 1)
        return (n_batches, n_epochs, correlation) if n_batches * n_epochs <= MAX_STEPS else None


def parts(beta1: Array, beta2: Array, schedule: Schedule, exact: bool) -> tuple[Array, Array] | None:
    """FB and C1 + C2 for pairs of betas.

    Parameters
    ----------
    beta1, beta2 : (n,) ndarray
        In [0, 1).
    schedule : Schedule
    exact : bool
        At the last step of the schedule's last epoch; otherwise in the limit.

    Returns
    -------
    forward, noise : (n,) ndarray
        None where the exact ones cannot be computed.
    """
    if not exact:
        return forward_bias(beta1, beta2), c1(beta1, beta2) + c2(beta1, beta2)
    epochs = schedule.epochs(float(max(beta1.max(), beta2.max())))
    if epochs is None:
        return None
    pairs = list(zip(beta1.tolist(), beta2.tolist(), strict=True))
    n_batches, n_epochs, correlation = epochs
    forward = np.array([exact_c_total(*pair, 0.0, n_batches, n_epochs, correlation) for pair in pairs])
    at_one = np.array([exact_c_total(*pair, 1.0, n_batches, n_epochs, correlation) for pair in pairs])
    return forward, at_one - forward


def total(forward: Array, noise: Array, lam: float) -> Array:
    """C_total at a noise-to-signal ratio; of an infinite one, what remains after division by it."""
    return noise if math.isinf(lam) else forward + noise * lam


def best(
    grid: Sequence[float], forward: Array, noise: Array, lams: tuple[float, float, float]
) -> tuple[float, ...]:
    """The beta of the largest C_total at an estimate, and the smallest and largest such beta over its interval.

    Parameters
    ----------
    grid : sequence of float
    forward, noise : (n_betas,) ndarray
        Of `parts`.
    lams : (float, float, float)
        Estimate, low and high end of the noise-to-signal ratio.

    Returns
    -------
    best, lowest, highest : float
    """
    estimate, low, high = lams
    inside = [low, estimate, high]
    if low < high:
        # where two betas change places: C_total is linear in lam, so the best one changes at crossings alone
        slopes, heights = np.subtract.outer(noise, noise), np.subtract.outer(forward, forward)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings = np.unique(-heights / slopes)
        crossings = crossings[np.isfinite(crossings) & (crossings > low) & (crossings < high)]
        ends = np.concatenate(([low], crossings, [min(high, 2 * max([low, 1.0, *crossings]))]))
        inside += ((ends[1:] + ends[:-1]) / 2).tolist()
    chosen = [grid[int(np.argmax(total(forward, noise, lam)))] for lam in inside]
    return chosen[1], min(chosen), max(chosen)


def turns(
    swept_beta: str,
    fixed_beta: float,
    schedule: Schedule,
    noise_scale: float,
    n_epochs: int,
    near: float,
) -> dict[str, tuple[float | None, float | None]]:
    """Batch sizes between which the preferred beta turns, limit and exact.

    Parameters
    ----------
    swept_beta : {"beta1", "beta2"}
    fixed_beta : float
        The other one.
    schedule : Schedule
        With a finite number of samples.
    noise_scale : float
        Finite, > 0.
    n_epochs : int
        >= 1.
    near : float
        Where the rule of thumb expects the turn; far smaller batch sizes are not looked at.

    Returns
    -------
    dict of str to (float or None, float or None)
        "limit" and "exact": the last batch size at which C_total moves along the sweep as for small batches, and the
        first from which on it moves as for large ones, in samples. Empty where that is too much work.
    """
    n_samples = schedule.n_samples
    shrink = max(n_samples / REDUCED, 1.0)
    n_reduced, least = (
        round(n_samples / shrink),
        max(math.floor(near / shrink * (0.75 if n_samples > 32 * near else 0.25)), 1),
    )
    if least > n_reduced or (shrink > 1 and least < 20):
        return {}
    longest = n_reduced // least
    if longest * n_epochs > 100_000 or longest > 5000:
        return {}
    if steps_of_turning_points(n_reduced, least, [n_epochs]) > MAX_WORK:
        return {}
    (row,) = turning_points(swept_beta, fixed_beta, n_reduced, [noise_scale / shrink], [n_epochs], least)

    def grown(size: float | None) -> float | None:
        return None if size is None else size * shrink

    return {
        kind: (grown(row[f"turns_after_{kind}"]), grown(row[f"turned_at_{kind}"]))
        for kind in ("limit", "exact")
    }
