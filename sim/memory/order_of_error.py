"""The order of an error in the learning rate: the slope of log error against log lr."""

import numpy as np

from adam_minibatch_noise.theory import Array


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
