r"""E[Corr_n] line by line: every pair of places where two noises meet, in either part of Corr_n, in closed form.

The statement between the definition of Corr_n and Proposition 3.3 of Cattaneo and Shigida (2026), their Proposition
A.6, in our reading: the expectation to second order in the noise of each product in L_n/R_n and in
-M_n P_n/R_n^3, with the sums over steps still finite. Places are those of `expansion.noise_sources`. A line is
linear in the correlation of two batches, so that correlation 0 in the weight sums leaves the noise of a batch with
itself (p = q), and the rest is that of different batches.
"""

import numpy as np

from adam_minibatch_noise.expansion.weight_sums import FIRST, SECOND, WeightSums
from adam_minibatch_noise.theory import Array, Moments

PARTS = ("L/R", "-MP/R^3")
LINES = {
    ("L/R", "root", "root"): "MBN1",
    ("L/R", "updates", "updates"): "MBN2",
    ("L/R", "root", "hessian"): "MBN3",
    ("L/R", "hessian", "updates"): "MBN4",
    ("L/R", "root", "updates"): "MBN5",
    ("-MP/R^3", "root", "root"): "MBN1",
    ("-MP/R^3", "first", "gradient"): "MBN1",
    ("-MP/R^3", "root", "first"): "MBN1",
    ("-MP/R^3", "root", "gradient"): "MBN1",
    ("-MP/R^3", "updates", "updates"): "MBN2",
    ("-MP/R^3", "root", "hessian"): "MBN3",
    ("-MP/R^3", "first", "hessian"): "MBN3",
    ("-MP/R^3", "gradient", "hessian"): "MBN3",
    ("-MP/R^3", "hessian", "updates"): "MBN4",
    ("-MP/R^3", "root", "updates"): "MBN5",
    ("-MP/R^3", "first", "updates"): "MBN5",
    ("-MP/R^3", "gradient", "updates"): "MBN5",
}
"""Part and two places, and the term of Proposition 3.3 that the line belongs to; no other pair contributes."""


def adam_lines(
    moments: Moments, sums: WeightSums, variance_factor: float, eps_root: float = 0.0
) -> dict[tuple[str, str, str], Array]:
    """Expectation of every line of `LINES`.

    Parameters
    ----------
    moments : Moments
        At the fixed point; no component of the gradient is 0 if `eps_root` is 0.
    sums : WeightSums
        `expansion.weight_sums.weight_sums` at step n.
    variance_factor : float
        v of `theory.batch_variance_factor`.
    eps_root : float
        >= 0.

    Returns
    -------
    dict of (str, str, str) to (n_params,) ndarray
        With the keys of `LINES`, in their order.
    """
    g, hessian = moments.gradient, moments.hessian
    root = np.sqrt(g**2 + eps_root)  # R at no noise
    q, update = (g / root) ** 2, g / root
    (lag_mu, lag_nu), (mn, nn) = sums.lag, sums.product
    lag_noise, inner, outer = sums.lag_noise, sums.inner_noise, sums.inner_outer
    variance = np.diag(moments.covariance)
    # sum_i dF_l,i/dg noise_i: mu - q_i nu; columns i
    by_hessian = inner[:, FIRST, None] - q * inner[:, SECOND, None]  # (w, i)
    by_outer = outer[:, FIRST, :, None] - q * outer[:, SECOND, :, None]  # (w, y, i)
    by_updates = [
        -0.5 * sums.lag[w] - sums.inner_product[w, FIRST] + 1.5 * q * sums.inner_product[w, SECOND]
        for w in (FIRST, SECOND)
    ]
    both_outer = (update @ hessian) * variance / root**3
    hessian_outer = g / root**3 * (update @ moments.cross)
    pulled = g[:, None] / root[:, None] ** 3 * hessian * moments.covariance / root  # (j, i)
    both_updates = [(variance * update / root**2 * factor) @ hessian / root for factor in by_updates]
    hessian_updates = [(moments.cross * by_hessian[w]) @ (1 / root) / root for w in (FIRST, SECOND)]
    lines = {
        ("L/R", "root", "root"): both_outer * (-0.5 + 1.5 * q * nn) * lag_mu,
        ("L/R", "updates", "updates"): both_updates[FIRST],
        ("L/R", "root", "hessian"): -hessian_outer * lag_noise[FIRST, SECOND],
        ("L/R", "hessian", "updates"): hessian_updates[FIRST],
        ("L/R", "root", "updates"): -(pulled * by_outer[FIRST, SECOND]).sum(axis=1),
        ("-MP/R^3", "root", "root"): both_outer * q * (1.5 - 7.5 * q * nn) * lag_nu,
        ("-MP/R^3", "first", "gradient"): -both_outer * lag_noise[SECOND, FIRST],
        ("-MP/R^3", "root", "first"): 3 * both_outer * q * mn * lag_nu,
        ("-MP/R^3", "root", "gradient"): 3 * both_outer * q * lag_noise[SECOND, SECOND],
        ("-MP/R^3", "updates", "updates"): -q * both_updates[SECOND],
        ("-MP/R^3", "root", "hessian"): 3 * hessian_outer * q * lag_noise[SECOND, SECOND],
        ("-MP/R^3", "first", "hessian"): -hessian_outer * lag_noise[SECOND, FIRST],
        ("-MP/R^3", "gradient", "hessian"): -hessian_outer * lag_nu,
        ("-MP/R^3", "hessian", "updates"): -q * hessian_updates[SECOND],
        ("-MP/R^3", "root", "updates"): 3 * q * (pulled * by_outer[SECOND, SECOND]).sum(axis=1),
        ("-MP/R^3", "first", "updates"): -(pulled * by_outer[SECOND, FIRST]).sum(axis=1),
        ("-MP/R^3", "gradient", "updates"): -(pulled * by_hessian[SECOND]).sum(axis=1),
    }
    return {line: variance_factor * value for line, value in lines.items()}
