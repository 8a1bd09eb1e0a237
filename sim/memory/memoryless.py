r"""Iterations with memory and their memoryless twins (Theorem 2.3 of [1]_), on losses known by their derivatives.

With memory: theta_{t+1} = theta_t - lr F_t(theta_t, ..., theta_0). Without: every batch gradient and Hessian
is taken at the current theta,

    theta_{t+1} = theta_t - lr Main_t(theta_t) - lr^2 Corr_t(theta_t).

F_t is sum_k beta1^{t-k} grad L_k for SGD with momentum, and M_t/R_t with `eps_root` inside the root for Adam.
Weights of steps that lie so far back that they are below `NEGLIGIBLE` times the newest are taken as 0.

References
----------
.. [1] Cattaneo and Shigida, "The Effect of Mini-Batch Noise on the Implicit Bias of Adam",
   arXiv:2602.01642, 2026.
"""

import math
from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array
from sim.losses.landscapes import Landscape
from sim.memory.memoryless_kernels import main_and_corr_at, run_with_memory, run_without_memory

NEGLIGIBLE = 1e-18
"""Relative weight below which a past step is left out: far below the rounding of a sum."""
ROUNDING_MARGIN = 1000.0
"""A distance counts only if it is that many times the rounding of theta; the sums over steps are compensated."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm with memory.

    Attributes
    ----------
    name : {"sgd-momentum", "adam"}
    beta1 : float
        In [0, 1): decay rate of the gradient, of Adam's first moment.
    beta2 : float
        In [0, 1): decay rate of Adam's second moment; not used by SGD with momentum.
    eps_root : float
        >= 0, inside Adam's root; not used by SGD with momentum.
    """

    name: str
    beta1: float
    beta2: float = 0.0
    eps_root: float = 0.0

    @property
    def is_adam(self) -> bool:
        """Whether the update is divided by a root mean square."""
        return self.name == "adam"

    @property
    def numbers(self) -> tuple[float, float, float, bool]:
        """The settings as a kernel takes them."""
        return float(self.beta1), float(self.beta2), float(self.eps_root), self.is_adam

    @property
    def memory(self) -> float:
        """Length of the longest moving average in steps, 1/(1 - beta)."""
        return 1 / (1 - max(self.beta1, self.beta2 if self.is_adam else 0.0))

    @property
    def n_lags(self) -> int:
        """Number of steps whose weight is at least `NEGLIGIBLE` times the newest, >= 1."""
        longest = max(self.beta1, self.beta2 if self.is_adam else 0.0)
        return 1 if longest == 0 else 1 + math.floor(math.log(NEGLIGIBLE) / math.log(longest))


def with_memory(landscape: Landscape, algorithm: Algorithm, batches: np.ndarray, lr: float) -> Array:
    """Run the algorithm itself: every gradient at the point where its step was taken.

    Parameters
    ----------
    landscape : Landscape
    algorithm : Algorithm
    batches : (n_steps, batch_size) ndarray of int
        Samples of the batch of every step.
    lr : float
        > 0.

    Returns
    -------
    (n_steps + 1, n_params) ndarray
        theta_0 .. theta_{n_steps}.
    """
    trajectory = np.empty((len(batches) + 1, landscape.start.size))
    trajectory[0] = landscape.start
    run_with_memory(landscape.derivatives, landscape.arrays, batches, lr, algorithm.numbers, trajectory)
    return trajectory


def without_memory(
    landscape: Landscape, algorithm: Algorithm, batches: np.ndarray, lr: float, correction: float = 1.0
) -> Array:
    """Run the memoryless iteration theta - lr Main_t(theta) - correction lr^2 Corr_t(theta).

    Implements Theorem 2.3 of [1]_.

    Parameters
    ----------
    landscape, algorithm, batches, lr
        As in `with_memory`.
    correction : float
        1: the theorem's iteration; 0: without the correction.

    Returns
    -------
    (n_steps + 1, n_params) ndarray
        theta_0 .. theta_{n_steps}.

    Notes
    -----
    With `correction` = 1 the distance to `with_memory` is O(lr^2), with any other value O(lr), over
    O(1/lr) steps.
    """
    members, ids = np.unique(batches, axis=0, return_inverse=True)
    trajectory = np.empty((len(batches) + 1, landscape.start.size))
    trajectory[0] = landscape.start
    run_without_memory(
        landscape.derivatives, landscape.arrays, landscape.n_samples, members, ids, algorithm.n_lags, lr,
        correction, algorithm.numbers, trajectory,
    )  # fmt: skip
    return trajectory


def distance(
    landscape: Landscape, algorithm: Algorithm, batches: np.ndarray, lr: float, correction: float
) -> float:
    """Largest distance (2-norm) between the trajectories with and without memory.

    Parameters
    ----------
    landscape, algorithm, batches, lr, correction
        As in `without_memory`.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If a trajectory is not finite, or the distance is too close to the rounding of the arithmetic.
    """
    true = with_memory(landscape, algorithm, batches, lr)
    memoryless = without_memory(landscape, algorithm, batches, lr, correction)
    with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported below
        gap = np.linalg.norm(memoryless - true, axis=1).max()
    if not np.isfinite(gap):
        raise InputError(
            f"{algorithm.name} at learning rate {lr:.3g} diverges or divides by zero, "
            "allowed: a smaller --lr-max, or --eps-root > 0"
        )
    rounding = np.finfo(float).eps * np.linalg.norm(true, axis=1).max()
    if gap < ROUNDING_MARGIN * rounding:
        raise InputError(
            f"{algorithm.name} at learning rate {lr:.3g}: the distance {gap:.3g} is within {ROUNDING_MARGIN:g} "
            f"times the rounding {rounding:.3g}, allowed: larger learning rates, and betas that are memory"
        )
    return float(gap)


def main_and_corr(
    gradients: Array, hessians: Array, algorithm: Algorithm, batches: np.ndarray
) -> tuple[Array, Array]:
    """Main_t and Corr_t at one point, t the last step of a sequence of batches.

    Implements Theorem 2.3 of [1]_: Main_t = F_t and, with u_{t,k} = sum_{l=k}^{t-1} F_l,
    Corr_t = sum_{k<t} (dF_t/dtheta_k) u_{t,k}; for Adam L_t/R_t - M_t P_t/R_t^3.

    Parameters
    ----------
    gradients : (n_samples, n_params) ndarray
        Of every sample, at the point.
    hessians : (n_samples, n_params, n_params) ndarray
    algorithm : Algorithm
    batches : (t + 1, batch_size) ndarray of int

    Returns
    -------
    main, corr : (n_params,) ndarray
    """
    members, ids = np.unique(batches, axis=0, return_inverse=True)
    window, t = ids[-algorithm.n_lags :], len(ids) - 1
    return main_and_corr_at(gradients, hessians, members, window, t, algorithm.numbers, True)
