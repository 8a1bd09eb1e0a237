"""Problems whose per-sample gradients and Hessians are known in closed form at one point theta.

Two families: least squares, l_r = 1/2 (a_r . theta - y_r)^2, and quadratics with their own symmetric Hessian
per sample. Seeded generators make instances in which the gradient dominates the noise, as Proposition 3.3 of
Cattaneo and Shigida (2026) asks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.theory import Array, Moments


@dataclass(frozen=True)
class Quadratics:
    """Samples known by their gradient and Hessian at one point.

    Attributes
    ----------
    gradients : (n_samples, n_params) ndarray
        grad l_r at the point.
    hessians : (n_samples, n_params, n_params) ndarray
        hess l_r, symmetric.
    theta : (n_params,) ndarray, optional
        The point, where it is known.
    """

    gradients: Array
    hessians: Array
    theta: Array | None = None

    @property
    def n_samples(self) -> int:
        """Number of samples N."""
        return len(self.gradients)

    @property
    def n_params(self) -> int:
        """Number of parameters d."""
        return self.gradients.shape[1]

    def hessian_row(self, i: int) -> Array:
        """Row `i` of every sample's Hessian, (n_samples, n_params)."""
        return self.hessians[:, i]

    def hessian_products(self, vector: Array) -> Array:
        """Hessian of every sample times `vector`, (n_samples, n_params)."""
        return self.hessians @ vector

    def moments(self) -> Moments:
        """Full-batch gradient and Hessian, and the second moments of the noise."""
        gradient, hessian = self.gradients.mean(axis=0), self.hessians.mean(axis=0)
        noise = self.gradients - gradient
        cross = np.einsum("rij,rj->ij", self.hessians - hessian, noise) / self.n_samples
        return Moments(gradient, hessian, noise.T @ noise / self.n_samples, cross)

    def with_noise(self, amplitude: float) -> "Quadratics":
        """Return the problem with the same mean and every sample's deviation from it times `amplitude`."""
        gradient, hessian = self.gradients.mean(axis=0), self.hessians.mean(axis=0)
        return Quadratics(
            gradient + amplitude * (self.gradients - gradient),
            hessian + amplitude * (self.hessians - hessian),
            self.theta,
        )


@dataclass(frozen=True)
class LeastSquares:
    """Least squares l_r(theta) = 1/2 (features_r . theta - targets_r)^2.

    Attributes
    ----------
    features : (n_samples, n_params) ndarray
    targets : (n_samples,) ndarray
    theta : (n_params,) ndarray
        The point.
    """

    features: Array
    targets: Array
    theta: Array

    @property
    def n_samples(self) -> int:
        """Number of samples N."""
        return len(self.features)

    @property
    def n_params(self) -> int:
        """Number of parameters d."""
        return self.features.shape[1]

    @property
    def residuals(self) -> Array:
        """Residual features_r . theta - targets_r of every sample, (n_samples,)."""
        return self.features @ self.theta - self.targets

    @property
    def gradients(self) -> Array:
        """Per-sample gradients, (n_samples, n_params)."""
        return self.features * self.residuals[:, None]

    def hessian_row(self, i: int) -> Array:
        """Row `i` of every sample's Hessian, (n_samples, n_params)."""
        return self.features * self.features[:, i, None]

    def hessian_products(self, vector: Array) -> Array:
        """Hessian of every sample times `vector`, (n_samples, n_params)."""
        return self.features * (self.features @ vector)[:, None]

    def moments(self) -> Moments:
        """Full-batch gradient and Hessian, and the second moments of the noise; O(n_samples n_params^2)."""
        n_samples, features, gradients = self.n_samples, self.features, self.gradients
        gradient, hessian = gradients.mean(axis=0), features.T @ features / n_samples
        noise = gradients - gradient
        # mean of d_ij d_j: hess_r has entries a_i a_j, so the product is a_i (a_j grad_j)
        cross = features.T @ (features * noise) / n_samples
        return Moments(gradient, hessian, noise.T @ noise / n_samples, cross)

    def quadratics(self) -> Quadratics:
        """Return the same samples with every Hessian written out; n_samples n_params^2 numbers."""
        hessians = self.features[:, :, None] * self.features[:, None, :]
        return Quadratics(self.gradients, hessians, self.theta)


Problem = LeastSquares | Quadratics


def make_least_squares(n_samples: int, n_params: int, noise: float, seed: int) -> LeastSquares:
    """Draw a least-squares problem whose gradient dominates its noise.

    Features are one pattern times (1 + noise z) and residuals at theta are 1 + noise z', z standard normal.

    Parameters
    ----------
    n_samples, n_params : int
        >= 1.
    noise : float
        Relative spread of a single sample, >= 0.
    seed : int
        >= 0.

    Returns
    -------
    LeastSquares
    """
    rng = np.random.default_rng([seed, 0])
    pattern = rng.uniform(0.5, 1.5, n_params) * rng.choice([-1.0, 1.0], n_params)
    features = pattern * (1 + noise * rng.standard_normal((n_samples, n_params)))
    theta = rng.standard_normal(n_params)
    residuals = 1 + noise * rng.standard_normal(n_samples)
    return LeastSquares(features, features @ theta - residuals, theta)


def make_quadratics(n_samples: int, n_params: int, noise: float, seed: int) -> Quadratics:
    """Draw quadratics whose mean gradient and Hessian dominate their noise.

    Parameters
    ----------
    n_samples, n_params : int
        >= 1.
    noise : float
        Spread of a single sample relative to the mean, >= 0.
    seed : int
        >= 0.

    Returns
    -------
    Quadratics
    """
    rng = np.random.default_rng([seed, 1])
    gradient = rng.uniform(0.5, 1.5, n_params) * rng.choice([-1.0, 1.0], n_params)
    factor = rng.standard_normal((n_params, n_params))
    hessian = np.eye(n_params) + (factor + factor.T) / 2
    gradients = gradient * (1 + noise * rng.standard_normal((n_samples, n_params)))
    deviations = rng.standard_normal((n_samples, n_params, n_params))
    hessians = hessian + noise * (deviations + deviations.transpose(0, 2, 1)) / 2
    return Quadratics(gradients, hessians)


GENERATORS: dict[str, Callable[..., Problem]] = {
    "least-squares": make_least_squares,
    "quadratics": make_quadratics,
}
