"""Monte Carlo over permutations: mean and standard error of Adam's memory correction Corr_n at a fixed theta.

Each function checks its arguments, lays them out for a jitted kernel (`sim.monte_carlo.corr_kernels`) and returns what
maps permutations to values, to be averaged over drawn ones (`sim.monte_carlo.parallel_mean`), or for given ones.

Gradients and Hessians are divided by powers of 2 on the way in, and Corr_n is multiplied by them on the way out: data
of size 1e-300 or 1e300 give results as good as any (relative errors: ``tests/fifty_digits.py``).

References
----------
.. [1] Cattaneo & Shigida (2026), "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv 2602.01642.
"""

from collections.abc import Callable

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.ranges import BETA, NONNEGATIVE, within
from sim.monte_carlo.corr_kernels import (
    SMALLEST_ROOT,
    Units,
    corr_least_squares,
    corr_quadratics,
    make_adam_weights,
    make_workspace,
)
from sim.monte_carlo.parallel_mean import BLOCK
from sim.monte_carlo.simd import aligned_zeros, padded, panel_lanes, zero_vector

CorrOfOrders = Callable[[np.ndarray], np.ndarray]
"""From permutations of the samples to Corr_n of each; `sim.monte_carlo.parallel_mean.mean_and_stderr` averages it."""


def adam_least_squares(
    features: np.ndarray,
    residuals: np.ndarray,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
) -> CorrOfOrders:
    """Make the function that maps sample orders to Corr_n of Adam, for l_r = (a_r . theta - y_r)^2 / 2.

    Implements Definition 3.1 and Theorem 2.3 of [1]_ (see `sim.monte_carlo.corr_kernels`).

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

    Returns
    -------
    callable
        From permutations of the samples, ndarray of int (n_permutations, n_samples), of which batch k holds the entries
        k batch_size to (k + 1) batch_size - 1, to float64 (n_permutations, d). It checks no index, for which there is
        `in_blocks`; it raises InputError where a batch gradient is zero, or 1e150 times below the largest of its
        component, and `eps_root` too; or where Corr_n is beyond the range of float64.

    Raises
    ------
    InputError
        For an argument outside its range.
    """
    features, residuals = np.asarray(features, np.float64), np.asarray(residuals, np.float64)
    if features.ndim != 2 or residuals.shape != features.shape[:1]:
        raise InputError(
            f"features has shape {features.shape} and residuals {residuals.shape}, "
            "allowed: (n_samples, d) and (n_samples,)"
        )
    check_finite(features=features, residuals=residuals)
    check_settings(len(features), batch_size, beta1, beta2, eps_root)
    unit = exponent(features)
    size = np.maximum(unit + exponent(residuals), exponent(np.sqrt(eps_root)))
    units = Units(np.full(features.shape[1], size), 2 * unit)
    rows, weights = np.ldexp(features, -unit), np.ldexp(residuals, unit - size)
    problem = padded(rows, panel_lanes(features.shape[1])), weights / batch_size
    return of_kernel(corr_least_squares, problem, batch_size, beta1, beta2, eps_root, units)


def adam_quadratics(
    gradients: np.ndarray,
    hessians: np.ndarray,
    batch_size: int,
    beta1: float,
    beta2: float,
    eps_root: float,
) -> CorrOfOrders:
    """Make the function that maps sample orders to Corr_n of Adam, each sample having its own quadratic loss.

    Parameters
    ----------
    gradients : ndarray of float, shape (n_samples, d)
        Gradient of each sample at theta.
    hessians : ndarray of float, shape (n_samples, d, d)
        Symmetric.
    batch_size, beta1, beta2, eps_root
        As in `adam_least_squares`.

    Returns
    -------
    callable
        As `adam_least_squares`.

    Raises
    ------
    InputError
        As `adam_least_squares`.
    """
    gradients, hessians = np.asarray(gradients, np.float64), np.asarray(hessians, np.float64)
    if gradients.ndim != 2 or hessians.shape != (*gradients.shape, gradients.shape[1]):
        raise InputError(
            f"gradients has shape {gradients.shape} and hessians {hessians.shape}, "
            "allowed: (n_samples, d) and (n_samples, d, d)"
        )
    check_finite(gradients=gradients, hessians=hessians)
    check_settings(len(gradients), batch_size, beta1, beta2, eps_root)
    size = np.maximum(exponent(gradients, axis=0), exponent(np.sqrt(eps_root)))
    units = Units(size, exponent(hessians))
    lanes = panel_lanes(gradients.shape[1])
    rows, hessians = np.ldexp(gradients, -size), np.ldexp(hessians, -units.hessian)
    weights = np.full(len(gradients), 1 / batch_size)
    problem = padded(rows, lanes), padded(hessians, lanes), weights
    return of_kernel(corr_quadratics, problem, batch_size, beta1, beta2, eps_root, units)


