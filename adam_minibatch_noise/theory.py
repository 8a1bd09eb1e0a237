r"""The formulas of the paper, one function a numbered equation; NumPy only.

Longer than the other modules because it is the formula sheet: whoever looks for an equation looks here.
Every function broadcasts over arrays unless its docstring says otherwise, and raises InputError for an argument
outside its range. Notation of [1]_: decay rates
`beta1`, `beta2`; an epoch of m batches of `batch_size` samples (b) drawn without replacement
from `n_samples` (N = m b); full-batch gradient g and Hessian H; per-sample gradient covariance Sigma.

References
----------
.. [1] Cattaneo and Shigida, "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv:2602.01642, 2026.
.. [2] McCandlish, Kaplan and Amodei, "An Empirical Model of Large-Batch Training", arXiv:1812.06162, 2018.
.. [3] Wang and Aitchison, "Batch size invariant Adam", arXiv:2402.18824, 2024.
.. [4] Malladi, Lyu, Panigrahi and Arora, "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms",
   NeurIPS 2022, arXiv:2205.10287.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.ranges import (
    AT_LEAST_ONE,
    AT_LEAST_ONE_OR_INFINITE,
    BETA,
    FINITE,
    NONNEGATIVE,
    POSITIVE,
    POSITIVE_OR_INFINITE,
    SHARE,
    within,
)
from adam_minibatch_noise.ranges import Array as Array


# ---------------------------------------------------------------------------------------------- batch noise
def batch_variance_factor(n_samples: ArrayLike, batch_size: ArrayLike) -> Array:
    """Variance of a batch mean per unit of per-sample variance, v = (N/b - 1)/(N - 1).

    Implements Lemma A.7 of [1]_: E d_{k,i} d_{k,j} = v Sigma_ij, exact for batches drawn without
    replacement. Two different batches of one epoch have covariance -v/(m - 1) times Sigma.

    Parameters
    ----------
    n_samples, batch_size : array_like
        1 <= batch_size <= n_samples, `batch_size` finite; infinite `n_samples`: with replacement, v = 1/b.

    Returns
    -------
    ndarray
        In [0, 1]; 0 for the full batch, and for a single sample.
    """
    n_samples = within("n_samples", n_samples, AT_LEAST_ONE_OR_INFINITE)
    batch_size = within("batch_size", batch_size, AT_LEAST_ONE)
    if (batch_size > n_samples).any():
        size, most = (x[batch_size > n_samples][0] for x in np.broadcast_arrays(batch_size, n_samples))
        raise InputError(f"batch_size is {size:g}, allowed: at most n_samples = {most:g}")
    if not np.isinf(n_samples).any():
        return (n_samples / batch_size - 1) / np.maximum(n_samples - 1, 1)
    infinite, finite = np.isinf(n_samples), np.where(np.isinf(n_samples), 1.0, n_samples)
    return np.where(infinite, 1 / batch_size, (finite / batch_size - 1) / np.maximum(finite - 1, 1))


def noise_to_signal(n_samples: ArrayLike, batch_size: ArrayLike, noise_scale: ArrayLike) -> Array:
    """Noise-to-signal ratio of a batch gradient, lam = v * B_simple.

    Implements the definition of lambda before Lemma 3.4 of [1]_.

    Parameters
    ----------
    n_samples, batch_size : array_like
        As in `batch_variance_factor`.
    noise_scale : array_like
        B_simple = tr(Sigma)/|g|^2, in samples; finite, >= 0.

    Returns
    -------
    ndarray
        lam >= 0, without unit.
    """
    noise_scale = within("noise_scale", noise_scale, NONNEGATIVE)
    return batch_variance_factor(n_samples, batch_size) * noise_scale


def critical_batch_size(n_samples: ArrayLike, noise_scale: ArrayLike, lam: ArrayLike) -> Array:
    """Batch size at which `noise_to_signal` equals `lam`: b = N / (1 + lam (N - 1)/B_simple).

    At `lam` = 1 and 1/2 the two turning points of the rule of thumb (see `adam_minibatch_noise.advice.rule_of_thumb`).

    Parameters
    ----------
    n_samples : array_like
        Finite, >= 1.
    noise_scale : array_like
        > 0, in samples; may be infinite, for a gradient of zero.
    lam : array_like
        Finite, >= 0.

    Returns
    -------
    ndarray
        A real number of samples in (0, N]; not rounded. Below 1 where even single samples are too quiet.
    """
    n_samples = within("n_samples", n_samples, AT_LEAST_ONE)
    noise_scale = within("noise_scale", noise_scale, POSITIVE_OR_INFINITE)
    lam = within("lam", lam, NONNEGATIVE)
    with np.errstate(invalid="ignore"):  # infinity / infinity, of an infinite noise scale
        share = noise_scale / (noise_scale + lam * (n_samples - 1))
    return n_samples * np.where(np.isinf(noise_scale), 1.0, share)


# ------------------------------------------------------------------------------------ SGD with momentum
def sgd_momentum_modified_loss(
    loss: ArrayLike,
    gradient_square: ArrayLike,
    covariance_trace: ArrayLike,
    lr: ArrayLike,
    beta: ArrayLike,
    batch_size: ArrayLike,
) -> Array:
    r"""Loss that SGD with momentum follows on average, to order lr, as n -> infinity.

    Implements the warm-up of Section 3 of [1]_: with F_t = sum_k beta^{t-k} grad L_k,
    E[Main_n + lr Corr_n] = 1/(1-beta) times the gradient of

        L + lr beta/(2 (1-beta)^2) |g|^2 + lr beta/(2 (1-beta)(1+beta)) tr(Sigma)/b.

    Parameters
    ----------
    loss : array_like
        L at a point, finite.
    gradient_square, covariance_trace : array_like
        |g|^2 and tr(Sigma) there, finite, >= 0.
    lr : array_like
        Finite, > 0.
    beta : array_like
        In [0, 1).
    batch_size : array_like
        b, finite, >= 1.

    Returns
    -------
    ndarray
        The modified loss, in units of `loss`.
    """
    loss, lr, beta = within("loss", loss, FINITE), within("lr", lr, POSITIVE), within("beta", beta, BETA)
    gradient_square = within("gradient_square", gradient_square, NONNEGATIVE)
    covariance_trace = within("covariance_trace", covariance_trace, NONNEGATIVE)
    batch_size = within("batch_size", batch_size, AT_LEAST_ONE)
    by_gradient = beta / (2 * (1 - beta) ** 2) * gradient_square
    by_noise = beta / (2 * (1 - beta) * (1 + beta)) * covariance_trace / batch_size
    return loss + lr * (by_gradient + by_noise)


# -------------------------------------------------------------------------------------------------- Adam
def one_minus_power(beta: ArrayLike, n: ArrayLike) -> Array:
    """Bias correction 1 - beta^n, to a few roundings even where beta^n is close to 1.

    Parameters
    ----------
    beta : array_like
        In [0, 1).
    n : array_like
        Number of steps, >= 1; may be infinite.

    Returns
    -------
    ndarray
        In (0, 1].
    """
    beta, n = within("beta", beta, BETA), within("n", n, AT_LEAST_ONE_OR_INFINITE)
    with np.errstate(divide="ignore"):  # log 0 = -inf is right: 1 - 0^n = 1
        return -np.expm1(n * np.log1p(beta - 1))


# -------------------------------------------------------------------------------------- Proposition 3.3
@dataclass(frozen=True)
class Constants:
    """Coefficients of Proposition 3.3 of [1]_.

    Attributes
    ----------
    FB : float
        Of the noiseless term, beta1/(1-beta1) - beta2/(1-beta2) as n -> infinity.
    C1, C2, C3, C4, C5 : float
        Of the five noise terms MBN1..MBN5.
    """

    FB: float
    C1: float
    C2: float
    C3: float
    C4: float
    C5: float


@dataclass(frozen=True)
class Moments:
    """What Proposition 3.3 needs to know of the samples at one point; all means over the N samples.

    Attributes
    ----------
    gradient : (n_params,) ndarray
        g.
    hessian : (n_params, n_params) ndarray
        H, symmetric.
    covariance : (n_params, n_params) ndarray
        Sigma_ij = mean of d_i d_j, d = grad(l_r - L).
    cross : (n_params, n_params) ndarray
        Entry (i, j): mean of d_ij d_j = 1/2 dSigma_jj/dtheta_i.
    """

    gradient: Array
    hessian: Array
    covariance: Array
    cross: Array


def _betas(beta1: ArrayLike, beta2: ArrayLike, single: bool = False) -> tuple[Array, Array]:
    """Both decay rates as arrays, each in [0, 1)."""
    shape = () if single else None
    return within("beta1", beta1, BETA, shape), within("beta2", beta2, BETA, shape)


def forward_bias(beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """FB = beta1/(1-beta1) - beta2/(1-beta2), Proposition 3.3 of [1]_; both in [0, 1), as in all that follow."""
    b, r = _betas(beta1, beta2)
    return (b - r) / ((1 - b) * (1 - r))


def _one_minus_product(b: Array, r: Array) -> Array:
    """1 - b r without the cancellation where both are close to 1."""
    return (1 - b) + b * (1 - r)


def c1(beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """C1 of Proposition 3.3 of [1]_: the noise in g_j outside the accumulated updates.

    With mu_a = (1-b) b^a, nu_a = (1-r) r^a: b/(1-b) (-1/2 + 3/2 S2) - r/(1-r) (-3/2 + 15/2 S2 - 3 Smn)
    - sum_a a nu_a (mu_a - 3 nu_a), where S2 = sum nu_a^2 and Smn = sum mu_a nu_a.
    """
    b, r = _betas(beta1, beta2)
    s2 = (1 - r) / (1 + r)
    smn = (1 - b) * (1 - r) / _one_minus_product(b, r)
    lag_mn = (1 - b) * (1 - r) * b * r / _one_minus_product(b, r) ** 2  # sum_a a mu_a nu_a
    lag_nn = (r / (1 + r)) ** 2  # sum_a a nu_a^2
    return b / (1 - b) * (-0.5 + 1.5 * s2) - r / (1 - r) * (-1.5 + 7.5 * s2 - 3 * smn) - (lag_mn - 3 * lag_nn)


def c2(beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """C2 of Proposition 3.3 of [1]_: second-order noise in the accumulated updates."""
    b, r = _betas(beta1, beta2)
    x, y = 1 - b, 1 - r
    # the same polynomial twice: each form cancels where the other does not
    polynomial = np.where(b + r < 1, b * (1 - r + r**2) - r * (2 - r), y * (2 * y - 1) - x * (1 - y + y**2))
    return (b - r) * polynomial / ((1 - b) * (1 - r) * (1 + r) * _one_minus_product(b, r))


def c3(beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """C3 of Proposition 3.3 of [1]_: noise in the Hessian against noise in g_j."""
    b, r = _betas(beta1, beta2)
    lag_mn = (1 - b) * (1 - r) * b * r / _one_minus_product(b, r) ** 2
    return -2 * lag_mn - r / (1 - r) + 3 * (r / (1 + r)) ** 2


def c4(beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """C4 of Proposition 3.3 of [1]_: noise in the Hessian against noise in the updates."""
    b, r = _betas(beta1, beta2)
    return -((b - r) ** 2) / ((1 + b) * (1 + r) * _one_minus_product(b, r))


def c5(beta1: ArrayLike, beta2: ArrayLike) -> Array:
    """C5 of Proposition 3.3 of [1]_: noise in g_j against noise in the updates."""
    b, r = _betas(beta1, beta2)
    return r * (r - b) * (2 * r - 3 * b - 1) / ((1 + b) * (1 + r) ** 2 * _one_minus_product(b, r))


def c_total(beta1: ArrayLike, beta2: ArrayLike, lam: ArrayLike) -> Array:
    """C_total = FB + (C1 + C2) lam, before Lemma 3.4 of [1]_.

    Positive: |g|_1 is penalised (flat minima); negative: it is rewarded.

    Parameters
    ----------
    beta1, beta2 : array_like
        In [0, 1).
    lam : array_like
        Noise-to-signal ratio of a batch gradient (`noise_to_signal`), finite, >= 0.

    Returns
    -------
    ndarray
        Limit n -> infinity, then eps -> 0.
    """
    lam = within("lam", lam, NONNEGATIVE)
    return forward_bias(beta1, beta2) + (c1(beta1, beta2) + c2(beta1, beta2)) * lam


def invariant_c_total(
    beta1: ArrayLike, beta2: ArrayLike, lam_batch: ArrayLike, lam_micro: ArrayLike
) -> Array:
    """C_total of batch-size invariant Adam [3]_, whose second moment averages squared micro-batch gradients; new.

    FB + (C1 + C2) lam_batch + (2 beta2/(1-beta2) - beta1/(1-beta1)) (lam_micro - lam_batch); derived and checked
    in `adam_minibatch_noise.expansion.rule_constants`.

    Parameters
    ----------
    beta1, beta2 : array_like
        In [0, 1).
    lam_batch, lam_micro : array_like
        Noise-to-signal ratio of a batch and of a micro-batch gradient (`noise_to_signal`), finite,
        0 <= lam_batch <= lam_micro; equal: `c_total`.

    Returns
    -------
    ndarray
        Limit n -> infinity, then eps -> 0.
    """
    b, r = _betas(beta1, beta2)
    scatter = within("lam_micro", lam_micro, NONNEGATIVE) - within("lam_batch", lam_batch, NONNEGATIVE)
    if (scatter < 0).any():
        raise InputError(
            "lam_micro is smaller than lam_batch, allowed: at least as large, as a part's noise is"
        )
    return c_total(b, r, lam_batch) + (2 * r / (1 - r) - b / (1 - b)) * scatter


def scaling_rule(
    rule: str, kappa: ArrayLike, lr: ArrayLike, beta1: ArrayLike, beta2: ArrayLike
) -> tuple[Array, Array, Array]:
    """Learning rate and betas for a batch `kappa` times as large as the one they were chosen for.

    Implements the rules of [3]_: 1 - beta1 and 1 - beta2 in proportion to kappa, and the learning rate to kappa
    ("invariant") or to its square root ("square-root", after [4]_).

    Parameters
    ----------
    rule : {"invariant", "square-root"}
    kappa : array_like
        Finite, > 0.
    lr, beta1, beta2 : array_like
        Of the reference: finite and > 0; both in [0, 1).

    Returns
    -------
    lr, beta1, beta2 : ndarray
        A beta below 0 means that the batch is too large for the rule.
    """
    kappa, lr, (b, r) = within("kappa", kappa, POSITIVE), within("lr", lr, POSITIVE), _betas(beta1, beta2)
    factors = {"invariant": kappa, "square-root": np.sqrt(kappa)}
    if rule not in factors:
        raise InputError(f"rule is {rule!r}, allowed: {', '.join(factors)}")
    return factors[rule] * lr, 1 - kappa * (1 - b), 1 - kappa * (1 - r)


def limit_constants(beta1: float, beta2: float) -> Constants:
    """All six coefficients of Proposition 3.3 in the limit n -> infinity, in closed form; both single numbers."""
    _betas(beta1, beta2, single=True)
    return Constants(*(float(f(beta1, beta2)) for f in (forward_bias, c1, c2, c3, c4, c5)))


def expected_corr_terms(moments: Moments, constants: Constants, variance_factor: float) -> dict[str, Array]:
    """E[Corr_n] term by term, to second order in the noise, for eps -> 0.

    Implements Proposition 3.3 of [1]_, divided by |g_j|.

    Parameters
    ----------
    moments : Moments
        Finite; no component of `Moments.gradient` is 0.
    constants : Constants
        `limit_constants` for the proposition itself, or their finite-epoch values.
    variance_factor : float
        v of `batch_variance_factor`, in [0, 1].

    Returns
    -------
    dict of str to (n_params,) ndarray
        Keys FB, MBN1 .. MBN5; their sum is the prediction.
    """
    v = within("variance_factor", variance_factor, SHARE, ())
    g = within("gradient", moments.gradient, FINITE, (None,))
    for name in ("hessian", "covariance", "cross"):
        within(name, getattr(moments, name), FINITE, 2 * g.shape)
    if not g.all():
        raise InputError("gradient has a component that is 0, allowed: none, as the terms are divided by it")
    s = np.sign(g)
    kappa = v * np.diag(moments.covariance) / g**2
    slope = s @ moments.hessian  # d_j |g|_1
    ratio = v * moments.covariance / np.outer(g, g)
    terms = {
        "FB": constants.FB * slope,
        "MBN1": constants.C1 * kappa * slope,
        "MBN2": constants.C2 * (kappa * s) @ moments.hessian,
        "MBN3": constants.C3 * v * (s @ moments.cross) / g,
        "MBN4": constants.C4 * v * moments.cross @ (1 / np.abs(g)),
        "MBN5": constants.C5 * s @ (moments.hessian * ratio),
    }
    return {name: term / np.abs(g) for name, term in terms.items()}


# -------------------------------------------------------------------------------------------- noise scale
def gradient_noise_scale(covariance_trace: ArrayLike, gradient_square: ArrayLike) -> Array:
    """B_simple = tr(Sigma)/|g|^2, Eq. (2.9) of [2]_, in samples.

    Parameters
    ----------
    covariance_trace, gradient_square : array_like
        Finite, >= 0, and not both 0.

    Returns
    -------
    ndarray
        >= 0; infinite where the gradient is zero.
    """
    covariance_trace = within("covariance_trace", covariance_trace, NONNEGATIVE)
    gradient_square = within("gradient_square", gradient_square, NONNEGATIVE)
    if ((covariance_trace == 0) & (gradient_square == 0)).any():
        raise InputError("covariance_trace and gradient_square are both 0, allowed: at least one > 0")
    with np.errstate(divide="ignore"):
        return covariance_trace / gradient_square


def two_batch_estimates(
    square_small: ArrayLike,
    square_big: ArrayLike,
    batch_size_small: ArrayLike,
    batch_size_big: ArrayLike,
    n_samples: ArrayLike = np.inf,
) -> tuple[Array, Array]:
    """Unbiased |g|^2 and tr(Sigma) from the squared norms of a small and a big batch gradient.

    Implements Appendix A.1 of [2]_, which has batches drawn with replacement (`n_samples` infinite);
    without replacement E|G_b|^2 = |g|^2 + v(b) tr(Sigma) with v of `batch_variance_factor`, also exact.

    Parameters
    ----------
    square_small, square_big : array_like
        |G|^2 of the small and of the big batch, finite, >= 0.
    batch_size_small, batch_size_big : array_like
        1 <= batch_size_small < batch_size_big <= n_samples.
    n_samples : array_like
        Number of samples the batches are drawn from without replacement; infinite: with replacement.

    Returns
    -------
    gradient_square, covariance_trace : ndarray
        Average each over many batches before dividing one by the other: the ratio of one pair is biased.
    """
    small = within("batch_size_small", batch_size_small, AT_LEAST_ONE)
    big = within("batch_size_big", batch_size_big, AT_LEAST_ONE)
    if (small >= big).any():
        raise InputError("batch_size_small is not below batch_size_big, allowed: small < big <= n_samples")
    v_small, v_big = batch_variance_factor(n_samples, small), batch_variance_factor(n_samples, big)
    square_small = within("square_small", square_small, NONNEGATIVE)
    square_big = within("square_big", square_big, NONNEGATIVE)
    covariance_trace = (square_small - square_big) / (v_small - v_big)
    gradient_square = (v_small * square_big - v_big * square_small) / (v_small - v_big)
    return gradient_square, covariance_trace
