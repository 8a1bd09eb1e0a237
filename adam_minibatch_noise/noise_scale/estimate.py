"""From unbiased pairs of |g|² and tr(Sigma) to the noise scale, with its interval and in words. Needs SciPy."""

import math
from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.noise_scale.fieller import check_level, fieller_interval
from adam_minibatch_noise.ranges import Array

N_BLOCKS = 20
"""At most so many means over consecutive measurements carry the interval."""


@dataclass(frozen=True)
class NoiseEstimate:
    """What the last measurements say; nan where there are none, or one of them is not finite.

    Attributes
    ----------
    n_measurements : int
        Measurements that count.
    grad_sq_norm, tr_sigma : float
        Unbiased estimates of |g|² and tr(Sigma); noise may take either below zero.
    b_simple : float
        Their ratio tr(Sigma) / |g|², in samples: 0 if the numerator is negative, infinite if the denominator is
        not positive.
    low, high : float
        Confidence interval of the noise scale. `high` is infinite, and `low` may be 0, where |g|² cannot be told
        from zero.
    level : float
        Its confidence level.
    """

    n_measurements: int
    grad_sq_norm: float
    tr_sigma: float
    b_simple: float
    low: float
    high: float
    level: float

    def columns(self) -> dict[str, float]:
        """Columns of a table: the estimates and the ends of the interval, under names of their own."""
        return {
            "n_measurements": self.n_measurements,
            "grad_sq_norm_estimate": self.grad_sq_norm,
            "tr_sigma_estimate": self.tr_sigma,
            "b_simple_estimate": self.b_simple,
            "b_simple_low": self.low,
            "b_simple_high": self.high,
            "level": self.level,
        }

    def __str__(self) -> str:
        """One line for people; a lower bound where the gradient cannot be told from zero."""
        how = f"{self.level:.0%} confidence, {self.n_measurements} measurements"
        if not self.n_measurements:
            return "noise scale: no measurement yet"
        if math.isnan(self.low):
            return f"noise scale: unknown, a gradient was not finite ({self.n_measurements} measurements)"
        if math.isfinite(self.high):
            return f"noise scale: {self.b_simple:.3g} samples [{self.low:.3g}, {self.high:.3g}] ({how})"
        if self.low > 0:
            return f"noise scale: at least {self.low:.3g} samples, as the gradient cannot be told from zero ({how})"
        return f"noise scale: not determined yet, more measurements are needed ({how})"


def block_means(g_sq: Array, trace: Array) -> tuple[Array, int]:
    """Average pairs over at most `N_BLOCKS` blocks of consecutive measurements.

    Parameters
    ----------
    g_sq, trace : ndarray, shape (n,)
        Estimates of |g|² and tr(Sigma), oldest first; n >= 1.

    Returns
    -------
    blocks : ndarray, shape (n_blocks, 2)
    n_used : int
        The oldest measurements that fill no block are left out.
    """
    n = len(g_sq)
    length = -(-n // N_BLOCKS)
    return np.stack([g_sq, trace], 1)[n % length :].reshape(-1, length, 2).mean(1), n - n % length


def estimate_noise(g_sq: Array, trace: Array, level: float = 0.95) -> NoiseEstimate:
    """Estimate the noise scale as a ratio of means, with `fieller_interval` on the means of blocks.

    Parameters
    ----------
    g_sq, trace : ndarray, shape (n,)
        Unbiased estimates of |g|² and tr(Sigma) (`adam_minibatch_noise.theory.two_batch_estimates`), oldest first.
    level : float, 0 < level < 1
        Of the interval.

    Returns
    -------
    NoiseEstimate

    Raises
    ------
    InputError
        A level that is none.
    """
    check_level(level)
    nan = math.nan
    if not len(g_sq):
        return NoiseEstimate(0, nan, nan, nan, nan, nan, level)
    if not (np.isfinite(g_sq).all() and np.isfinite(trace).all()):
        return NoiseEstimate(len(g_sq), nan, nan, nan, nan, nan, level)
    blocks, n_used = block_means(g_sq, trace)
    mean_g_sq, mean_trace = blocks.mean(0).tolist()
    ratio = math.inf if mean_g_sq <= 0 else max(mean_trace, 0.0) / mean_g_sq
    interval = fieller_interval(blocks[:, 1], blocks[:, 0], level)
    return NoiseEstimate(n_used, mean_g_sq, mean_trace, ratio, *interval, level)
