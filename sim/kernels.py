"""Monte Carlo over permutations: mean and standard error of Adam's memory correction Corr_n at a fixed theta.

Each public function checks its arguments, draws permutations a round at a time (`sim.sampling`), hands the
round to a jitted kernel that turns every permutation into one vector Corr_n, and merges the round into the
running moments. Rounds have a fixed size and are merged in order: the result is the same, bit for bit, for
any number of threads, and memory does not grow with the number of permutations.

References
----------
.. [1] Cattaneo & Shigida (2026), "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv 2602.01642.
.. [2] Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance".
"""

from collections.abc import Callable

import numpy as np
from numba import njit, prange

from sim.records import InputError
from sim.sampling import draw_permutations

ROUND = 512
"""Permutations of a round."""


def corr_moments_least_squares(
    features: np.ndarray,
    residuals: np.ndarray,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
    n_permutations: int,
    seed: int,
    first_index: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the expectation of Corr_n over permutations, for l_r = (a_r . theta - y_r)^2 / 2.

    Parameters
    ----------
    features : ndarray of float, shape (n_samples, d)
        The rows a_r.
    residuals : ndarray of float, shape (n_samples,)
        a_r . theta - y_r, so that sample r has gradient residuals[r] a_r and Hessian a_r a_r^T.
    batch_size : int
        A divisor of n_samples. The epoch has n_samples / batch_size steps and n is the last of them.
    beta1, beta2 : float
        In [0, 1).
    eps_root : float
        >= 0, inside the square root.
    n_permutations : int
        >= 2.
    seed, first_index : int
        Permutations first_index, first_index + 1, ... of the seed (`sim.sampling.draw_permutations`).
    progress : callable, optional
        Called after each round with the number of permutations in it.

    Returns
    -------
    mean, stderr : ndarray of float64, shape (d,)
        Mean of Corr_n and its standard error, sample standard deviation / sqrt(n_permutations).

    Raises
    ------
    InputError
        For an argument outside its range, or where a batch gradient is zero and `eps_root` is too.
    """
    problem = _least_squares_arrays(features, residuals)
    return _moments(
        corr_of_permutations_least_squares, problem, batch_size, beta1, beta2, eps_root,
        n_permutations, seed, first_index, progress,
    )  # fmt: skip


def corr_moments_quadratics(
    gradients: np.ndarray,
    hessians: np.ndarray,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
    n_permutations: int,
    seed: int,
    first_index: int = 0,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the expectation of Corr_n over permutations, each sample having its own quadratic loss.

    Parameters
    ----------
    gradients : ndarray of float, shape (n_samples, d)
        Gradient of each sample at theta.
    hessians : ndarray of float, shape (n_samples, d, d)
        Symmetric.
    batch_size, beta1, beta2, eps_root, n_permutations, seed, first_index, progress
        As in `corr_moments_least_squares`.

    Returns
    -------
    mean, stderr : ndarray of float64, shape (d,)

    Raises
    ------
    InputError
        As in `corr_moments_least_squares`.
    """
    problem = _quadratics_arrays(gradients, hessians)
    return _moments(
        corr_of_permutations_quadratics, problem, batch_size, beta1, beta2, eps_root,
        n_permutations, seed, first_index, progress,
    )  # fmt: skip


def corr_of_permutations_least_squares(
    features: np.ndarray,
    residuals: np.ndarray,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
    permutations: np.ndarray,
) -> np.ndarray:
    """Compute Corr_n of Adam for given sample orders, for l_r = (a_r . theta - y_r)^2 / 2.

    Implements Definition 3.1 and Theorem 2.3 of [1]_: Corr_n = L_n / R_n - M_n P_n / R_n^3 (see `_corr`).

    Parameters
    ----------
    features, residuals, batch_size, beta1, beta2, eps_root
        As in `corr_moments_least_squares`.
    permutations : ndarray of int, shape (n_permutations, n_samples)
        Batch k of a row holds its entries k batch_size to (k + 1) batch_size - 1.

    Returns
    -------
    ndarray of float64, shape (n_permutations, d)

    Raises
    ------
    InputError
        As in `corr_moments_least_squares`.
    """
    problem = _least_squares_arrays(features, residuals)
    _check(problem[0], batch_size, beta1, beta2, eps_root)
    orders = np.ascontiguousarray(permutations, np.int32)
    values = np.empty((len(orders), problem[0].shape[1]))
    with np.errstate(all="ignore"):  # a division by zero is reported below, by name
        _corr_least_squares(*problem, batch_size, beta1, beta2, eps_root, orders, values)
    gradients = problem[0] * problem[1][:, None]
    _refuse_undefined(values, orders, gradients, batch_size, eps_root)
    return values


def corr_of_permutations_quadratics(
    gradients: np.ndarray,
    hessians: np.ndarray,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
    permutations: np.ndarray,
) -> np.ndarray:
    """Compute Corr_n of Adam for given sample orders, each sample having its own quadratic loss.

    Implements the same formulas as `corr_of_permutations_least_squares`.

    Parameters
    ----------
    gradients, hessians, batch_size, beta1, beta2, eps_root
        As in `corr_moments_quadratics`.
    permutations : ndarray of int, shape (n_permutations, n_samples)

    Returns
    -------
    ndarray of float64, shape (n_permutations, d)

    Raises
    ------
    InputError
        As in `corr_moments_least_squares`.
    """
    problem = _quadratics_arrays(gradients, hessians)
    _check(problem[0], batch_size, beta1, beta2, eps_root)
    orders = np.ascontiguousarray(permutations, np.int32)
    values = np.empty((len(orders), problem[0].shape[1]))
    with np.errstate(all="ignore"):
        _corr_quadratics(*problem, batch_size, beta1, beta2, eps_root, orders, values)
    _refuse_undefined(values, orders, problem[0], batch_size, eps_root)
    return values


def _moments(corr, problem, batch_size, beta1, beta2, eps_root, n_permutations, seed, first_index, progress):
    if n_permutations < 2:
        raise InputError(f"n_permutations is {n_permutations}, allowed: >= 2")
    n_samples, d = problem[0].shape
    mean, scatter = np.zeros(d), np.zeros(d)  # scatter: sum of squared deviations from the mean
    orders = np.empty((min(ROUND, n_permutations), n_samples), np.int32)
    for done in range(0, n_permutations, ROUND):
        size = min(ROUND, n_permutations - done)
        draw_permutations(n_samples, size, seed, first_index + done, out=orders)
        values = corr(*problem, batch_size, beta1, beta2, eps_root, orders[:size])
        round_mean = values.mean(axis=0)
        gap = round_mean - mean
        mean += gap * (size / (done + size))
        scatter += ((values - round_mean) ** 2).sum(axis=0) + gap**2 * (done * size / (done + size))  # [2]_
        if progress is not None:
            progress(size)
    return mean, np.sqrt(scatter / (n_permutations - 1) / n_permutations)


def _least_squares_arrays(features, residuals):
    features = np.ascontiguousarray(features, np.float64)
    residuals = np.ascontiguousarray(residuals, np.float64)
    if features.ndim != 2 or residuals.shape != features.shape[:1]:
        raise InputError(
            f"features has shape {features.shape} and residuals {residuals.shape}, "
            "allowed: (n_samples, d) and (n_samples,)"
        )
    return _finite(features=features, residuals=residuals)


def _quadratics_arrays(gradients, hessians):
    gradients = np.ascontiguousarray(gradients, np.float64)
    hessians = np.ascontiguousarray(hessians, np.float64)
    if gradients.ndim != 2 or hessians.shape != (*gradients.shape, gradients.shape[1]):
        raise InputError(
            f"gradients has shape {gradients.shape} and hessians {hessians.shape}, "
            "allowed: (n_samples, d) and (n_samples, d, d)"
        )
    return _finite(gradients=gradients, hessians=hessians)


def _finite(**arrays):
    for name, array in arrays.items():
        if array.size == 0 or not np.isfinite(array).all():
            raise InputError(f"{name} is empty or has entries that are not finite, allowed: finite numbers")
    return tuple(arrays.values())


def _check(rows, batch_size, beta1, beta2, eps_root):
    if not (batch_size >= 1 and len(rows) % batch_size == 0):
        raise InputError(f"batch_size is {batch_size}, allowed: a divisor of n_samples = {len(rows)}")
    for name, value in [("beta1", beta1), ("beta2", beta2)]:
        if not 0 <= value < 1:
            raise InputError(f"{name} is {value}, allowed: 0 <= {name} < 1")
    if not 0 <= eps_root < np.inf:
        raise InputError(f"eps_root is {eps_root}, allowed: finite and >= 0")


def _refuse_undefined(values, orders, gradients, batch_size, eps_root):
    """Raise an error that names the component where Adam's step is 0 / 0."""
    undefined = ~np.isfinite(values).all(axis=1)
    if undefined.any():
        first_batch = orders[np.argmax(undefined), :batch_size]
        batch_gradient = np.abs(gradients[first_batch].mean(axis=0))
        j = int(np.argmin(batch_gradient))
        raise InputError(
            f"gradient component {j} of the first batch is {batch_gradient[j]:.3g} and eps_root is "
            f"{eps_root:g}: Adam's step is not finite, allowed: nonzero batch gradients, or eps_root > 0"
        )


@njit(cache=True, parallel=True, error_model="numpy")
def _corr_least_squares(features, residuals, batch_size, beta1, beta2, eps_root, orders, values):
    n_samples, d = features.shape
    m = n_samples // batch_size
    for p in prange(orders.shape[0]):
        gradients = np.zeros((m, d))
        for i in range(n_samples):
            r = orders[p, i]
            for j in range(d):
                gradients[i // batch_size, j] += features[r, j] * residuals[r] / batch_size
        steps = _steps(gradients, beta1, beta2, eps_root)
        products = np.zeros((m, d))  # H_k u_k
        u = np.zeros(d)
        for k in range(m - 2, -1, -1):
            u += steps[k]
            for i in range(k * batch_size, (k + 1) * batch_size):
                r = orders[p, i]
                slope = np.sum(features[r] * u) / batch_size
                for j in range(d):
                    products[k, j] += features[r, j] * slope
        _corr(gradients, products, beta1, beta2, eps_root, values[p])


@njit(cache=True, parallel=True, error_model="numpy")
def _corr_quadratics(gradients_of, hessians, batch_size, beta1, beta2, eps_root, orders, values):
    n_samples, d = gradients_of.shape
    m = n_samples // batch_size
    for p in prange(orders.shape[0]):
        gradients = np.zeros((m, d))
        for i in range(n_samples):
            gradients[i // batch_size] += gradients_of[orders[p, i]] / batch_size
        steps = _steps(gradients, beta1, beta2, eps_root)
        products = np.zeros((m, d))  # H_k u_k
        u = np.zeros(d)
        for k in range(m - 2, -1, -1):
            u += steps[k]
            for i in range(k * batch_size, (k + 1) * batch_size):
                for j in range(d):
                    products[k] += hessians[orders[p, i], j] * (u[j] / batch_size)
        _corr(gradients, products, beta1, beta2, eps_root, values[p])


@njit(cache=True, error_model="numpy")
def _steps(gradients, beta1, beta2, eps_root):
    """F_t = M_t / R_t for t = 0..m-1, from the batch gradients (m, d)."""
    m, d = gradients.shape
    steps = np.empty((m, d))
    exp_avg, exp_avg_sq = np.zeros(d), np.zeros(d)
    for t in range(m):
        bias1, bias2 = 1 - beta1 ** (t + 1), 1 - beta2 ** (t + 1)
        for j in range(d):
            exp_avg[j] = beta1 * exp_avg[j] + (1 - beta1) * gradients[t, j]
            exp_avg_sq[j] = beta2 * exp_avg_sq[j] + (1 - beta2) * gradients[t, j] ** 2
            steps[t, j] = exp_avg[j] / bias1 / np.sqrt(exp_avg_sq[j] / bias2 + eps_root)
    return steps


@njit(cache=True, error_model="numpy")
def _corr(gradients, products, beta1, beta2, eps_root, out):
    """Corr_n = L_n / R_n - M_n P_n / R_n^3, with L_n = sum_k mu_k H_k u_k, P_n = sum_k nu_k g_k H_k u_k."""
    m, d = gradients.shape
    bias1, bias2 = 1 - beta1**m, 1 - beta2**m
    for j in range(d):
        first, second, second_sq, third = 0.0, 0.0, 0.0, 0.0
        for k in range(m):
            mu = beta1 ** (m - 1 - k) * (1 - beta1) / bias1
            nu = beta2 ** (m - 1 - k) * (1 - beta2) / bias2
            first += mu * gradients[k, j]
            second_sq += nu * gradients[k, j] ** 2
            second += mu * products[k, j]
            third += nu * gradients[k, j] * products[k, j]
        root = np.sqrt(second_sq + eps_root)
        out[j] = second / root - first * third / root**3