def of_kernel(kernel, problem, batch_size, beta1, beta2, eps_root, units, columns=None):
    """Make the function of orders that `kernel` computes; component j is at columns[j] there, by default at j."""
    (n_samples, width), zero = problem[0].shape, zero_vector(panel_lanes(len(units.gradient)))
    used, weights = np.arange(len(units.gradient)) if columns is None else columns, weights_of(problem)
    smallest = np.abs(problem[0][:, used] * weights[:, None]).min()
    betas = beta1, beta2, eps_root
    adam = make_adam_weights(n_samples // batch_size, batch_size, *betas, units, used, width, smallest)
    return lambda orders: run_kernel(kernel, problem, batch_size, adam, orders, zero, units.gradient, columns)


def subtract_control(corr, control):
    """Subtract from `corr` a control variate, a function of orders of expectation zero, to reduce its variance."""
    return lambda orders: corr(orders) - control(orders)


def in_blocks(corr, permutations, n_samples):
    """Check given permutations and map them to values of Corr_n, a block at a time."""
    permutations = np.asarray(permutations)
    rows = np.sort(permutations, axis=-1)
    if permutations.shape[1:] != (n_samples,) or (rows != np.arange(n_samples)).any():
        raise InputError(
            f"permutations of shape {permutations.shape} holds other rows than permutations of 0 to {n_samples - 1}"
        )
    starts = range(0, len(permutations), BLOCK)
    return np.concatenate([corr(permutations[i : i + BLOCK]) for i in starts])


def run_kernel(kernel, problem, batch_size, adam, orders, zero, size, columns=None):
    """Call `kernel`; where a value is not finite, raise an error that names the component.

    Component j, its gradients divided by 2^size[j], is at columns[j] in the kernel, by default at j.
    """
    width, d = problem[0].shape[1], len(size)
    values = aligned_zeros((len(orders), width))
    orders = np.ascontiguousarray(orders, np.int32)
    orders = orders.view(np.uint32)  # unsigned: Numba need not look for negative indices
    work = make_workspace(len(adam.mu), batch_size, width)
    with np.errstate(all="ignore"):
        kernel(*problem, batch_size, adam, orders, work, zero, values)
    values = values[:, :d] if columns is None else values.take(columns, axis=1)
    undefined = ~np.isfinite(values).all(axis=1)
    if undefined.any():
        order = orders[np.argmax(undefined)]
        columns = np.arange(d) if columns is None else columns
        raise InputError(why_undefined(problem, order, batch_size, adam, size, columns))
    return values


def why_undefined(problem, order, batch_size, adam, size, columns):
    """Say which step along `order` is 0 / 0, or that Corr_n itself is too large."""
    weights = weights_of(problem)
    batches = order.reshape(-1, batch_size)
    square = 0.0
    for t, batch in enumerate(batches):
        gradient = weights[batch] @ problem[0][np.ix_(batch, columns)]
        square = adam.beta2 * square + gradient**2
        root = np.sqrt(adam.scale2[t] * square + adam.eps_root[0, columns])
        j = int(np.argmin(root))
        if root[j] < 2 * SMALLEST_ROOT:
            length, eps_root = (
                np.ldexp(abs(gradient[j]), size[j]),
                np.ldexp(adam.eps_root[0, columns[j]], 2 * size[j]),
            )
            return (
                f"gradient component {j} of {f'batch {t}' if t else 'the first batch'} is {length:.3g} and eps_root is "
                f"{eps_root:g}: Adam's step is not finite, allowed: batch gradients neither zero nor 1e150 times "
                "smaller than the largest, or a larger eps_root"
            )
    return "Corr_n is not a finite number, allowed: gradients and Hessians for which it is below 1.8e308"


def exponent(array, axis=None):
    """Smallest e with |array| < 2^e; -2000 if all is zero."""
    largest = np.abs(array).max(axis=axis)
    return np.where(largest > 0, np.frexp(largest)[1], -2000)


def weights_of(problem):
    """Return the weight of each sample in its batch gradient, among a kernel's arrays."""
    return next(array for array in problem[1:] if np.ndim(array) == 1)


def check_settings(n_samples, batch_size, beta1, beta2, eps_root):
    """Complain of a setting outside its range."""
    if not (batch_size >= 1 and n_samples % batch_size == 0):
        raise InputError(f"batch_size is {batch_size}, allowed: a divisor of n_samples = {n_samples}")
    within("beta1", beta1, BETA)
    within("beta2", beta2, BETA)
    within("eps_root", eps_root, NONNEGATIVE)


def check_finite(**arrays):
    """Complain of the first of the named arrays that is empty or not finite."""
    for name, array in arrays.items():
        if array.size == 0 or not np.isfinite(array).all():
            raise InputError(f"{name} is empty or has entries that are not finite, allowed: finite numbers")
