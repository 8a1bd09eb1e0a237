"""The order of an error in the learning rate: the slope of log error against log lr, and where to measure it."""

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array

MAX_STEPS = 1_000_000
"""Most steps of a run: its trajectory is held in memory."""


def learning_rates(
    lr_max: float, n_decades: float, n_lr: int, horizon: float, multiple: int = 1
) -> tuple[Array, np.ndarray]:
    """Choose learning rates at even ratios, each a whole number of steps from `horizon` = lr * n_steps.

    Parameters
    ----------
    lr_max, n_decades, horizon : float
        > 0.
    n_lr : int
        >= 3.
    multiple : int
        Of which all numbers of steps are multiples, >= 1.

    Returns
    -------
    lr : (n_lr,) ndarray
        Falling.
    n_steps : (n_lr,) ndarray of int

    Raises
    ------
    InputError
        If a run would have no step or more than `MAX_STEPS`, or two of them the same number.
    """
    with np.errstate(over="ignore"):  # refused below
        n_steps = multiple * np.rint(horizon / lr_max / multiple * 10 ** np.linspace(0, n_decades, n_lr))
    if not (n_steps[0] > 0 and n_steps[-1] <= MAX_STEPS):
        raise InputError(
            f"--horizon {horizon:g} at learning rates {lr_max:g} to {lr_max * 10**-n_decades:.3g} takes "
            f"{n_steps[0]:.3g} to {n_steps[-1]:.3g} steps, allowed: 1 to {MAX_STEPS}"
        )
    n_steps = n_steps.astype(int)
    if len(np.unique(n_steps)) < n_lr:
        raise InputError(f"--n-lr is {n_lr}, allowed: fewer, or no two runs of the same number of steps")
    return horizon / n_steps, n_steps


def fit_slope(lr: Array, distances: Array) -> tuple[float, float]:
    """Fit a straight line to log distance against log lr by least squares.

    Parameters
    ----------
    lr, distances : (n_lr,) ndarray
        > 0; n_lr >= 3.

    Returns
    -------
    slope, stderr : float
        The standard error is that of equal independent errors of the logarithms.
    """
    x, y = np.log(lr) - np.log(lr).mean(), np.log(distances) - np.log(distances).mean()
    slope = x @ y / (x @ x)
    return float(slope), float(np.sqrt(((y - slope * x) ** 2).sum() / (len(x) - 2) / (x @ x)))
