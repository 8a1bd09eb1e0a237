r"""The expectation of Corr_t over batch orders, exact to second order in the noise; nothing is sampled.

Goes beyond Proposition 3.3 of Cattaneo and Shigida (2026): finite t, finite number of batches an epoch,
several epochs, any `eps_root`. Corr_t is a smooth function of the stacked noise D of all batches;

    E[Corr_t] = Corr_t at D = 0  +  1/2 sum_{p,q} Cov_pq K_pq  +  O(E d^3),

where K_pq, the second derivative in the noise of batches p and q, is a product of a few weight sequences, so
that the sums over p and q are those of `expansion.weight_sums`.
"""

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.weight_sums import FIRST, SECOND, WeightSums, ema_against, main_sums
from adam_minibatch_noise.theory import Array, Constants, Moments, one_minus_power


def adam_expectation(
    moments: Moments, sums: WeightSums, variance_factor: float, eps_root: float = 0.0
) -> tuple[Array, dict[str, Array]]:
    """E[Corr_t] of Adam to second order in the noise, term by term.

    Parameters
    ----------
    moments : Moments
        At the fixed point.
    sums : WeightSums
        `expansion.weight_sums.weight_sums` at step t.
    variance_factor : float
        v of `theory.batch_variance_factor`.
    eps_root : float
        >= 0, inside the root.

    Returns
    -------
    zeroth : (n_params,) ndarray
        Corr_t without noise.
    second_order : dict of str to (n_params,) ndarray
        Keys MBN1 .. MBN5, the five pairs of places where two noises meet, as in Proposition 3.3.

    Raises
    ------
    InputError
        If a component of the gradient is 0 and `eps_root` is 0.
    """
    g, hessian, v = moments.gradient, moments.hessian, variance_factor
    root = np.sqrt(g**2 + eps_root)  # R at D = 0
    if not root.all():
        i = int(np.flatnonzero(root == 0)[0])
        raise InputError(f"component {i} of the gradient is 0, allowed with --eps-root > 0 only")
    q, update = (g / root) ** 2, g / root
    slope = update @ hessian
    variance = np.diag(moments.covariance)
    (lag_mu, lag_nu), (mn, nn) = sums.lag, sums.product
    lag_noise, inner = sums.lag_noise, sums.inner_noise

    zeroth = slope / root * (lag_mu - q * lag_nu)
    both_outer = (
        (-0.5 + 1.5 * q * nn) * lag_mu
        - lag_noise[SECOND, FIRST]
        + 3 * q * (mn * lag_nu + lag_noise[SECOND, SECOND] + 0.5 * lag_nu)
        - 7.5 * q**2 * nn * lag_nu
    )
    by_weight = [
        -0.5 * sums.lag[w] - sums.inner_product[w, FIRST] + 1.5 * q * sums.inner_product[w, SECOND]
        for w in (FIRST, SECOND)
    ]
    both_inner = [(variance * update / root**2 * factor) @ hessian for factor in by_weight]
    hessian_outer = (
        -lag_noise[FIRST, SECOND] - lag_noise[SECOND, FIRST] - lag_nu + 3 * q * lag_noise[SECOND, SECOND]
    )
    # rows j, columns i: noise of the updates is (mu - q_i nu)/R_i
    hessian_inner = (inner[FIRST, FIRST] - q * inner[FIRST, SECOND]) - q[:, None] * (
        inner[SECOND, FIRST] - q * inner[SECOND, SECOND]
    )
    outer = sums.inner_outer[:, FIRST] - q[:, None, None] * sums.inner_outer[:, SECOND]  # (i, w, y)
    noisy_batch = inner[SECOND, FIRST] - q * inner[SECOND, SECOND]
    inner_outer = (outer[:, FIRST, SECOND] + outer[:, SECOND, FIRST] + noisy_batch) - 3 * q[:, None] * outer[
        :, SECOND, SECOND
    ]
    return zeroth, {
        "MBN1": v * slope * variance / root**3 * both_outer,
        "MBN2": v / root * (both_inner[FIRST] - q * both_inner[SECOND]),
        "MBN3": v * g / root**3 * (update @ moments.cross) * hessian_outer,
        "MBN4": v / root * ((moments.cross * hessian_inner) @ (1 / root)),
        "MBN5": -v * g / root**3 * ((hessian * moments.covariance * inner_outer) @ (1 / root)),
    }


