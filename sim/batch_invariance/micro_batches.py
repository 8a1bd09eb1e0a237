r"""Adam and batch-size invariant Adam over batches made of micro-batches, in Numba.

With g_{t,1}, ..., g_{t,kappa} the mean gradients of the micro-batches of batch t = 1, 2, ..., elementwise,

    m += (1 - beta1)/kappa g_{t,a},   v += (1 - beta2)/kappa g_{t,a}^2      for every micro-batch a,
    theta <- theta - lr m/(1 - beta1^t) / sqrt(v/(1 - beta2^t) + eps_root),
    m <- beta1 m,   v <- beta2 v,

the order of updates of [1]_; it carries (beta m) over a step where others carry m. Adam differs in one place: it adds
(1 - beta2) (sum_a g_{t,a} / kappa)^2 to v. The weight decay of [1]_ comes first: theta <- (1 - lr weight_decay) theta.

References
----------
.. [1] Wang and Aitchison, "Batch size invariant Adam", arXiv:2402.18824, 2024.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Array, one_minus_power
from sim.losses.first_order import FirstOrderLoss


@dataclass(frozen=True)
class Settings:
    """Settings of one run.

    Attributes
    ----------
    kappa : int
        Micro-batches a batch, >= 1.
    lr : float
        > 0.
    beta1, beta2 : float
        In [0, 1).
    eps_root, weight_decay : float
        >= 0.
    squares_micro_batches : bool
        True: batch-size invariant Adam; False: Adam.
    """

    kappa: int
    lr: float
    beta1: float
    beta2: float
    eps_root: float = 0.0
    weight_decay: float = 0.0
    squares_micro_batches: bool = True

    def __post_init__(self) -> None:
        for name, low, below in (
            ("kappa", 1, np.inf),
            ("lr", 5e-324, np.inf),
            ("beta1", 0, 1),
            ("beta2", 0, 1),
            ("eps_root", 0, np.inf),
            ("weight_decay", 0, np.inf),
        ):
            value = getattr(self, name)
            if not low <= value < below:
                raise InputError(f"{name} is {value}, allowed: >= {low:g} and < {below:g}")


def micro_batch_trajectory(
    loss: FirstOrderLoss, settings: Settings, micro_batches: np.ndarray, every: int = 1
) -> Array:
    """Run over a fixed sequence of micro-batches, `settings.kappa` of them a step.

    Parameters
    ----------
    loss : FirstOrderLoss
    settings : Settings
    micro_batches : (n_micro_batches, micro_batch_size) ndarray of int
        Samples in the order in which they are used, the same for every kappa.
    every : int
        Micro-batches between two points that are kept, a multiple of kappa and a divisor of n_micro_batches.

    Returns
    -------
    (n_micro_batches / every + 1, n_params) ndarray
        theta after 0, every, 2 every, ... micro-batches.

    Raises
    ------
    InputError
        If the numbers of micro-batches do not divide each other.
    """
    n_micro_batches = len(micro_batches)
    if every % settings.kappa or every < 1 or n_micro_batches % every:
        raise InputError(
            f"every is {every}, allowed: a multiple of kappa = {settings.kappa} that divides the "
            f"{n_micro_batches} micro-batches"
        )
    trajectory = np.empty((n_micro_batches // every + 1, loss.start.size))
    trajectory[0] = loss.start
    s, steps = settings, np.arange(1, n_micro_batches // settings.kappa + 1)
    numbers = s.kappa, float(s.lr), float(s.beta1), float(s.beta2), float(s.eps_root), float(s.weight_decay)
    biases = one_minus_power(s.beta1, steps), one_minus_power(s.beta2, steps)
    _run(
        loss.gradient,
        loss.arrays,
        micro_batches,
        every,
        numbers,
        biases,
        s.squares_micro_batches,
        trajectory,
    )
    return trajectory


# Not cached on disk: the jitted function that it is given belongs to another module.
@njit(nogil=True, error_model="numpy")
def _run(gradient, arrays, micro_batches, every, numbers, biases, squares_micro_batches, trajectory):
    kappa, lr, beta1, beta2, eps_root, weight_decay = numbers
    d, share = trajectory.shape[1], 1 / micro_batches.shape[1]
    theta, micro, mean = trajectory[0].copy(), np.empty(d), np.zeros(d)
    exp_avg, exp_avg_sq = np.zeros(d), np.zeros(d)
    for i in range(len(micro_batches)):
        micro[:] = 0.0
        for r in micro_batches[i]:
            gradient(theta, arrays, r, micro)
        for j in range(d):
            micro[j] *= share
            mean[j] += micro[j] / kappa
            if squares_micro_batches:
                exp_avg_sq[j] += (1 - beta2) / kappa * micro[j] ** 2
        if (i + 1) % kappa == 0:
            bias1, bias2 = biases[0][i // kappa], biases[1][i // kappa]
            for j in range(d):
                exp_avg[j] += (1 - beta1) * mean[j]
                if not squares_micro_batches:
                    exp_avg_sq[j] += (1 - beta2) * mean[j] ** 2
                root = np.sqrt(exp_avg_sq[j] / bias2 + eps_root)
                theta[j] *= 1 - lr * weight_decay
                if root > 0:  # no gradient yet: 0/0 moves nothing
                    theta[j] -= lr * exp_avg[j] / bias1 / root
                exp_avg[j] *= beta1
                exp_avg_sq[j] *= beta2
                mean[j] = 0.0
        if (i + 1) % every == 0:
            trajectory[(i + 1) // every] = theta
