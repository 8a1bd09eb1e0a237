r"""A control variate for Monte Carlo over permutations: the part of Corr_n that is linear in the batch noise.

Its expectation is exactly zero, and for small noise it is nearly all of the variance of Corr_n: what is left is of
second order. With F = g/R, R^2 = g^2 + eps, q = g^2/R^2, Lag_w = sum_k w_k (n - k) and h_j = sum_i H_ij F_i,

    Corr_n,j linear in d = - g_j h_j/R_j^3 sum_k [ (Lag_mu - 3 q_j Lag_nu) nu_k + Lag_nu mu_k + nu_k (n - k) ] d_{k,j}
                           + 1/R_j sum_k (mu_k - q_j nu_k)(n - k) (hess d_k F)_j
                           + 1/R_j sum_i H_ij/R_i sum_p (I^mu_{p,i} - q_j I^nu_{p,i}) d_{p,i},

I^w_{p,i} = sum_{l=p}^{n-1} (mu_{l,p} - q_i nu_{l,p}) sum_{k<=l} w_k.
"""

from collections.abc import Callable

import numpy as np
from numba import njit

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.averaging import moving_average
from adam_minibatch_noise.theory import Array, one_minus_power
from sim.losses.problems import Problem


def linear_part(
    problem: Problem, batch_size: int, beta1: float, beta2: float, eps_root: float = 0.0
) -> Callable[[np.ndarray], Array]:
    """Make the function that gives the linear part of Corr_n for any sample orders.

    Parameters
    ----------
    problem : LeastSquares or Quadratics
        No component of its gradient is 0 if `eps_root` is 0.
    batch_size : int
        A divisor of the number of samples.
    beta1, beta2 : float
        In [0, 1).
    eps_root : float
        >= 0, inside the square root.

    Returns
    -------
    callable
        From orders (n_permutations, n_samples) to values (n_permutations, n_params) of mean zero over all orders.

    Raises
    ------
    InputError
        If a component of the gradient is 0 and `eps_root` is too, or the values are beyond the range of float64.
    """
    moments = problem.moments()
    g, hessian = moments.gradient, moments.hessian
    if not np.isfinite(hessian).all():
        raise InputError("the Hessian is not a finite number, allowed: entries below 1.8e308")
    root = np.hypot(g, np.sqrt(eps_root))  # of squares that may be beyond float64
    if not root.all():
        j = int(np.argmin(root))
        raise InputError(f"gradient component {j} is 0 and eps_root is 0, allowed: eps_root > 0")
    update, q = g / root, (g / root) ** 2
    outer, curved, inner_mu, inner_nu = _weights(problem.n_samples // batch_size, beta1, beta2, q)
    outer *= -update * (update @ hessian)
    gradients = np.ascontiguousarray((problem.gradients - g) / root) / batch_size  # d / R
    products = (problem.hessian_products(update) - hessian @ update) / batch_size

    def linear(orders: np.ndarray) -> Array:
        values = np.empty((len(orders), len(g)))
        inner = np.empty((2, len(orders), len(g)))
        _linear(gradients, products, orders, batch_size, outer, curved, inner_mu, inner_nu, values, inner)
        from_mu, from_nu = inner @ hessian
        values = (values + (from_mu - q * from_nu)) / root
        if not np.isfinite(values).all():
            raise InputError("the control variate is not a finite number, allowed: values below 1.8e308")
        return values

    return linear


def _weights(m: int, beta1: float, beta2: float, q: Array) -> tuple[Array, Array, Array, Array]:
    """Tabulate the factors of d_{k,j}, of hess d_k F and I^mu, I^nu, (m, n_params) each."""
    n = m - 1
    mu, nu = moving_average(beta1).at(n), moving_average(beta2).at(n)
    lag = np.arange(n, -1.0, -1.0)
    lag_mu, lag_nu = mu @ lag, nu @ lag
    outer = nu[:, None] * (lag_mu - 3 * q * lag_nu) + (lag_nu * mu + nu * lag)[:, None]
    curved = lag[:, None] * (mu[:, None] - q * nu[:, None])
    inner = []
    for w in (mu, nu):
        sums = np.zeros((2, m))  # sum_{l=p}^{n-1} x_{l,p} sum_{k<=l} w_k, for x = mu and nu
        for row, beta in zip(sums, (beta1, beta2), strict=True):
            scaled = np.cumsum(w)[:-1] * (1 - beta) / one_minus_power(beta, np.arange(1.0, m))
            for p in range(n - 1, -1, -1):
                row[p] = scaled[p] + beta * row[p + 1]
        inner.append(sums[0][:, None] - q * sums[1][:, None])
    return outer, curved, *inner


@njit(cache=True, nogil=True, error_model="numpy")
def _linear(gradients, products, orders, batch_size, outer, curved, inner_mu, inner_nu, values, inner):
    m, d = outer.shape
    batch_gradient, batch_product = np.empty(d), np.empty(d)
    for p in range(orders.shape[0]):
        values[p], inner[:, p] = 0.0, 0.0
        for k in range(m):
            batch_gradient[:], batch_product[:] = 0.0, 0.0
            for i in range(k * batch_size, (k + 1) * batch_size):
                r = orders[p, i]
                for j in range(d):
                    batch_gradient[j] += gradients[r, j]
                    batch_product[j] += products[r, j]
            for j in range(d):
                values[p, j] += outer[k, j] * batch_gradient[j] + curved[k, j] * batch_product[j]
                inner[0, p, j] += inner_mu[k, j] * batch_gradient[j]
                inner[1, p, j] += inner_nu[k, j] * batch_gradient[j]
