"""E[Corr_t] of Adam and its kin as it was first derived, by hand for each; twins of `expansion.second_order`."""

import itertools

import numpy as np

FIRST, SECOND = 0, 1  # the weights mu (first moment, beta1) and nu (second moment, beta2)


def ema_weights(beta, t):
    """mu_{t,k} of Definition 3.1."""
    weights = beta ** np.arange(t, -1.0, -1.0)
    return weights / weights.sum()


def covariance(n_steps, n_batches, correlation):
    """c_pq as a matrix."""
    epochs = np.arange(n_steps) // n_batches
    matrix = np.where(epochs[:, None] == epochs, correlation, 0.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def adam_sums(betas, n_batches, t, correlation=None):
    """Every weight sum of Adam, one index at a time; w, x, y run over (mu, nu)."""
    c = covariance(t + 1, n_batches, -1 / (n_batches - 1) if correlation is None else correlation)
    weights = [ema_weights(beta, t) for beta in betas]
    earlier = [[np.pad(ema_weights(beta, step), (0, t - step)) for step in range(t)] for beta in betas]
    lags = np.arange(t, -1.0, -1.0)
    inner_product, inner_noise = np.zeros((2, 2)), np.zeros((2, 2))
    inner_outer = np.zeros((2, 2, 2))
    for (i, w), x, k in itertools.product(enumerate(weights), (0, 1), range(t)):
        for step in range(k, t):
            inner_product[i, x] += w[k] * earlier[x][step] @ c @ earlier[1][step]
            inner_noise[i, x] += w[k] * earlier[x][step] @ c[:, k]
            for y in (0, 1):
                inner_outer[i, x, y] += w[k] * earlier[x][step] @ c @ weights[y]
    return {
        "lag": np.array([w @ lags for w in weights]),
        "product": np.array([w @ c @ weights[1] for w in weights]),
        "lag_noise": np.array([[(w * lags) @ c @ y for y in weights] for w in weights]),
        "inner_product": inner_product,
        "inner_noise": inner_noise,
        "inner_outer": inner_outer,
    }


def adam_expectation(moments, sums, v, eps_root=0.0):
    """Zeroth order, and MBN1 .. MBN5, of Adam."""
    g, hessian = moments.gradient, moments.hessian
    root = np.sqrt(g**2 + eps_root)  # R at D = 0
    q, update = (g / root) ** 2, g / root
    slope = update @ hessian
    variance = np.diag(moments.covariance)
    (lag_mu, lag_nu), (mn, nn) = sums["lag"], sums["product"]
    lag_noise, inner = sums["lag_noise"], sums["inner_noise"]

    zeroth = slope / root * (lag_mu - q * lag_nu)
    both_outer = (
        (-0.5 + 1.5 * q * nn) * lag_mu
        - lag_noise[SECOND, FIRST]
        + 3 * q * (mn * lag_nu + lag_noise[SECOND, SECOND] + 0.5 * lag_nu)
        - 7.5 * q**2 * nn * lag_nu
    )
    by_weight = [
        -0.5 * sums["lag"][w] - sums["inner_product"][w, FIRST] + 1.5 * q * sums["inner_product"][w, SECOND]
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
    outer = sums["inner_outer"][:, FIRST] - q[:, None, None] * sums["inner_outer"][:, SECOND]  # (i, w, y)
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


def invariant_expectation(moments, sums, v, v_micro, eps_root=0.0):
    """Of batch-size invariant Adam: Adam's terms, and what the scatter of the micro-batches inside a batch adds."""
    zeroth, terms = adam_expectation(moments, sums, v, eps_root)
    g, w = moments.gradient, v_micro - v
    root = np.sqrt(g**2 + eps_root)
    q, update, variance = (g / root) ** 2, g / root, np.diag(moments.covariance)
    lag_mu, lag_nu = sums["lag"]
    slope = update @ moments.hessian
    slower = -0.5 * update * variance / root**2  # of the update M/R, per unit of w
    return zeroth, terms | {
        "SCATTER1": w * slope * variance / root**3 * (-0.5 * lag_mu + 1.5 * q * lag_nu),
        "SCATTER2": w * (slower @ moments.hessian) / root * (lag_mu - q * lag_nu),
        "SCATTER3": -w * (update @ moments.cross) * g / root**3 * lag_nu,
    }


def sgd_momentum_expectation(moments, beta, n_batches, t, v):
    """Zeroth order and the whole rest of SGD with momentum, which is bilinear in the noise."""
    c = covariance(t + 1, n_batches, -1 / (n_batches - 1))
    noiseless = noisy = 0.0
    for k in range(t):
        for step in range(k, t):
            powers = beta ** np.arange(step, -1.0, -1.0)
            noiseless += beta ** (t - k) * powers.sum()
            noisy += beta ** (t - k) * powers @ c[: step + 1, k]
    return noiseless * (moments.hessian @ moments.gradient), v * noisy * moments.cross.sum(axis=1)
