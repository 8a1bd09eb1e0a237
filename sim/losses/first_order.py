"""Per-sample losses and gradients as functions of the parameters, for programs that follow many trajectories.

As `sim.losses.landscapes`, without the Hessian: the cost of a sample is one pass over its features or patches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from adam_minibatch_noise.theory import Array
from sim.losses.cnn import CnnData
from sim.losses.problems import LeastSquares


@dataclass(frozen=True)
class FirstOrderLoss:
    """Losses of n_samples samples, by their gradients.

    Attributes
    ----------
    gradient : callable
        Jitted; ``gradient(theta, arrays, sample, out)`` ADDS the gradient (n_params,) of one sample at `theta` to `out`
        and returns the sample's loss.
    arrays : tuple
        What `gradient` reads.
    start : (n_params,) ndarray
        The starting point theta_0.
    n_samples : int
    """

    gradient: Callable[..., float]
    arrays: tuple[Any, ...]
    start: Array
    n_samples: int

    def loss_and_gradient(self, theta: Array, samples: np.ndarray | None = None) -> tuple[float, Array]:
        """Mean loss and gradient over `samples` (n,), default all, at `theta` (n_params,)."""
        samples = np.arange(self.n_samples) if samples is None else samples
        out = np.zeros(theta.size)
        loss = mean_loss(self.gradient, self.arrays, theta, samples, out)
        return loss, out / len(samples)


@njit(nogil=True)
def mean_loss(gradient, arrays, theta, samples, out):
    """Mean loss over `samples`, adding their gradients to `out`."""
    loss = 0.0
    for r in samples:
        loss += gradient(theta, arrays, r, out)
    return loss / len(samples)


def least_squares_loss(problem: LeastSquares) -> FirstOrderLoss:
    """Return the losses 1/2 (features_r . theta - targets_r)^2, from the problem's own point."""
    return FirstOrderLoss(
        _least_squares, (problem.features, problem.targets), problem.theta, problem.n_samples
    )


def cnn_loss(weights: Array, data: CnnData, q: int = 3) -> FirstOrderLoss:
    """Return the losses of the two-layer CNN of `sim.losses.cnn`; theta is the flattened array of its filters.

    Parameters
    ----------
    weights : (2, n_filters, patch_length) ndarray
        The starting point.
    data : CnnData
        Patches of the same length.
    q : int
        Power of the activation, >= 3.

    Returns
    -------
    FirstOrderLoss
    """
    return FirstOrderLoss(_cnn, (data.patches, data.labels, q), weights.ravel(), data.n_samples)


@njit(cache=True, nogil=True, error_model="numpy")
def _least_squares(theta, arrays, sample, out):
    features, targets = arrays
    residual = -targets[sample]
    for i in range(theta.size):
        residual += features[sample, i] * theta[i]
    for i in range(theta.size):
        out[i] += residual * features[sample, i]
    return 0.5 * residual**2


@njit(cache=True, nogil=True, error_model="numpy")
def _cnn(theta, arrays, sample, out):
    patches, labels, q = arrays
    length = patches.shape[2]
    n_filters = theta.size // length
    slopes = np.empty((n_filters, 2))  # y j act'(<w_jr, x_p>)
    margin = 0.0
    for f in range(n_filters):
        sign = labels[sample] if f < n_filters // 2 else -labels[sample]
        for p in range(2):
            response = 0.0
            for i in range(length):
                response += theta[f * length + i] * patches[sample, p, i]
            power = max(response, 0.0) ** (q - 1)
            margin += sign * power * max(response, 0.0)
            slopes[f, p] = sign * q * power
    small = np.exp(-abs(margin))
    doubt = small / (1 + small) if margin > 0 else 1 / (1 + small)
    for f in range(n_filters):
        for p in range(2):
            if slopes[f, p] != 0.0:
                for i in range(length):
                    out[f * length + i] -= doubt * slopes[f, p] * patches[sample, p, i]
    return np.log1p(small) + max(-margin, 0.0)
