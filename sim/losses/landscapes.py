"""Per-sample losses as functions of the parameters, for programs that follow a trajectory inside Numba.

A landscape is two jitted functions, for gradient and Hessian of one sample at any theta, and the arrays that they read.
The functions are not cached on disk where they call another module: Numba would not notice its changes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from adam_minibatch_noise.theory import Array
from sim.losses.cnn import CnnData, sample_derivatives
from sim.losses.problems import LeastSquares, Quadratics


@dataclass(frozen=True)
class Landscape:
    """Losses of n_samples samples around a starting point.

    Attributes
    ----------
    gradient : callable
        Jitted; ``gradient(theta, arrays, sample, out)`` ADDS the gradient (n_params,) of one sample at `theta` to `out`
        and returns the sample's loss.
    derivatives : callable
        Jitted; ``derivatives(theta, arrays, sample, gradient, hessian)`` writes the gradient and the symmetric Hessian
        (n_params, n_params) of one sample.
    arrays : tuple
        What these functions read.
    start : (n_params,) ndarray
        The starting point theta_0.
    n_samples : int
    """

    gradient: Callable[..., float]
    derivatives: Callable[..., None]
    arrays: tuple[Any, ...]
    start: Array
    n_samples: int

    def loss_and_gradient(self, theta: Array, samples: np.ndarray | None = None) -> tuple[float, Array]:
        """Mean loss and gradient over `samples` (n,), default all, at `theta` (n_params,)."""
        samples = np.arange(self.n_samples) if samples is None else samples
        out = np.zeros(theta.size)
        loss = _mean_loss(self.gradient, self.arrays, theta, samples, out)
        return loss, out / len(samples)


@njit(nogil=True)
def _mean_loss(gradient, arrays, theta, samples, out):
    """Mean loss over `samples`, adding their gradients to `out`."""
    loss = 0.0
    for r in samples:
        loss += gradient(theta, arrays, r, out)
    return loss / len(samples)


def landscape_of(problem: Quadratics | LeastSquares) -> Landscape:
    """Return the losses of a problem; least squares starts at its own theta, quadratics at 0."""
    if isinstance(problem, LeastSquares):
        functions, arrays = (_least_squares, _least_squares_derivatives), (problem.features, problem.targets)
        return Landscape(*functions, arrays, problem.theta, problem.n_samples)
    arrays, start = (problem.gradients, problem.hessians), np.zeros(problem.n_params)
    return Landscape(_quadratic, _quadratic_derivatives, arrays, start, problem.n_samples)


def cnn_landscape(weights: Array, data: CnnData, q: int = 3) -> Landscape:
    """Losses of the two-layer CNN of `sim.losses.cnn`; theta is the flattened array of its filters.

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
    Landscape
    """
    arrays = data.patches, data.labels, q
    return Landscape(_cnn, _cnn_derivatives, arrays, weights.ravel(), data.n_samples)


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
def _least_squares_derivatives(theta, arrays, sample, gradient, hessian):
    row = arrays[0][sample]
    gradient[:] = 0.0
    _least_squares(theta, arrays, sample, gradient)
    for i in range(theta.size):
        for j in range(theta.size):
            hessian[i, j] = row[i] * row[j]


@njit(cache=True, nogil=True)
def _quadratic(theta, arrays, sample, out):
    gradients, hessians = arrays
    loss = 0.0
    for j in range(theta.size):
        bend = 0.0
        for i in range(theta.size):
            bend += hessians[sample, i, j] * theta[i]
        out[j] += gradients[sample, j] + bend
        loss += theta[j] * (gradients[sample, j] + 0.5 * bend)
    return loss


@njit(cache=True, nogil=True)
def _quadratic_derivatives(theta, arrays, sample, gradient, hessian):
    gradient[:] = 0.0
    _quadratic(theta, arrays, sample, gradient)
    hessian[:] = arrays[1][sample]


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


@njit(nogil=True)
def _cnn_derivatives(theta, arrays, sample, gradient, hessian):
    patches, labels, q = arrays
    filters = theta.reshape((theta.size // patches.shape[2], patches.shape[2]))
    sample_derivatives(filters, patches[sample], labels[sample], q, gradient, hessian)
