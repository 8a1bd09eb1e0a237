"""Exponential averages: how much the batch of step k weighs in an average after step l.

Every average has weights that fall off geometrically, except the weight of the newest batch, which may be any:

    w_{l,k} = past_l decay^(l-1-k)  for k < l,     w_{l,l} = current_l.

All that depends on time in an optimiser's expectation follows from the decay and the two factors (`weight_sums`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from adam_minibatch_noise.ranges import BETA, within
from adam_minibatch_noise.theory import Array, one_minus_power


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of one average; arrays of decays, for many settings at once, have a last axis of length 1.

    Attributes
    ----------
    decay : (..., 1) ndarray
        In [0, 1).
    past, current : callable
        Of the steps l (n_steps,), whole numbers from 0 on or infinity, to the factors (..., n_steps); `past` counts
        from l = 1 on.
    unit_mass : bool
        Whether the weights of every step sum to 1.
    """

    decay: Array
    past: Callable[[Array], Array]
    current: Callable[[Array], Array]
    unit_mass: bool = True

    def at(self, t: int) -> Array:
        """Weights of steps 0..t after step t, (..., t + 1)."""
        last = np.array([float(t)])
        past = self.past(last) * self.decay ** np.arange(t - 1.0, -1.0, -1.0) if t else self.decay[..., :0]
        return np.concatenate((past, np.broadcast_to(self.current(last), (*past.shape[:-1], 1))), axis=-1)

    def mass(self, steps: Array) -> Array:
        """Sum of the weights after each of the steps, (..., n_steps)."""
        if self.unit_mass:
            return np.ones((*self.decay.shape[:-1], len(steps)))
        return self.past(np.maximum(steps, 1)) * powers_sum(self.decay, steps) + self.current(steps)

    def average(self, values: Array) -> Array:
        """Average `values` (..., n_steps) along their last axis, after every step; of one decay alone."""
        steps = np.arange(float(values.shape[-1]))
        averages: Array = self.current(steps) * values
        averages[..., 1:] += self.past(steps[1:]) * decayed_sums(float(self.decay[0]), values)[..., :-1]
        return averages


def moving_average(beta: ArrayLike) -> Weights:
    """Exponential moving average with bias correction, (1 - beta) beta^(l-k)/(1 - beta^(l+1)): Definition 3.1."""
    decay, share = _decay(beta)
    return Weights(
        decay,
        past=lambda steps: share * decay / one_minus_power(decay, steps + 1),
        current=lambda steps: share / one_minus_power(decay, steps + 1),
    )


def momentum_sum(beta: ArrayLike) -> Weights:
    """The velocity of heavy-ball momentum, beta^(l-k)."""
    decay, _ = _decay(beta)
    return Weights(decay, lambda steps: _constant(decay, steps), lambda steps: _constant(1.0, steps), False)


def nesterov_sum(beta: ArrayLike) -> Weights:
    """The velocity one step ahead, as PyTorch's ``nesterov=True``: beta times the velocity plus the gradient."""
    decay, _ = _decay(beta)
    return Weights(
        decay, lambda steps: _constant(decay**2, steps), lambda steps: _constant(1 + decay, steps), False
    )


def newest_batch() -> Weights:
    """No average: the batch of the step alone."""
    return Weights(np.zeros(1), lambda steps: _constant(0.0, steps), lambda steps: _constant(1.0, steps))


def nadam_average(beta: ArrayLike) -> Weights:
    """NAdam's first moment: beta times the average plus (1 - beta) times the gradient, made to sum to 1."""
    decay, share = _decay(beta)
    return Weights(
        decay,
        past=lambda steps: share * decay**2 / one_minus_power(decay, steps + 2),
        current=lambda steps: share * (1 + decay) / one_minus_power(decay, steps + 2),
    )


def lion_average(beta1: ArrayLike, beta2: ArrayLike) -> Weights:
    """Lion's: beta1 times the moving average (beta2) up to the step before, plus (1 - beta1) times the gradient."""
    _, now = _decay(beta1)
    decay, share = _decay(beta2)
    return Weights(
        decay,
        past=lambda steps: (1 - now) * share / one_minus_power(decay, steps),
        current=lambda steps: np.where(steps == 0, 1.0, now),
    )


def _decay(beta: ArrayLike) -> tuple[Array, Array]:
    """Return beta and 1 - beta with a last axis for the steps."""
    decay = within("beta", beta, BETA)[..., None]
    return decay, 1 - decay


def _constant(value: float | Array, steps: Array) -> Array:
    return value + np.zeros_like(steps)


def powers_sum(decay: Array, n: Array, log_decay: Array | None = None, share: Array | None = None) -> Array:
    """Return 1 + decay + ... + decay^(n-1), n >= 0.

    Parameters
    ----------
    decay : ndarray
        In [0, 1).
    n : ndarray
        Whole numbers or infinity.
    log_decay, share : ndarray, optional
        log(decay) and 1 - decay, where the caller knows them to more digits.
    """
    share = 1 - decay if share is None else share
    with np.errstate(divide="ignore", invalid="ignore"):
        log_decay = np.log1p(decay - 1) if log_decay is None else log_decay
        return np.where(n > 0, -np.expm1(n * log_decay), 0.0) / share


def decayed_sums(beta: float, values: Array) -> Array:
    """Return sum_{p<=l} beta^(l-p) values_p for every l of the last axis, in log2(n_steps) passes."""
    sums, reach = np.array(values, np.float64), 1  # sums over the last `reach` steps
    while reach < sums.shape[-1] and beta > 0:
        sums[..., reach:] += beta * sums[..., :-reach]
        beta, reach = beta * beta, 2 * reach
    return sums
