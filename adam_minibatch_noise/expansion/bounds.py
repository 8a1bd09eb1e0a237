r"""What Proposition 3.3 leaves out: the distance between E[Corr_n] and its prediction, certified.

Three things are left out. Two are computed with their sign, by a route that shares nothing with the closed
forms of C1..C5: the finite epoch (truncated sums, and the correlation -v/(m-1) of different batches) and
eps > 0. Both sit in the second-order expectation of `adam_minibatch_noise.expansion.second_order_terms`, from which
its own limit is subtracted. The third, noise of order three and more, is bounded.

Derivation of the bound. Write d_{k,i} = g_i x_{k,i} and d_{k,ij} = W_ij y_{k,ij}. Corr_{n,j} is a power
series in all x and y. Replace every coefficient by its absolute value and every x, y by t: since the weights mu
and nu sum to 1, each average of x becomes t, and R_i^2 = (g_i^2 + eps)(1 + q_i sum_k nu_k (2x + x^2)), q_i <= 1,
becomes (g_i^2 + eps)(1 - 2t - t^2), so that with s(t) = (1 - 2t - t^2)^(-1/2), f(t) = (1 + t) s(t)

    Corr_j << sum_i |F_i|/R_j (|H_ij| + W_ij t) f(t) ( Lag_mu s(t) + q_j Lag_nu (1 + t)^2 s(t)^3 ),

Lag_w = sum_k w_k (n - k). By Hoelder the expectation of a product of p of the variables is at most the
largest p-th absolute moment of one of them: v3 times the third per-sample moment for p = 3 (exact for one
batch, smaller where the batches differ), M4 = max E x^4 for p = 4, and at most M4 rho^(p-4) beyond, where always
rho >= |x|, |y|. W_ij is chosen so that y obeys the bounds of x. Hence, with A_p the coefficients of a
majorant A,

    | terms of order >= 3 |  <=  A_3 v3 max mean|x_r|^3  +  M4 (A(rho) - A_0 - .. - A_3 rho^3)/rho^4,

which is finite for rho < sqrt(2) - 1: the gradient must dominate the noise of every possible batch. In the mean over
the noise and its mirror image odd orders cancel, the term with v3 drops out, and the rest bounds orders >= 4.

The same holds for other averages whose weights are >= 0 and sum to 1 (RMSprop, NAdam), with several averages of the
gradient in the numerator (AdEMAMix: Lag_mu and F_i become their weighted sums), and with weight decay, which adds
weight_decay |theta_i| to |F_i|. Where squares are averaged over micro-batches (batch-size invariant Adam), x and y are
those of the micro-batches, of which every batch is a mean. SGD with momentum is bilinear: nothing is left out.

A smooth sign F = M/R, R^2 = M^2 + delta, has wider bounds. As R^2 = (M - i sqrt(delta))(M + i sqrt(delta)), and each
factor is (g -+ i sqrt(delta))(1 + e x) with |e| = c = (1 + delta/g^2)^(-1/2), a power R^-p is majorised by that without
noise times (1 - c t)^-p. With dF/dM = delta/R^3

    Corr_j << sum_i |F_i| delta/R_j^3 (|H_ij| + W_ij t) (1 + t) (1 - c t)^-4 Lag,    c the largest of all components,

finite for rho < 1/c. The less smooth the sign, the nearer the radius 1/c comes to 1: the expansion of the sign itself
holds as long as no batch can turn the sign of a component of its gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.registry import ADAM, ADEMAMIX, LINEAR, SIGN
from adam_minibatch_noise.expansion.second_order import second_order_terms
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.expansion.weight_sums import WeightSums, limit_weight_sums, weight_sums
from adam_minibatch_noise.theory import Array, Moments, batch_variance_factor

RADIUS = np.sqrt(2) - 1
"""Radius of convergence of the series in the noise, for Adam and its kin."""


@dataclass(frozen=True)
class LeftOut:
    """E[Corr_n] less Proposition 3.3, component by component.

    Attributes
    ----------
    exact : (n_params,) ndarray
        E[Corr_n] to second order in the noise (`adam_minibatch_noise.expansion.second_order_terms`).
    second_order : (n_params,) ndarray
        Finite epoch, batch correlations and eps: `exact` less its limit; exact, with sign.
    higher_order : (n_params,) ndarray
        Bound on noise of order three and more; inf where the noise is too large for one.
    rho : float
        Largest relative noise a batch can have; the bound is finite below sqrt(2) - 1, with a smooth sign below
        sqrt(1 + delta/g_j^2).
    """

    exact: Array
    second_order: Array
    higher_order: Array
    rho: float


HessianRows = Array | Callable[[int], Array]
"""Hessians of all samples, (n_samples, n_params, n_params), or a function from i to the row i of each."""


def left_out(
    rule: UpdateRule,
    gradients: Array,
    hessian_rows: HessianRows,
    moments: Moments,
    batch_size: int,
    micro_batch_size: int | None = None,
    theta: Array | None = None,
) -> LeftOut:
    """Compute and bound E[Corr_n] less its limit n -> infinity, eps -> 0, at the last step n = m - 1 of one epoch.

    Parameters
    ----------
    rule, gradients, hessian_rows, moments, theta
        As in `higher_order_bound`; a rule of any formula.
    batch_size : int
        Divides the number of samples.
    micro_batch_size : int, optional
        Divides `batch_size`, of a rule that averages over micro-batches.

    Returns
    -------
    LeftOut

    Raises
    ------
    InputError
        If a component of the gradient is 0 and the limit is not finite there.
    """
    n_samples = len(gradients)
    n_batches = n_samples // batch_size
    v, v_micro = (
        float(batch_variance_factor(n_samples, b)) for b in (batch_size, micro_batch_size or batch_size)
    )
    sums = weight_sums(rule.weights, n_batches, n_batches - 1)
    zeroth, terms = second_order_terms(rule, moments, sums, v, v_micro, theta)
    if rule.is_scale_invariant and not moments.gradient.all():
        i = int(np.flatnonzero(moments.gradient == 0)[0])
        raise InputError(f"component {i} of the gradient is 0: Proposition 3.3 divides by it")
    exact = zeroth + sum(terms.values())
    limit_sums = limit_weight_sums(rule.weights)
    limit, more = second_order_terms(rule.without_eps(), moments, limit_sums, v, v_micro, theta)
    smallest = (micro_batch_size or batch_size) if rule.of_micro_batches else batch_size
    higher_order, rho = higher_order_bound(
        rule, gradients, hessian_rows, moments, smallest, sums, theta=theta
    )
    return LeftOut(exact, exact - limit - sum(more.values()), higher_order, rho)


def higher_order_bound(
    rule: UpdateRule,
    gradients: Array,
    hessian_rows: HessianRows,
    moments: Moments,
    batch_size: int,
    sums: WeightSums,
    odd_orders: bool = True,
    theta: Array | None = None,
) -> tuple[Array, float]:
    """Bound the terms of E[Corr_n] of order three and more in the noise, or of four and more (`odd_orders`).

    Derivation: module docstring.

    Parameters
    ----------
    rule : UpdateRule
        A formula for which no bound is known has the bound inf, SGD with momentum 0.
    gradients : (n_samples, n_params) ndarray
        Gradient of every sample's loss at the point; no component of their mean is 0.
    hessian_rows : (n_samples, n_params, n_params) ndarray, or callable
        Hessian of every sample's loss; or a function that returns row i of each, (n_samples, n_params), where all of
        them are too large to be held at once.
    moments : Moments
        Of these gradients and Hessians.
    batch_size : int
        Of a micro-batch, for a rule that averages over these.
    sums : WeightSums
        Of the last step of the epoch.
    odd_orders : bool
        False where they cancel, in the mean over the noise and its mirror image: then order four is the first that
        is bounded.
    theta : (n_params,) ndarray, optional
        The point itself, for a rule with weight decay.

    Returns
    -------
    bound : (n_params,) ndarray
    rho : float
    """
    g, hessian = moments.gradient, moments.hessian
    row_of_each = hessian_rows if callable(hessian_rows) else lambda i: hessian_rows[:, i]
    third, fourth, rho = (values.max() for values in noise_sizes((gradients - g) / np.abs(g), batch_size))
    if rule.formula == LINEAR:
        return np.zeros_like(g), float(rho)
    parts = _majorants(rule, g, sums)
    if rho >= radius_of(rule, g) or not parts:
        return np.full_like(g, np.inf), float(rho)
    scale = np.zeros_like(hessian)  # W
    if rho > 0:
        for i in range(len(g)):
            sizes = noise_sizes(row_of_each(i) - hessian[i], batch_size)
            ratios = zip(sizes, (third, fourth, rho), (1 / 3, 1 / 4, 1), strict=True)
            scale[i] = np.max([_ratio(size, unit) ** power for size, unit, power in ratios], axis=0)
    if not odd_orders:
        third = 0.0
    decay = rule.require_parameters(theta)
    still = rule.update(np.array([psi.value.reshape(g.shape) for psi in rule.functions(g)])).value
    update = np.abs(still) + (0.0 if decay is None else np.abs(decay))
    bound = np.zeros_like(g)
    for size, majorant in parts:
        direct = _tail(majorant, 0, third, fourth, rho) * (np.abs(hessian) @ update)
        through_hessian = _tail(majorant, 1, third, fourth, rho) * (scale @ update)
        bound += size * (direct + through_hessian)
    return bound, float(rho)


def radius_of(rule: UpdateRule, gradient: Array) -> float:
    """Return the relative noise of a batch below which the series in the noise has a bound.

    Parameters
    ----------
    rule : UpdateRule
        With a smooth sign; for all others it is `RADIUS`.
    gradient : (n_params,) ndarray
        Of the full batch.

    Returns
    -------
    float
        sqrt(1 + delta/g_j^2) of the largest component of the gradient, for a smooth sign: > 1.
    """
    if rule.formula != SIGN:
        return float(RADIUS)
    with np.errstate(divide="ignore"):
        return float(np.sqrt(1 + rule.settings["delta"] / np.max(gradient**2)))


def _majorants(rule: UpdateRule, g: Array, sums: WeightSums) -> list[tuple[Array, Callable[[Any], Any]]]:
    """Return what dPhi/dz_a psi_a' sum_k w^a_k (t - k) adds to the bound, each with its majorant; none is known: []."""
    settings, lag = rule.settings, sums.lag[:, 0]
    if not all(weights.unit_mass for weights in rule.weights):
        return []
    if rule.formula == SIGN:  # dPhi/dz = delta/R^3, R^2 = z^2 + delta
        square, c = g**2 + settings["delta"], 1 / radius_of(rule, g)
        return [(settings["delta"] * square**-1.5 * lag[0], lambda t: (1 + t) / (1 - c * t) ** 4)]
    if rule.formula == ADAM and settings["eps"] == 0:
        share = np.array([1.0, 0.0])  # of each average in the numerator
    elif rule.formula == ADEMAMIX:
        share = np.array([1.0, 0.0, settings["alpha"]])
    else:
        return []
    root = np.sqrt(g**2 + settings["eps_root"])
    q = (g / root) ** 2
    return [(share @ lag / root, _first_majorant), (share.sum() * q * lag[1] / root, _second_majorant)]