def adam_constants(sums: WeightSums) -> Constants:
    """Coefficients of the six terms of Proposition 3.3 for given weight sums, eps -> 0.

    Parameters
    ----------
    sums : WeightSums
        Of a finite epoch (`weight_sums`), or of the limit (`limit_weight_sums`), where they equal the closed
        forms of `theory`.

    Returns
    -------
    Constants
    """
    lag_noise, inner, outer = sums.lag_noise, sums.inner_noise, sums.inner_outer
    updates = outer[:, FIRST] - outer[:, SECOND]  # (w, y)
    forward, first, second = main_constants(sums.lag, sums.product, lag_noise, sums.inner_product)
    return Constants(
        FB=float(forward),
        C1=float(first),
        C2=float(second),
        C3=-lag_noise[FIRST, SECOND]
        - lag_noise[SECOND, FIRST]
        - sums.lag[SECOND]
        + 3 * lag_noise[SECOND, SECOND],
        C4=inner[FIRST, FIRST] - inner[FIRST, SECOND] - inner[SECOND, FIRST] + inner[SECOND, SECOND],
        C5=3 * updates[SECOND, SECOND]
        - updates[FIRST, SECOND]
        - updates[SECOND, FIRST]
        - (inner[SECOND, FIRST] - inner[SECOND, SECOND]),
    )


def main_constants(
    lag: Array, product: Array, lag_noise: Array, inner_product: Array
) -> tuple[Array, Array, Array]:
    """FB, C1 and C2, from what `expansion.weight_sums.main_sums` returns; broadcasts over its last axes.

    Parameters
    ----------
    lag, product : (2, ...) ndarray
    lag_noise, inner_product : (2, 2, ...) ndarray

    Returns
    -------
    FB, C1, C2 : ndarray
    """
    (lag_mu, lag_nu), (mn, nn) = lag, product
    products = inner_product[FIRST] - inner_product[SECOND]
    c1 = (
        (-0.5 + 1.5 * nn) * lag_mu
        - lag_noise[SECOND, FIRST]
        + 3 * (mn * lag_nu + lag_noise[SECOND, SECOND] + 0.5 * lag_nu)
        - 7.5 * nn * lag_nu
    )
    return lag_mu - lag_nu, c1, -0.5 * (lag_mu - lag_nu) - products[FIRST] + 1.5 * products[SECOND]


def exact_c_total(
    beta1: float,
    beta2: float,
    lam: float,
    n_batches: int,
    n_epochs: int = 1,
    correlation: float | None = None,
) -> float:
    """C_total at the last step of a finite number of finite epochs; `theory.c_total` is its limit.

    Parameters
    ----------
    beta1, beta2 : float
        In [0, 1).
    lam : float
        Noise-to-signal ratio of a batch gradient (`theory.noise_to_signal`), >= 0.
    n_batches, n_epochs : int
        Batches an epoch and epochs, >= 1.
    correlation : float, optional
        Of two batches of an epoch, see `expansion.weight_sums.weight_sums`; needed where an epoch leaves samples out.

    Returns
    -------
    float
        FB + (C1 + C2) lam with the constants of `adam_constants`.
    """
    sums = main_sums((beta1, beta2), n_batches, n_batches * n_epochs - 1, correlation)
    forward, c1, c2 = main_constants(*sums)
    return float(forward + (c1 + c2) * lam)


def sgd_momentum_expectation(
    moments: Moments, beta: float, n_batches: int, t: int, variance_factor: float
) -> tuple[Array, Array]:
    """E[Corr_t] of SGD with momentum, F_t = sum_k beta^(t-k) grad L_k; exact to all orders for quadratics.

    Corr_t is bilinear in Hessians and gradients, so two noises meet in one place only. The limit t, m -> infinity
    is the gradient of the terms of order lr of `theory.sgd_momentum_modified_loss`, over (1 - beta) lr.

    Parameters
    ----------
    moments : Moments
        At the fixed point.
    beta : float
        In [0, 1).
    n_batches : int
        Batches an epoch.
    t : int
        Step, >= 0.
    variance_factor : float
        v of `theory.batch_variance_factor`.

    Returns
    -------
    zeroth, second_order : (n_params,) ndarray
        Without noise, and what the noise adds.
    """
    weights = beta ** np.arange(t, -1.0, -1.0)
    mass = one_minus_power(beta, np.arange(1.0, t + 1)) / (1 - beta)  # sum_p beta^(l-p), l < t
    noiseless = np.cumsum(weights)[:-1] @ mass
    noisy = ema_against(beta, weights, n_batches) @ mass
    zeroth = noiseless * (moments.hessian @ moments.gradient)
    return zeroth, variance_factor * noisy * moments.cross.sum(axis=1)
