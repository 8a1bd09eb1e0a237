r"""Sums over time of products of averaging weights, which hold all that E[Corr_t] needs to know of the betas.

Batches p and q carry noise of covariance v c_pq, with c_pp = 1, c_pq = -1/(m - 1) inside one epoch (drawn
without replacement, the noise of an epoch sums to zero) and c_pq = 0 across epochs (reshuffled
independently). Corr_t to second order in the noise is a sum of (products of weights, contracted with c) times
(moments of the samples). The first factor is computed here, in O(t) operations, for any number of epochs.
"""

from dataclasses import dataclass

import numpy as np

from sim.theory import Array, ema_weights

FIRST, SECOND = 0, 1
"""Index of the weights mu (first moment, beta1) and nu (second moment, beta2)."""


@dataclass(frozen=True)
class TimeSums:
    """Weight sums at step t; w, x, y run over (`FIRST`, `SECOND`), every weight with its bias correction.

    w_k are the weights at step t, x^l_p those at step l < t, S^l = sum_{k,k'} x^l_k c_kk' y^l_k'.

    Attributes
    ----------
    lag : (2,) ndarray
        sum_k w_k (t - k).
    product : (2,) ndarray
        sum_{k,k'} w_k c_kk' nu_k' at step t.
    lag_noise : (2, 2) ndarray
        [w, y] sum_k w_k (t - k) (c y)_k.
    inner_product : (2, 2) ndarray
        [w, x] sum_k w_k sum_{l=k}^{t-1} sum_{p,q} x^l_p c_pq nu^l_q.
    inner_noise : (2, 2) ndarray
        [w, x] sum_k w_k sum_{l=k}^{t-1} sum_p x^l_p c_pk.
    inner_outer : (2, 2, 2) ndarray
        [w, x, y] sum_k w_k sum_{l=k}^{t-1} sum_p x^l_p (c y)_p.
    """

    lag: Array
    product: Array
    lag_noise: Array
    inner_product: Array
    inner_noise: Array
    inner_outer: Array


def time_sums(betas: tuple[float, float], n_batches: int, t: int) -> TimeSums:
    """Compute the weight sums of Adam at step `t`.

    Parameters
    ----------
    betas : (float, float)
        beta1 and beta2, in [0, 1).
    n_batches : int
        Batches an epoch, m >= 1. With m = 1 there is no noise and every sum with c is 0.
    t : int
        Step, >= 0; the epoch of step p is p // n_batches.

    Returns
    -------
    TimeSums
    """
    weights = [ema_weights(beta, t) for beta in betas]
    lags = np.arange(t, -1.0, -1.0)
    noise = [apply_covariance(w, n_batches) for w in weights]  # (c y)_p at step t
    cumulative = [np.cumsum(w)[:-1] for w in weights]  # sum_{k<=l} w_k for l < t
    products = [ema_products(betas[x], betas[SECOND], n_batches, t) for x in (FIRST, SECOND)]
    return TimeSums(
        lag=np.array([w @ lags for w in weights]),
        product=np.array([p[-1] for p in products]),
        lag_noise=np.array([[(w * lags) @ y for y in noise] for w in weights]),
        inner_product=np.array([[c @ p[:-1] for p in products] for c in cumulative]),
        inner_noise=np.array([[ema_against(beta, w, n_batches).sum() for beta in betas] for w in weights]),
        inner_outer=np.array(
            [[[c @ ema(beta, y)[:-1] for y in noise] for beta in betas] for c in cumulative]
        ),
    )


def apply_covariance(values: Array, n_batches: int) -> Array:
    """Return sum_q c_pq values_q for every p, the covariance pattern of batches without replacement.

    Parameters
    ----------
    values : (n_steps,) ndarray
    n_batches : int
        Batches an epoch.

    Returns
    -------
    (n_steps,) ndarray
    """
    if n_batches == 1:
        return np.zeros_like(values)
    epochs = np.arange(len(values)) // n_batches
    total = np.bincount(epochs, weights=values)[epochs]
    return (n_batches * values - total) / (n_batches - 1)


def ema(beta: float, values: Array) -> Array:
    """Return the bias-corrected moving average of `values` after every step, (n_steps,)."""
    averages, running = np.empty_like(values), 0.0
    for step, value in enumerate(values.tolist()):
        running = beta * running + (1 - beta) * value
        averages[step] = running
    return averages / (1 - beta ** np.arange(1.0, len(values) + 1))


