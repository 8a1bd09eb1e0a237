r"""Adam's correction Corr_n with the batch noise switched on in chosen places only.

Corr_n = L_n/R_n - M_n P_n/R_n^3 meets the noise of a batch in five places:

    root      the gradients in R_n,
    first     the gradients in M_n,
    gradient  the factor grad L_k of P_n,
    hessian   the factor hess L_k of L_n and P_n,
    updates   the accumulated updates u_{n,k} = sum_{l=k}^{n-1} F_l.

Elsewhere the full-batch gradient and Hessian stand in. What two noises contribute together is found by inclusion and
exclusion: f(a, b) - f(a) - f(b) + f(none), and f(a) - f(none) where both sit in the same place. To second order the
sum over all pairs of places is E[Corr_n]; root, first and gradient together are the outer gradients of Proposition
3.3 of Cattaneo and Shigida (2026), and the five pairs of {outer, hessian, updates} its terms MBN1 .. MBN5.
"""

from collections.abc import Iterable

import numpy as np

from adam_minibatch_noise.theory import Array, Moments, ema_weights, one_minus_power

OUTER = ("root", "first", "gradient")
HESSIAN = ("hessian",)
UPDATES = ("updates",)
TERMS = {
    "MBN1": (OUTER, OUTER),
    "MBN2": (UPDATES, UPDATES),
    "MBN3": (OUTER, HESSIAN),
    "MBN4": (HESSIAN, UPDATES),
    "MBN5": (OUTER, UPDATES),
}
"""The two groups of places whose noises meet in a term."""


class SwitchedCorr:
    """Corr_n of many batch orders, with the noise in chosen places only.

    Parameters
    ----------
    gradients : (n_orders, n_steps, n_params) ndarray
        Batch gradients in the order in which the batches come; n = n_steps - 1.
    hessians : (n_orders, n_steps, n_params, n_params) ndarray
        Batch Hessians.
    moments : Moments
        Supplies the full-batch gradient and Hessian.
    beta1, beta2 : float
        In [0, 1).
    eps_root : float
        >= 0.
    """

    def __init__(
        self, gradients: Array, hessians: Array, moments: Moments, beta1: float, beta2: float, eps_root: float
    ) -> None:
        t = gradients.shape[1] - 1
        g = moments.gradient
        self.mu, self.nu = ema_weights(beta1, t), ema_weights(beta2, t)
        quiet_root = np.sqrt(g**2 + eps_root)
        lags = np.arange(t, 0.0, -1.0)[:, None]
        # index 0: full batch, 1: noisy
        self.root = quiet_root, np.sqrt(np.einsum("k,pki->pi", self.nu, gradients**2) + eps_root)
        self.first = g, np.einsum("k,pki->pi", self.mu, gradients)
        self.gradient = np.broadcast_to(g, (1, t, len(g))), gradients[:, :-1]
        updates = (lags * (g / quiet_root))[None], _accumulated(gradients, beta1, beta2, eps_root)
        noisy = hessians[:, :-1]
        self.curved = {(0, u): updates[u] @ moments.hessian for u in (0, 1)}
        self.curved |= {(1, u): np.einsum("pkij,pkj->pki", noisy, updates[u]) for u in (0, 1)}

    def parts(self, places: Iterable[str] = ()) -> tuple[Array, Array]:
        """L_n/R_n and -M_n P_n/R_n^3 with noise in `places`, each (n_orders or 1, n_params)."""
        root, first, gradient, hessian, updates = (
            int(place in places) for place in (*OUTER, *HESSIAN, *UPDATES)
        )
        curved = self.curved[hessian, updates]
        numerator = np.einsum("k,pki->pi", self.mu[:-1], curved)
        product = np.einsum("k,pki->pi", self.nu[:-1], self.gradient[gradient] * curved)
        return numerator / self.root[root], -self.first[first] * product / self.root[root] ** 3

    def pair(self, a: Iterable[str], b: Iterable[str]) -> Array:
        """Return what noise in the places `a` and in the places `b` contributes together to the two parts.

        Parameters
        ----------
        a, b : iterables of str
            The same, or disjoint.

        Returns
        -------
        (2, n_orders, n_params) ndarray
            Of L_n/R_n and of -M_n P_n/R_n^3.
        """
        sets = [(1, a), (-1, ())] if set(a) == set(b) else [(1, (*a, *b)), (-1, a), (-1, b), (1, ())]
        n_orders = self.first[1].shape[0]
        total = np.zeros((2, n_orders, self.first[1].shape[1]))
        for sign, places in sets:
            for part, value in zip(total, self.parts(places), strict=True):
                part += sign * value
        return total


def _accumulated(gradients: Array, beta1: float, beta2: float, eps_root: float) -> Array:
    """Return u_{n,k} for k = 0..n-1, (n_orders, n, n_params)."""
    exp_avg = np.zeros_like(gradients[:, 0])
    exp_avg_sq = np.zeros_like(exp_avg)
    updates = np.empty_like(gradients[:, :-1])
    for step in range(updates.shape[1]):
        exp_avg = beta1 * exp_avg + (1 - beta1) * gradients[:, step]
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * gradients[:, step] ** 2
        root = np.sqrt(exp_avg_sq / one_minus_power(beta2, step + 1) + eps_root)
        updates[:, step] = exp_avg / one_minus_power(beta1, step + 1) / root
    return np.cumsum(updates[:, ::-1], axis=1)[:, ::-1]