def noise_sizes(noise: Array, batch_size: int) -> tuple[Array, Array, Array]:
    """Sizes of the mean over a batch drawn without replacement of values that sum to zero.

    Parameters
    ----------
    noise : (n_samples, n) ndarray
        Columns with mean zero.
    batch_size : int
        b <= n_samples.

    Returns
    -------
    third : (n,) ndarray
        v3 times mean |noise|^3; |E of a product of three| is at most the largest of them, by Hoelder, with
        v3 = (N-b)(N-2b)/(b^2 (N-1)(N-2)) and the mixed third moments of one or more batches.
    fourth : (n,) ndarray
        E (batch mean)^4, exact.
    largest : (n,) ndarray
        Largest absolute batch mean.
    """
    n, b = len(noise), batch_size
    if b == n:
        return (np.zeros(noise.shape[1]),) * 3
    v3 = abs((n - b) * (n - 2 * b)) / (b**2 * (n - 1) * max(n - 2, 1))
    drawn = np.cumprod([(b - k) / (n - k) if n > k else 0.0 for k in range(4)])  # P(k samples in the batch)
    s2, s4 = np.sum(noise**2, axis=0), np.sum(noise**4, axis=0)
    # sums over distinct indices, by sum(noise) = 0: i; i,i,i,j; i,i,j,j; i,i,j,k; i,j,k,l
    distinct = (
        drawn[0] * s4
        - 4 * drawn[1] * s4
        + 3 * drawn[1] * (s2**2 - s4)
        + 6 * drawn[2] * (2 * s4 - s2**2)
        + drawn[3] * (3 * s2**2 - 6 * s4)
    )
    ordered = np.sort(noise, axis=0)
    largest = np.maximum(ordered[-b:].mean(axis=0), -ordered[:b].mean(axis=0))
    return v3 * np.mean(np.abs(noise) ** 3, axis=0), distinct / b**4, largest


