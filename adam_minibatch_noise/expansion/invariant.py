r"""E[Corr_t] of batch-size invariant Adam [1]_, exact to second order in the noise; new.

The optimiser differs from Adam in one place: with a batch of kappa micro-batches its second moment averages the
squared MICRO-batch gradients. With d_{k,a} the noise of micro-batch a of batch k, and d_k that of the batch,

    1/kappa sum_a (g + d_{k,a})^2 = (g + d_k)^2 + V_k,     V_k = 1/kappa sum_a (d_{k,a} - d_k)^2,

and half its derivative gains 1/kappa sum_a (d_{k,a,j} - d_{k,j})(d_{k,a,ij} - d_{k,ij}) likewise. The scatter inside a
batch is of second order already, so that to this order only its expectation counts: w Sigma_jj and w E[d_ij d_j], with

    w = v_micro - v_batch     (`theory.batch_variance_factor` of both sizes; exact without replacement).

Everything else is Adam's, with the noise of the batch (`expansion.second_order`). As the weights of a moving
average sum to one, w Sigma_jj acts as an `eps_root` of component j; it does not vanish for the full batch.

References
----------
.. [1] Wang and Aitchison, "Batch size invariant Adam", arXiv:2402.18824, 2024.
"""

import numpy as np
from numpy.typing import ArrayLike

from adam_minibatch_noise.expansion.second_order import adam_expectation, exact_c_total
from adam_minibatch_noise.expansion.weight_sums import WeightSums
from adam_minibatch_noise.theory import Array, Constants, Moments, ema_weights


def invariant_corr(
    gradients: ArrayLike, hessians: ArrayLike, beta1: float, beta2: float, eps_root: float = 0.0
) -> Array:
    """First-order correction Corr_n at the last step of one order of micro-batches, at a fixed point.

    As `theory.adam_corr`, with R_t^2 = sum_k nu_{t,k} mean_a (grad L_{k,a})^2 + eps_root and, in P_t, the mean
    over micro-batches a of grad L_{k,a} * (hess L_{k,a}) u_{t,k}.

    Parameters
    ----------
    gradients : (n_batches, kappa, n_params) array_like
        Micro-batch gradients in the order in which they come.
    hessians : (n_batches, kappa, n_params, n_params) array_like
        Micro-batch Hessians, symmetric.
    beta1, beta2 : float
        In [0, 1).
    eps_root : float
        >= 0, inside the root.

    Returns
    -------
    (n_params,) ndarray
    """
    gradients, hessians = np.asarray(gradients, np.float64), np.asarray(hessians, np.float64)
    means, squares = gradients.mean(axis=1), (gradients**2).mean(axis=1)
    t = len(gradients) - 1

    def moments_at(step: int) -> tuple[Array, Array]:  # M and R
        past = slice(step + 1)
        second = ema_weights(beta2, step) @ squares[past] + eps_root
        return ema_weights(beta1, step) @ means[past], np.sqrt(second)

    updates = np.reshape([np.divide(*moments_at(step)) for step in range(t)], (t, means.shape[1]))
    future = np.cumsum(updates[::-1], axis=0)[::-1]  # u_{t,k}, (t, n_params)
    curved = np.einsum("kaij,kj->kai", hessians[:-1], future)
    mu, nu = ema_weights(beta1, t), ema_weights(beta2, t)
    first, root = moments_at(t)
    by_mu = mu[:-1] @ curved.mean(axis=1)  # L_t
    by_nu = nu[:-1] @ (gradients[:-1] * curved).mean(axis=1)  # P_t
    corr: Array = by_mu / root - first * by_nu / root**3
    return corr


def invariant_expectation(
    moments: Moments,
    sums: WeightSums,
    variance_factor: float,
    micro_variance_factor: float,
    eps_root: float = 0.0,
) -> tuple[Array, dict[str, Array]]:
    """E[Corr_t] of batch-size invariant Adam to second order in the noise, term by term.

    Parameters
    ----------
    moments : Moments
        At the fixed point.
    sums : WeightSums
        `expansion.weight_sums.weight_sums` at step t; steps and epochs are counted in batches.
    variance_factor, micro_variance_factor : float
        v of `theory.batch_variance_factor` for the size of a batch and of a micro-batch; equal: Adam.
    eps_root : float
        >= 0, inside the root.

    Returns
    -------
    zeroth : (n_params,) ndarray
        Corr_t without noise, that of Adam.
    second_order : dict of str to (n_params,) ndarray
        MBN1 .. MBN5 of Adam with the noise of the batch, and SCATTER1 .. SCATTER3 of the micro-batches inside it:
        in R_j, in the accumulated updates, and in the Hessian against g_j.

    Raises
    ------
    InputError
        If a component of the gradient is 0 and `eps_root` is 0.
    """
    zeroth, terms = adam_expectation(moments, sums, variance_factor, eps_root)
    g, w = moments.gradient, micro_variance_factor - variance_factor
    root = np.sqrt(g**2 + eps_root)
    q, update, variance = (g / root) ** 2, g / root, np.diag(moments.covariance)
    lag_mu, lag_nu = sums.lag
    slope = update @ moments.hessian
    slower = -0.5 * update * variance / root**2  # of the update M/R, per unit of w
    return zeroth, terms | {
        "SCATTER1": w * slope * variance / root**3 * (-0.5 * lag_mu + 1.5 * q * lag_nu),
        "SCATTER2": w * (slower @ moments.hessian) / root * (lag_mu - q * lag_nu),
        "SCATTER3": -w * (update @ moments.cross) * g / root**3 * lag_nu,
    }


def scatter_constants(lag: Array) -> Constants:
    """What multiplies w = v_micro - v_batch in the terms of Proposition 3.3 for eps -> 0.

    C1 = -1/2 A_1 + 3/2 A_2, C2 = -1/2 (A_1 - A_2), C3 = -A_2 with the mean ages A = `lag` of the two averages, which
    are beta/(1 - beta) in the limit; FB, C4 and C5 have no part.

    Parameters
    ----------
    lag : (2, ...) ndarray
        `expansion.weight_sums.WeightSums.lag`.

    Returns
    -------
    Constants
    """
    lag_mu, lag_nu = lag
    return Constants(0.0, -0.5 * lag_mu + 1.5 * lag_nu, -0.5 * (lag_mu - lag_nu), -lag_nu, 0.0, 0.0)


def exact_invariant_c_total(
    beta1: float, beta2: float, lam_batch: float, lam_micro: float, n_batches: int, n_epochs: int = 1
) -> float:
    """C_total at the last step of a finite number of epochs; `theory.invariant_c_total` is its limit.

    Parameters
    ----------
    beta1, beta2 : float
        In [0, 1).
    lam_batch, lam_micro : float
        Noise-to-signal ratio of a batch and of a micro-batch gradient, 0 <= lam_batch <= lam_micro.
    n_batches, n_epochs : int
        Batches an epoch and epochs, >= 1.

    Returns
    -------
    float
    """
    t = n_batches * n_epochs - 1
    ages = np.arange(t, -1.0, -1.0)
    scatter = scatter_constants(np.array([ema_weights(beta, t) @ ages for beta in (beta1, beta2)]))
    adam = exact_c_total(beta1, beta2, lam_batch, n_batches, n_epochs)
    return float(adam + (scatter.C1 + scatter.C2) * (lam_micro - lam_batch))
