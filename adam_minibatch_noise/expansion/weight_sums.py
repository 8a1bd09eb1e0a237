r"""Sums over time of products of averaging weights, which hold all that E[Corr_t] needs to know of the betas.

Batches p and q carry noise of covariance v c_pq, with c_pp = 1, c_pq = -1/(m - 1) inside one epoch (drawn
without replacement, the noise of an epoch sums to zero) and c_pq = 0 across epochs (reshuffled
independently). Corr_t to second order in the noise is a sum of (products of weights, contracted with c) times
(moments of the samples). The first factor is computed here, in O(t log t) operations, for any number of epochs.

Where an epoch drops the samples that do not fill a batch, the noise of its batches no longer sums to zero. Any
two samples drawn without replacement have covariance -Sigma/(N - 1), so have two disjoint batches of any size,
and over v = (N/b - 1)/(N - 1) that is the `batch_correlation` c_pq = -b/(N - b): -1/(m - 1) if N = m b.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from adam_minibatch_noise.theory import Array, ema_weights, one_minus_power

FIRST, SECOND = 0, 1
"""Index of the weights mu (first moment, beta1) and nu (second moment, beta2)."""
Correlation = float | Array | None
"""Of two batches of an epoch; None: that of an epoch which uses every sample."""


@dataclass(frozen=True)
class WeightSums:
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


def batch_correlation(n_samples: float, batch_size: float) -> float:
    """Correlation of the noise of two batches of an epoch drawn without replacement, -b/(N - b).

    Parameters
    ----------
    n_samples, batch_size : float
        2 batch_size <= n_samples: an epoch has two batches; it may leave out the samples that fill no third.

    Returns
    -------
    float
        In [-1, 0); -1/(m - 1) where n_samples is m times batch_size.
    """
    return -batch_size / (n_samples - batch_size)


def weight_sums(
    betas: tuple[float, float], n_batches: int, t: int, correlation: float | None = None
) -> WeightSums:
    """Compute the weight sums of Adam at step `t`.

    Parameters
    ----------
    betas : (float, float)
        beta1 and beta2, in [0, 1).
    n_batches : int
        Batches an epoch, m >= 1.
    t : int
        Step, >= 0; the epoch of step p is p // n_batches.
    correlation : float, optional
        c_pq of two batches of an epoch. Default: that of an epoch which uses every sample, -1/(m - 1); with m = 1
        such an epoch has no noise and every sum with c is 0. Otherwise `batch_correlation`; 0 if independent.

    Returns
    -------
    WeightSums
        Linear in `correlation`.
    """
    weights = [ema_weights(beta, t) for beta in betas]
    epoch = (n_batches, correlation)
    noise = [apply_covariance(w, *epoch) for w in weights]  # (c y)_p at step t
    cumulative = [np.cumsum(w)[:-1] for w in weights]  # sum_{k<=l} w_k for l < t
    return WeightSums(
        *main_sums(betas, n_batches, t, correlation),
        inner_noise=np.array([[ema_against(beta, w, *epoch).sum() for beta in betas] for w in weights]),
        inner_outer=np.array(
            [[[c @ ema(beta, y)[:-1] for y in noise] for beta in betas] for c in cumulative]
        ),
    )


def main_sums(
    betas: tuple[ArrayLike, ArrayLike], n_batches: int, t: int, correlation: ArrayLike | None = None
) -> tuple[Array, Array, Array, Array]:
    """Compute `lag`, `product`, `lag_noise` and `inner_product` of `WeightSums`, all that FB, C1 and C2 need.

    Parameters
    ----------
    betas : (array_like, array_like)
        beta1 and beta2, in [0, 1), of one shape; with arrays the sums have the axes of the betas last.
    n_batches, t : int
        As in `weight_sums`.
    correlation : array_like, optional
        As in `weight_sums`; its axes, if any, come before those of the betas, except in `lag`, where there are none.

    Returns
    -------
    lag, product, lag_noise, inner_product : ndarray
    """
    columns = [np.asarray(beta, np.float64)[..., None] for beta in betas]  # last axis: time
    shared: Correlation = None
    if correlation is not None:
        shared = np.asarray(correlation, np.float64)
        shared = shared.reshape(shared.shape + (1,) * columns[FIRST].ndim)
    weights = [ema_weights(beta, t) for beta in columns]
    lags = np.arange(t, -1.0, -1.0)
    noise = [apply_covariance(w, n_batches, shared) for w in weights]
    cumulative = [np.cumsum(w, axis=-1)[..., :-1] for w in weights]
    products = [ema_products(beta, columns[SECOND], n_batches, t, shared) for beta in columns]
    return (
        np.array([w @ lags for w in weights]),
        np.array([p[..., -1] for p in products]),
        np.array([[_dot(w * lags, y) for y in noise] for w in weights]),
        np.array([[_dot(c, p[..., :-1]) for p in products] for c in cumulative]),
    )


def _dot(x: Array, y: Array) -> Array:
    product: Array = np.einsum("...k,...k->...", x, y)
    return product


def _pattern(n_batches: int, correlation: Correlation) -> tuple[float | Array, float | Array]:
    """Return (own, shared) with c_pq = own [p = q] + shared [p, q in one epoch]."""
    if correlation is None:
        return (n_batches / (n_batches - 1), -1 / (n_batches - 1)) if n_batches > 1 else (0.0, 0.0)
    return 1 - correlation, correlation


def apply_covariance(values: Array, n_batches: int, correlation: Correlation = None) -> Array:
    """Return sum_q c_pq values_q for every p, the covariance pattern of batches without replacement.

    Parameters
    ----------
    values : (..., n_steps) ndarray
    n_batches : int
        Batches an epoch.
    correlation : float, optional
        As in `weight_sums`.

    Returns
    -------
    (..., n_steps) ndarray
    """
    own, shared = _pattern(n_batches, correlation)
    n_steps = values.shape[-1]
    totals = np.add.reduceat(values, np.arange(0, n_steps, n_batches), axis=-1)
    return own * values + shared * totals[..., np.arange(n_steps) // n_batches]


def decayed_sums(beta: float, values: Array) -> Array:
    """Return sum_{p<=l} beta^(l-p) values_p for every l, (n_steps,), in log2(n_steps) passes."""
    sums, reach = np.array(values, np.float64), 1  # sums over the last `reach` steps
    while reach < len(sums) and beta > 0:
        sums[reach:] += beta * sums[:-reach]
        beta, reach = beta * beta, 2 * reach
    return sums


def ema(beta: float, values: Array) -> Array:
    """Return the bias-corrected moving average of `values` after every step, (n_steps,)."""
    return (1 - beta) * decayed_sums(beta, values) / one_minus_power(beta, np.arange(1.0, len(values) + 1))


def ema_products(
    beta_x: ArrayLike, beta_y: ArrayLike, n_batches: int, t: int, correlation: Correlation = None
) -> Array:
    """Return sum_{p,q} x^l_p c_pq y^l_q for l = 0..t, (t + 1,); geometric series, in closed form.

    Arrays of betas and correlations, their last axis of length 1, broadcast: (..., t + 1).
    """
    own, shared = _pattern(n_batches, correlation)
    past, here = np.divmod(np.arange(t + 1), n_batches)  # whole epochs before; steps of this one, from 0

    # 1 - beta^(m past), 1 - beta^(here + 1): few different ones; 1 - beta^(l + 1)
    def faded(log_beta: Array) -> tuple[Array, Array, Array]:
        of_past = -np.expm1(n_batches * np.arange(1.0, past[-1] + 1) * log_beta)
        of_past = np.concatenate((np.zeros((*of_past.shape[:-1], 1)), of_past), axis=-1)[..., past]
        of_here = -np.expm1(np.arange(1.0, min(n_batches, t + 1) + 1) * log_beta)[..., here]
        return of_past, of_here, of_past + (1 - of_past) * of_here

    beta_x, beta_y = np.asarray(beta_x, np.float64), np.asarray(beta_y, np.float64)
    with np.errstate(divide="ignore"):  # log 0 = -inf: nothing is left of the past
        logs = [np.atleast_1d(np.log1p(beta - 1)) for beta in (beta_x, beta_y)]
    both = logs[0] + logs[1]
    (_, x_here, x_all), (_, y_here, y_all), (both_past, both_here, both_all) = map(faded, (*logs, both))
    same_batch = (1 - beta_x) * (1 - beta_y) / (1 - beta_x + beta_x * (1 - beta_y)) * both_all
    # X_e Y_e of an epoch when it ends, and of all past epochs at the end of the last of them
    whole = np.prod([np.expm1(n_batches * log) for log in logs], axis=0) / -np.expm1(n_batches * both)
    same_epoch = whole * (1 - both_here) * both_past + x_here * y_here
    products: Array = (own * same_batch + shared * same_epoch) / (x_all * y_all)
    return products


def ema_against(beta: float, weights: Array, n_batches: int, correlation: float | None = None) -> Array:
    """Return sum_{p<=l, k<=l} x^l_p c_pk w_k for l = 0..t-1, (t,), with `weights` those of step t."""
    own, shared = _pattern(n_batches, correlation)
    weights = weights[:-1]
    steps = np.arange(1.0, len(weights) + 1)
    here = (steps - 1) % n_batches + 1
    epochs = np.arange(len(weights)) // n_batches
    by_epoch = np.bincount(epochs, weights=weights)  # W_e
    total = np.cumsum(weights)
    in_epoch = total - np.concatenate(([0.0], np.cumsum(by_epoch)))[epochs]  # sum of w_k so far in this epoch
    # X_e W_e with X_e = 1 - beta^m when the epoch ends, added up over past epochs
    whole = one_minus_power(beta, n_batches)
    before = np.concatenate(([0.0], decayed_sums(beta**n_batches, whole * by_epoch)))[epochs]
    same_epoch = beta**here * before + one_minus_power(beta, here) * in_epoch
    same_batch = (1 - beta) * decayed_sums(beta, weights)
    return (own * same_batch + shared * same_epoch) / one_minus_power(beta, steps)


def limit_weight_sums(betas: tuple[float, float], tolerance: float = 1e-17) -> WeightSums:
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
    WeightSums
    """
    slowest = max(betas)
    n_lags = 2 if slowest == 0 else int(np.log(tolerance) / np.log(slowest)) + 2
    age = np.arange(float(n_lags))
    weights = [(1 - beta) * beta**age for beta in betas]  # w_k by age a = t - k
    product = np.array([w @ weights[SECOND] for w in weights])
    inner = np.array([[_lagged(w, beta, age) for beta in betas] for w in weights])
    outer = [[[_double_lagged(w, beta, y) for y in weights] for beta in betas] for w in weights]
    return WeightSums(
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