def _ratio(size: Array, unit: float) -> Array:
    if unit == 0:  # third moments vanish for b = N/2: then they do for all
        return np.zeros_like(size)
    return np.maximum(size, 0) / unit


def _first_majorant(t: Any) -> Any:  # of a number or an array, real or complex
    return (1 + t) / (1 - 2 * t - t**2)  # f s


def _second_majorant(t: Any) -> Any:
    return (1 + t) ** 3 / (1 - 2 * t - t**2) ** 2  # f (1 + t)^2 s^3


def _tail(majorant: Callable[[Any], Any], shift: int, third: float, fourth: float, rho: float) -> float:
    """Bound the terms of order >= 3 of t^shift A(t), >= 4 if `third` is 0 (module docstring); grows with rho."""
    # Taylor coefficients from values on a circle inside the radius of convergence, to machine precision
    radius, n_points = 0.2, 64
    circle = radius * np.exp(2j * np.pi * np.arange(n_points) / n_points)
    coefficients = np.fft.fft(majorant(circle) * circle**shift).real / n_points
    low = coefficients[:4] / radius ** np.arange(4)
    rho = max(rho, 0.02)  # below, the subtraction would lose its digits; larger is still a bound
    tail = (majorant(rho) * rho**shift - low @ rho ** np.arange(4)) / rho**4
    return float(low[3] * third + fourth * tail)