def ema_products(beta_x: float, beta_y: float, n_batches: int, t: int) -> Array:
    """Return sum_{p,q} x^l_p c_pq y^l_q for l = 0..t, (t + 1,)."""
    if n_batches == 1:
        return np.zeros(t + 1)
    own = same_epoch = x = y = 0.0  # sum_p x_p y_p; sum over past epochs of X_e Y_e; X_e, Y_e of this epoch
    values = np.empty(t + 1)
    for step in range(t + 1):
        if step % n_batches == 0:
            same_epoch, x, y = same_epoch + x * y, 0.0, 0.0
        own = beta_x * beta_y * own + (1 - beta_x) * (1 - beta_y)
        same_epoch *= beta_x * beta_y
        x, y = beta_x * x + 1 - beta_x, beta_y * y + 1 - beta_y
        values[step] = n_batches * own - (same_epoch + x * y)
    powers = np.arange(1.0, t + 2)
    return values / ((n_batches - 1) * (1 - beta_x**powers) * (1 - beta_y**powers))


def ema_against(beta: float, weights: Array, n_batches: int) -> Array:
    """Return sum_{p<=l, k<=l} x^l_p c_pk w_k for l = 0..t-1, (t,), with `weights` those of step t."""
    t = len(weights) - 1
    if n_batches == 1:
        return np.zeros(t)
    own = same_epoch = x = w = 0.0
    values = np.empty(t)
    for step, weight in enumerate(weights[:-1].tolist()):
        if step % n_batches == 0:
            same_epoch, x, w = same_epoch + x * w, 0.0, 0.0
        own = beta * own + (1 - beta) * weight
        same_epoch *= beta
        x, w = beta * x + 1 - beta, w + weight
        values[step] = n_batches * own - (same_epoch + x * w)
    return values / ((n_batches - 1) * (1 - beta ** np.arange(1.0, t + 1)))


def limit_time_sums(betas: tuple[float, float], tolerance: float = 1e-17) -> TimeSums:
    """Compute the same sums for an infinite past and independent batches (c_pq = 1 only where p = q).

    The sums over lags a = 0, 1, 2, ... of the definitions of C1..C5, added up until a term is below
    `tolerance`: a route to the limit that uses no closed form.

    Parameters
    ----------
    betas : (float, float)
        beta1 and beta2, in [0, 1).
    tolerance : float
        Largest weight left out.

    Returns
    -------
    TimeSums
    """
    slowest = max(betas)
    n_lags = 2 if slowest == 0 else int(np.log(tolerance) / np.log(slowest)) + 2
    age = np.arange(float(n_lags))
    weights = [(1 - beta) * beta**age for beta in betas]  # w_k by age a = t - k
    product = np.array([w @ weights[SECOND] for w in weights])
    inner = np.array([[_lagged(w, beta, age) for beta in betas] for w in weights])
    outer = [[[_double_lagged(w, beta, y) for y in weights] for beta in betas] for w in weights]
    return TimeSums(
        lag=np.array([w @ age for w in weights]),
        product=product,
        lag_noise=np.array([[(w * age) @ y for y in weights] for w in weights]),
        inner_product=np.array([[(w @ age) * p for p in product] for w in weights]),
        inner_noise=inner,
        inner_outer=np.array(outer),
    )


def _lagged(w: Array, beta: float, age: Array) -> float:
    """Return sum_a w_a sum_{c=1}^a x_{a-c}: batch k of age a seen from step l = t - c has age a - c there."""
    return float(w @ np.concatenate(([0.0], np.cumsum((1 - beta) * beta**age)[:-1])))


def _double_lagged(w: Array, beta: float, y: Array) -> float:
    """Return sum_a w_a sum_{c=1}^a sum_{a'>=c} x_{a'-c} y_{a'}."""
    seen = np.empty_like(y)  # sum_{a'>=c} x_{a'-c} y_{a'}, a backward moving average
    running = 0.0
    for c in range(len(y) - 1, -1, -1):
        running = beta * running + (1 - beta) * y[c]
        seen[c] = running
    return float(w @ np.concatenate(([0.0], np.cumsum(seen[1:]))))
