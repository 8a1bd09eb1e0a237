"""Exact values, in rationals or 50 digits and from the definitions alone, and how near to them the programs come."""

import math
from fractions import Fraction

import mpmath
import numpy as np

mpmath.mp.dps = 50

MAX_RELATIVE_ERROR = {
    # closed forms at every pair of BETAS, relative to the largest of their terms
    "forward_bias": 1e-15,
    "c1": 4e-15,
    "c2": 4e-15,
    "c3": 4e-15,
    "c4": 2e-15,
    "c5": 2e-15,
    "c_total": 4e-15,
    "ema_weights": 2e-15,
    "critical_batch_size": 1e-15,
    "two_batch_estimates": 1e-15,
    # on epochs of a few batches, at ordinary betas and at betas of 1 - 1e-6
    "rule_corr": 1e-14,
    "Corr kernels": 1e-13,
    "memoryless Corr": 1e-13,
    "control variate": 1e-13,
    "adam_runs": 1e-13,
    "memory": 1e-14,
    "time sums": 1e-14,
    "Adam of train, float64": 1e-14,
    "invariant Adam of train, float64": 1e-14,
    "cross entropy, float64": 1e-14,
    # at every scale of the data, relative to the sizes of `corr_and_size` and `exact_network`
    "Corr of least squares": 4e-16,
    "Corr of quadratics": 2e-15,
    "Corr of the network": 1e-16,
    "E[Corr]": 4e-15,
    "standard error": 1e-16,
    "margins and losses of the network": 4e-16,
    "derivatives of the network": 4e-16,
    # relative to the largest value of a weight on its way
    "runs on the feature-noise network": 4e-15,
}
N_LAST_BITS = 8
"""By as many times 5e-324 a number below 2.2e-308 may be off."""


def accept(name, value, exact, scale=None):
    """Check values against exact ones, relative to themselves or to `scale`; a denormal by its last bits."""
    for one, true, unit in np.broadcast(value, exact, exact if scale is None else scale):
        assert math.isfinite(one), (name, one, true)
        true, unit = (x if isinstance(x, Fraction) else Fraction(float(x)) for x in (true, unit))
        error = abs(Fraction(float(one)) - true)
        allowed = Fraction(MAX_RELATIVE_ERROR[name]) * abs(unit) + N_LAST_BITS * Fraction(5e-324)
        assert error <= allowed, (name, one, float(true))


def exact_weights(beta, t):
    beta = Fraction(beta)
    total = sum(beta**k for k in range(t + 1))
    return [beta ** (t - k) / total for k in range(t + 1)]


def fraction(value):
    """An mpmath number, all its digits; far below the smallest float64 it is 0."""
    return Fraction(str(value)) if abs(value) > mpmath.mpf("1e-1000") else Fraction(0)


def exact_corr(gradients, hessians, beta1, beta2, eps_root, kind=fraction):
    """Definitions of Section 4 along batches in their order, 50 digits."""
    return [kind(value) for value in corr_and_size(gradients, hessians, beta1, beta2, eps_root)[0]]


