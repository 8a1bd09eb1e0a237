r"""Sums over time of products of averaging weights, which hold all that E[Corr_t] needs to know of the averages.

Batches p and q carry noise of covariance v c_pq, with c_pp = 1, c_pq = -1/(m - 1) inside one epoch (drawn
without replacement, the noise of an epoch sums to zero) and c_pq = 0 across epochs (reshuffled
independently). Corr_t to second order in the noise is a sum of (products of weights, contracted with c) times
(moments of the samples). The first factor is computed here, in O(t log t) operations, for any number of epochs.

Where an epoch drops the samples that do not fill a batch, the noise of its batches no longer sums to zero. Any
two samples drawn without replacement have covariance -Sigma/(N - 1), so have two disjoint batches of any size,
and over v = (N/b - 1)/(N - 1) that is the `batch_correlation` c_pq = -b/(N - b): -1/(m - 1) if N = m b.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adam_minibatch_noise.expansion.averaging import Weights, decayed_sums, powers_sum
from adam_minibatch_noise.theory import Array

Correlation = float | Array | None
"""Of two batches of an epoch; None: that of an epoch which uses every sample."""


@dataclass(frozen=True)
class WeightSums:
    """Weight sums of K averages at step t; a, b, c run over the averages, sums over l over the steps before t.

    w^a_k are the weights at step t, w^a_{l,k} those at step l, W^a_l = sum_{k<=l} w^a_k. The noiseless averages are the
    same at all steps where every weight sequence sums to one: then a sum over l is one number, n_kinds = 1. Otherwise
    each step is a kind of its own, n_kinds = t, and the summand of every l stands by itself.

    Attributes
    ----------
    mass : (K, n_kinds) ndarray
        Sum of the weights at the steps of each kind.
    last_mass : (K,) ndarray
        At step t.
    lag : (K, n_kinds) ndarray
        sum_l W^a_l; sum_k w^a_k (t - k) in all.
    product : (K, K) ndarray
        sum_{p,q} w^a_p c_pq w^b_q.
    lag_noise : (K, K, n_kinds) ndarray
        [a, b] sum_l sum_{k<=l} w^a_k (c w^b)_k.
    inner_product : (K, K, K, n_kinds) ndarray
        [a, b, c] sum_l W^a_l sum_{p,q} w^b_{l,p} c_pq w^c_{l,q}.
    inner_noise : (K, K, n_kinds) ndarray
        [a, b] sum_l sum_{k<=l} w^a_k sum_p w^b_{l,p} c_pk.
    inner_outer : (K, K, K, n_kinds) ndarray
        [a, b, c] sum_l W^a_l sum_p w^b_{l,p} (c w^c)_p.
    """

    mass: Array
    last_mass: Array
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
    weights: Sequence[Weights], n_batches: int, t: int, correlation: float | None = None
) -> WeightSums:
    """Compute the weight sums at step `t`.

    Parameters
    ----------
    weights : sequence of Weights
        Of the K averages, each of one decay.
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
    last = [w.at(t) for w in weights]
    noise = [apply_covariance(w, n_batches, correlation) for w in last]  # (c w^b)_p
    cumulative = [np.cumsum(w)[:-1] for w in last]  # W^a_l
    total = _summing(weights)
    unit = all(w.unit_mass for w in weights)
    steps = np.arange(1.0 if unit else float(t))
    return WeightSums(
        np.array([w.mass(steps) for w in weights]),
        np.array([w.mass(np.array([float(t)]))[0] for w in weights]),
        *main_sums(weights, n_batches, t, correlation),
        inner_noise=np.array(
            [[total(_against(x, w, n_batches, correlation)) for x in weights] for w in last]
        ),
        inner_outer=np.array(
            [[[total(c * x.average(y)[:-1]) for y in noise] for x in weights] for c in cumulative]
        ),
    )


def main_sums(
    weights: Sequence[Weights], n_batches: int, t: int, correlation: ArrayLike | None = None
) -> tuple[Array, Array, Array, Array]:
    """Compute `lag`, `product`, `lag_noise` and `inner_product` of `WeightSums`, all that FB, C1 and C2 need.

    Parameters
    ----------
    weights : sequence of Weights
        With arrays of decays the sums have their axes before the last.
    n_batches, t : int
        As in `weight_sums`.
    correlation : array_like, optional
        As in `weight_sums`; its axes, if any, come before those of the decays, except in `lag`, where there are none.

    Returns
    -------
    lag, product, lag_noise, inner_product : ndarray
    """
    shared: Correlation = None
    if correlation is not None:
        shared = np.asarray(correlation, np.float64)
        shared = shared.reshape(shared.shape + (1,) * max(w.decay.ndim for w in weights))
    total, averages = _summing(weights), range(len(weights))
    last = np.broadcast_arrays(*(w.at(t) for w in weights))
    lags = np.arange(t, 0.0, -1.0)
    noise = [apply_covariance(w, n_batches, shared) for w in last]
    cumulative = [np.cumsum(w, axis=-1)[..., :-1] for w in last]
    factors = [_factors(w, n_batches, t) for w in weights]
    products = {
        (b, c): _products(weights[b], weights[c], factors[b], factors[c], n_batches, shared)
        for b in averages
        for c in range(b + 1)
    }
    shape = np.broadcast_shapes(*(p.shape for p in products.values()))
    products |= {(c, b): p for (b, c), p in products.items()}
    products = {key: np.broadcast_to(p, shape) for key, p in products.items()}

    def lagged(w: Array, y: Array) -> Array:
        values = w[..., :-1] * y[..., :-1]
        if all(x.unit_mass for x in weights):
            values = np.einsum("...k,k->...", values, lags)[..., None]
        else:
            values = np.cumsum(values, axis=-1)
        return values

    return (
        np.array([total(c) for c in cumulative]),
        np.array([[products[b, c][..., -1] for c in averages] for b in averages]),
        np.array([[lagged(w, y) for y in noise] for w in last]),
        np.array(
            [[[total(w * products[b, c][..., :-1]) for c in averages] for b in averages] for w in cumulative]
        ),
    )


