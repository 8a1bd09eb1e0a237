r"""What trajectories over micro-batches tend to as the learning rate falls and memory grows with it; nothing is drawn.

With lr, 1 - beta1 and 1 - beta2 falling together at a fixed number of (learning rate times samples), noise averages
out and only the mean and the mean square of what the moments are fed with remain, elementwise, in time s = lr n:

    tau1 m' = g - m,     tau2 v' = g^2 + v(B) Sigma_jj - v,     theta' = -speed m/v^(1/2) (bias-corrected),

where B is the size of what is squared, a micro-batch or a batch, and `speed` 1 or, under the square-root rule,
kappa^(-1/2). A rule is invariant if speed (g^2 + v(B) Sigma_jj)^(-1/2) does not depend on kappa: always, if
micro-batches are squared and the speed is 1; without a mean only (g = 0, v = 1/B), if batches are squared and it is
kappa^(-1/2).
"""

import numpy as np
from numba import njit

from adam_minibatch_noise.theory import Array, batch_variance_factor
from sim.losses.landscapes import Landscape


def limit_trajectory(
    loss: Landscape,
    squared_size: int,
    speed: float,
    taus: tuple[float, float],
    horizon: float,
    n_steps: int,
) -> Array:
    """Integrate the limit by `n_steps` steps of the deterministic algorithm; the error is O(1/n_steps).

    Parameters
    ----------
    loss : Landscape
    squared_size : int
        Samples in whatever is squared, <= n_samples; drawn without replacement.
    speed : float
        > 0.
    taus : (float, float)
        Memories lr/(1 - beta) of both moments, > 0.
    horizon : float
        lr n at the end, > 0.
    n_steps : int
        >= 1; the steps must be shorter than the memories.

    Returns
    -------
    (n_steps + 1, n_params) ndarray
    """
    trajectory = np.empty((n_steps + 1, loss.start.size))
    trajectory[0] = loss.start
    share = float(batch_variance_factor(loss.n_samples, squared_size))
    step = horizon / n_steps
    decays = np.exp(-step / taus[0]), np.exp(-step / taus[1])
    _integrate(loss.gradient, loss.arrays, loss.n_samples, share, speed * step, decays, trajectory)
    return trajectory


# Not cached on disk: the jitted function that it is given belongs to another module.
@njit(nogil=True, error_model="numpy")
def _integrate(gradient, arrays, n_samples, share, step, decays, trajectory):
    d = trajectory.shape[1]
    sample, mean, square = np.empty(d), np.empty(d), np.empty(d)
    exp_avg, exp_avg_sq = np.zeros(d), np.zeros(d)
    decay1, decay2 = decays
    for t in range(len(trajectory) - 1):
        theta = trajectory[t]
        mean[:] = 0.0
        square[:] = 0.0
        for r in range(n_samples):
            sample[:] = 0.0
            gradient(theta, arrays, r, sample)
            for j in range(d):
                mean[j] += sample[j] / n_samples
                square[j] += sample[j] ** 2 / n_samples
        for j in range(d):
            fed = mean[j] ** 2 + share * (square[j] - mean[j] ** 2)
            exp_avg[j] = decay1 * exp_avg[j] + (1 - decay1) * mean[j]
            exp_avg_sq[j] = decay2 * exp_avg_sq[j] + (1 - decay2) * fed
            root = np.sqrt(exp_avg_sq[j] / (1 - decay2 ** (t + 1)))
            move = step * exp_avg[j] / (1 - decay1 ** (t + 1)) / root if root > 0 else 0.0
            trajectory[t + 1, j] = theta[j] - move