def corr_and_size(gradients, hessians, beta1, beta2, eps_root, gradient_sizes=None, hessian_sizes=None):
    """Corr along batches in their order, and how far it moves if every number on the way is off by its size.

    Sizes are absolute values of the terms that a number is a sum of, and those of its parts passed on to first order.
    """
    mp = mpmath.mpf
    g, h = mpf_array(gradients), mpf_array(hessians)
    g_size = abs(g) if gradient_sizes is None else mpf_array(gradient_sizes)
    h_size = abs(h) if hessian_sizes is None else mpf_array(hessian_sizes)
    m, d = g.shape

    def moments(t):
        """mu, nu, (M, size), (R, size relative to R)."""
        mu, nu = (
            mpf_array([mp(x.numerator) / x.denominator for x in exact_weights(b, t)]) for b in (beta1, beta2)
        )
        past, size, squares = g[: t + 1], g_size[: t + 1], g[: t + 1] ** 2
        square = nu @ squares + mp(eps_root)
        square_size = nu @ (2 * abs(past) * size + squares) + mp(eps_root)
        first = mu @ past, mu @ (abs(past) + size)
        return mu, nu, first, (np.frompyfunc(mpmath.sqrt, 1, 1)(square), square_size / square / 2)

    steps, step_sizes = np.full((m, d), mp(0)), np.full((m, d), mp(0))
    for t in range(m - 1):
        _, _, (first, first_size), (root, root_size) = moments(t)
        steps[t] = first / root
        step_sizes[t] = first_size / root + abs(steps[t]) * (root_size + 1)
    mu, nu, (first, first_size), (root, root_size) = moments(m - 1)
    corr, size = np.full(d, mp(0)), np.full(d, mp(0))
    for k in range(m - 1):
        u, u_size = steps[k : m - 1].sum(axis=0), (step_sizes[k : m - 1] + abs(steps[k : m - 1])).sum(axis=0)
        curved, curved_size = h[k] @ u, (abs(h[k]) + h_size[k]) @ abs(u) + abs(h[k]) @ u_size
        corr += mu[k] * curved / root - first * nu[k] * g[k] * curved / root**3
        size += mu[k] * (curved_size + abs(curved) * (root_size + 1)) / root
        by_factor = (first_size * abs(g[k]) + abs(first) * g_size[k]) * abs(curved)
        by_factor += abs(first * g[k]) * (curved_size + abs(curved) * (3 * root_size + 1))
        size += nu[k] * by_factor / root**3
    return list(corr), list(size)


def mpf_array(values):
    """An array of mpmath numbers, every digit of a float kept."""
    values = np.asarray(values)
    flat = [x if isinstance(x, mpmath.mpf) else mpmath.mpf(float(x)) for x in values.ravel()]
    array = np.empty(len(flat), object)
    array[:] = flat
    return array.reshape(values.shape)


def batch_means(values, order, batch_size):
    """Means over the batches of an order of the samples, first axis."""
    groups = np.asarray(order).reshape(-1, batch_size)
    return np.array([values[batch].sum(axis=0) / mpmath.mpf(batch_size) for batch in groups], object)


def exact_network(weights, patches, label, q):
    """Value and size, as in `corr_and_size`, of a sample's margin, loss, gradient and Hessian (flattened filters).

    margin = y sum_{j,r,p} j act(<w_jr, x_p>), act(z) = max(z, 0)^q; loss = log(1 + exp(-margin)).
    """
    w, x, q = mpf_array(weights), mpf_array(patches), int(q)
    filters, length = w.reshape(-1, w.shape[-1]), w.shape[-1]
    d, zero = filters.size, mpmath.mpf(0)
    margin, slope, bend = zero, np.full(d, zero), np.full((d, d), zero)
    margin_size, slope_size, bend_size = zero, slope.copy(), bend.copy()
    for f, filter_ in enumerate(filters):
        sign = int(label) * (1 if f < len(filters) // 2 else -1)
        here = slice(f * length, (f + 1) * length)
        for patch in x:
            z = (filter_ * patch).sum()
            if z <= 0:
                continue
            size = (abs(filter_) * abs(patch)).sum()  # of the terms of z
            outer = np.outer(patch, patch)
            margin += sign * z**q
            margin_size += z**q + q * z ** (q - 1) * size
            slope[here] += sign * q * z ** (q - 1) * patch
            slope_size[here] += q * (z ** (q - 1) + (q - 1) * z ** (q - 2) * size) * abs(patch)
            bend[here, here] += sign * q * (q - 1) * z ** (q - 2) * outer
            bend_size[here, here] += q * (q - 1) * (z ** (q - 2) + (q - 2) * z ** (q - 3) * size) * abs(outer)
    p, trust = 1 / (1 + mpmath.exp(margin)), 1 / (1 + mpmath.exp(-margin))
    loss, spread = mpmath.log1p(mpmath.exp(-margin)), p * trust
    p_size = p * (1 + trust * margin_size)
    outer, outer_size = np.outer(slope, slope), np.outer(abs(slope), slope_size)
    outer_size = outer_size + outer_size.T + abs(outer) * (1 + margin_size)
    return {
        "margin": (margin, margin_size),
        "loss": (loss, loss + p * margin_size),
        "gradient": (-p * slope, p * slope_size + p_size * abs(slope)),
        "hessian": (spread * outer - p * bend, spread * outer_size + p * bend_size + p_size * abs(bend)),
    }