def _summing(weights: Sequence[Weights]) -> Callable[[Array], Array]:
    """Return what sums over the steps, where they are of one kind, and leaves each by itself otherwise."""
    if all(w.unit_mass for w in weights):
        return lambda values: np.sum(values, axis=-1, keepdims=True)
    return lambda values: values


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


class _Factors(NamedTuple):
    """Factors of `Weights` after every step l = 0..t, and the weight of the epoch of step l so far, (..., t + 1)."""

    past: Array
    current: Array
    here: Array


def _factors(w: Weights, n_batches: int, t: int) -> _Factors:
    steps, in_epoch = np.arange(t + 1.0), np.arange(min(n_batches, t + 1.0))
    past, current = w.past(np.maximum(steps, 1)), w.current(steps)
    return _Factors(
        past, current, past * powers_sum(w.decay, in_epoch)[..., np.arange(t + 1) % n_batches] + current
    )


def _products(
    x: Weights, y: Weights, of_x: _Factors, of_y: _Factors, n_batches: int, correlation: Correlation
) -> Array:
    """Return sum_{p,q} x_{l,p} c_pq y_{l,q} for l = 0..t, (..., t + 1); geometric series, in closed form."""
    own, shared = _pattern(n_batches, correlation)
    epoch, here = np.divmod(
        np.arange(of_x.past.shape[-1]), n_batches
    )  # whole epochs before; steps of this one
    epochs, in_epoch = np.arange(epoch[-1] + 1.0), np.arange(here.max() + 1.0)
    decay, share = x.decay * y.decay, (1 - x.decay) + x.decay * (1 - y.decay)  # 1 - decay has all its digits
    with np.errstate(divide="ignore"):
        log = np.log1p(x.decay - 1) + np.log1p(y.decay - 1)
    # the powers of all steps before l: of this epoch, and of those before it, which are older by `here`
    faded = (decay**in_epoch)[..., here]
    before = faded * powers_sum(decay, n_batches * epochs, log, share)[..., epoch]
    each = powers_sum(decay, in_epoch, log, share)[..., here] + before
    pasts = of_x.past * of_y.past
    same_batch = pasts * each + of_x.current * of_y.current
    # all past epochs, at the end of the last of them: X_e Y_e is the same for each but for its age
    whole = powers_sum(x.decay, np.array([n_batches])) * powers_sum(y.decay, np.array([n_batches]))
    by_epoch = whole * powers_sum(decay**n_batches, epochs, n_batches * log, -np.expm1(n_batches * log))
    same_epoch = pasts * by_epoch[..., epoch] * faded + of_x.here * of_y.here
    products: Array = own * same_batch + shared * same_epoch
    return products


def _against(x: Weights, values: Array, n_batches: int, correlation: float | None) -> Array:
    """Return sum_{p<=l, k<=l} x_{l,p} c_pk values_k for l = 0..t-1, (t,), from values at steps 0..t."""
    own, shared = _pattern(n_batches, correlation)
    values, decay = values[:-1], float(x.decay[0])
    steps = np.arange(float(len(values)))
    epochs, here = np.arange(len(values)) // n_batches, steps % n_batches
    by_epoch = np.bincount(epochs, weights=values)
    in_epoch = (
        np.cumsum(values) - np.concatenate(([0.0], np.cumsum(by_epoch)))[epochs]
    )  # so far in this epoch
    whole = powers_sum(x.decay, np.array([n_batches]))  # of an epoch when it ends
    before = np.concatenate(([0.0], decayed_sums(decay**n_batches, whole * by_epoch)))[epochs]
    past = x.past(np.maximum(steps, 1))
    same_epoch = (
        past * decay**here * before + (past * powers_sum(x.decay, here) + x.current(steps)) * in_epoch
    )
    against: Array = own * x.average(values) + shared * same_epoch
    return against


def limit_weight_sums(weights: Sequence[Weights]) -> WeightSums:
    """Compute the same sums for an infinite past and independent batches (c_pq = 1 only where p = q).

    With ages s = t - k and the limits of the factors, w^a_s = p_a beta_a^(s-1) for s >= 1 and n_a for s = 0, every sum
    is a geometric series.

    Parameters
    ----------
    weights : sequence of Weights
        Arrays of decays give sums with their axes before the last.
    """
    endless = np.array([np.inf])
    with np.errstate(invalid="ignore"):
        p = np.array(np.broadcast_arrays(*(w.past(endless) for w in weights)))
    n = np.array(np.broadcast_arrays(*(w.current(endless) + np.zeros_like(w.decay) for w in weights)))
    beta = np.array(np.broadcast_arrays(*(w.decay for w in weights)))
    share = 1 - beta
    both = share[:, None] + beta[:, None] * share  # 1 - beta_a beta_b
    product = n[:, None] * n + p[:, None] * p / both
    lag = p / share**2
    seen = n[:, None] + p[:, None] * beta / both  # [b, c] sum_s w^b_s beta_c^s
    mass = n + p / share
    return WeightSums(
        mass=mass,
        last_mass=mass[..., 0],
        lag=lag,
        product=product[..., 0],
        lag_noise=p[:, None] * p / both**2,
        inner_product=lag[:, None, None] * product,
        inner_noise=(p / share)[:, None] * seen.swapaxes(0, 1),
        inner_outer=(p / share)[:, None, None] * (p / both)[:, None] * seen,
    )
