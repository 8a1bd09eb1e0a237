r"""Many steps of Adam without gradient in one: exact to rounding, one root and one division an entry.

Over n steps without gradient the moments are m beta1^k and v beta2^k, k = 0..n-1, and a weight becomes

    w <- D^n w - lr sum_k D^{n-1-k} beta1^k m / (rho^k r + eps),      r = sqrt(v), rho = sqrt(beta2), D = 1 - lr wd.

All rho^k are close to a centre c (beta2 = 0.999, n = 64: within 2%), so with y = 1/(c r + eps), z = r y <= 1/c

    1/(rho^k r + eps) = y sum_j (-1)^j ((rho^k - c) z)^j,

whatever eps is. The sum over k goes into the coefficients, tabulated for each n; a polynomial in z is left. With eps
inside the root the same is done to (v beta2^k + eps_root)^(-1/2), y = (c v + eps_root)^(-1/2), z = v y^2, and
binomial coefficients. So many steps are taken at once that what the polynomial leaves out is below 2^-54 of the sum.
"""

import numpy as np

MAX_STEPS = 64
"""Most steps taken at once; longer gaps are taken in several parts."""
DEGREE = 6
"""Of every polynomial: a fixed one is unrolled, and predicted by the processor."""


def tables(
    lr: float, beta1: float, beta2: float, eps: float, eps_root: float, decay: float
) -> tuple[np.ndarray, ...]:
    """Tabulate the polynomials, for n = 0..n_max steps at once.

    Parameters
    ----------
    lr, beta1, beta2, eps, eps_root : float
        Of the optimiser, without bias correction.
    decay : float
        D = 1 - lr * weight_decay of AdamW.

    Returns
    -------
    series : (n_max + 1, DEGREE + 1) ndarray
        Coefficients of z^j, with the factor -lr.
    centers : (n_max + 1,) ndarray
    decays, powers1, powers2 : (n_max + 1,) ndarray
        D^n, beta1^n, beta2^n.

    Notes
    -----
    With both `eps` and `eps_root` positive there is no such series: n_max is 1, a division each step.
    """
    base = beta2 if eps_root > 0 else np.sqrt(beta2)
    exponent = -0.5 if eps_root > 0 else -1.0
    binomials = np.cumprod([1.0, *((exponent - j) / (j + 1) for j in range(DEGREE))])  # of (1 + x)^exponent
    series, centers = [np.zeros(DEGREE + 1)], [1.0]
    n_max = 1 if eps > 0 and eps_root > 0 else MAX_STEPS
    for n in range(1, n_max + 1):
        k = np.arange(n)
        weights = decay ** (n - 1 - k) * beta1 ** k.astype(float)
        points = base ** k.astype(float)
        center = weights @ points / weights.sum()
        offsets = points - center
        if not _suffices(weights, np.abs(offsets) / center):
            break
        moments = np.array([weights @ offsets**j for j in range(DEGREE + 1)])
        series.append(-lr * binomials * moments)
        centers.append(center)
    powers = np.arange(len(centers), dtype=float)
    return (
        np.array(series),
        np.array(centers),
        decay**powers,
        beta1**powers,
        beta2**powers,
    )


def _suffices(weights, spread):
    """Whether the remainder is below 2^-54 of the sum, given distances from the centre in units of the centre."""
    if spread.max() >= 0.5:
        return False
    remainder = weights @ (spread ** (DEGREE + 1) / (1 - spread))
    return remainder <= 2.0**-54 * weights.sum()
