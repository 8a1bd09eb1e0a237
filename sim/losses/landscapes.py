"""Per-sample losses as functions of the parameters, for programs that follow a trajectory inside Numba.

A landscape is a jitted function that gives gradient and Hessian of one sample at any theta, and the arrays it
reads. The functions are not cached on disk where they call another module: Numba would not notice its changes.
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
    derivatives : callable
        Jitted; ``derivatives(theta, arrays, sample, gradient, hessian)`` writes the gradient (n_params,) and the
        symmetric Hessian (n_params, n_params) of one sample at `theta`.
    arrays : tuple
        What `derivatives` reads.
    start : (n_params,) ndarray
        The starting point theta_0.
    n_samples : int
    """

    derivatives: Callable[..., None]
    arrays: tuple[Any, ...]
    start: Array
    n_samples: int


def quadratic_landscape(problem: Quadratics | LeastSquares) -> Landscape:
    """Quadratic losses; least squares is the case of Hessians of rank one.

    Parameters
    ----------
    problem : Quadratics or LeastSquares
        Least squares starts at its own theta, quadratics at 0.

    Returns
    -------
    Landscape
    """
    start = np.zeros(problem.n_params)
    if isinstance(problem, LeastSquares):
        start, problem = problem.theta, problem.quadratics()
    return Landscape(_quadratic, (problem.gradients, problem.hessians, start), start, problem.n_samples)


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
    return Landscape(_cnn, (data.patches, data.labels, q), weights.ravel(), data.n_samples)


@njit(cache=True, nogil=True)
def _quadratic(theta, arrays, sample, gradient, hessian):
    gradients, hessians, start = arrays
    gradient[:] = gradients[sample]
    hessian[:] = hessians[sample]
    for i in range(theta.size):
        for j in range(theta.size):
            gradient[j] += hessian[i, j] * (theta[i] - start[i])


@njit(nogil=True)
def _cnn(theta, arrays, sample, gradient, hessian):
    patches, labels, q = arrays
    filters = theta.reshape((theta.size // patches.shape[2], patches.shape[2]))
    sample_derivatives(filters, patches[sample], labels[sample], q, gradient, hessian)
