"""E[Corr_t] of an algorithm at the last step of some epochs, from the moments of the samples at one point."""

from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.second_order import (
    adam_constants,
    adam_expectation,
    sgd_momentum_expectation,
)
from adam_minibatch_noise.expansion.weight_sums import weight_sums
from adam_minibatch_noise.theory import Array, Constants, Moments, batch_variance_factor

ALGORITHMS = ("sgd-momentum", "adam")
"""Algorithms whose E[Corr_t] is known."""


@dataclass(frozen=True)
class ExpectedCorr:
    """E[Corr_t] to second order in the noise; arrays have shape (n_params,).

    Attributes
    ----------
    zeroth : ndarray
        Corr_t without noise.
    second_order : ndarray
        What the noise adds.
    terms : dict of str to ndarray
        MBN1 .. MBN5 of Adam, whose sum is `second_order`; empty for SGD.
    constants : Constants or None
        FB and C1 .. C5 of Adam at this step, for eps -> 0.
    """

    zeroth: Array
    second_order: Array
    terms: dict[str, Array]
    constants: Constants | None


def expected_corr(
    moments: Moments,
    n_samples: int,
    batch_size: int,
    beta1: float,
    beta2: float = 0.0,
    eps_root: float = 0.0,
    n_epochs: int = 1,
    algorithm: str = "adam",
) -> ExpectedCorr:
    """Compute E[Corr_t] at the last step of `n_epochs` epochs, batches drawn without replacement.

    Exact to second order in the noise (`expansion.second_order`); for SGD with momentum to all orders where the
    losses are quadratic.

    Parameters
    ----------
    moments : Moments
        Of the samples at the point.
    n_samples, batch_size, n_epochs : int
        >= 1; `batch_size` divides `n_samples`.
    beta1 : float
        In [0, 1); the momentum of SGD.
    beta2, eps_root : float
        In [0, 1) and >= 0; of Adam alone.
    algorithm : str
        One of `ALGORITHMS`.

    Returns
    -------
    ExpectedCorr

    Raises
    ------
    InputError
        For another algorithm, a batch size that does not divide, or a component of the gradient that is 0 where
        `eps_root` is 0.
    """
    if algorithm not in ALGORITHMS:
        raise InputError(f"algorithm is {algorithm!r}, allowed: {', '.join(ALGORITHMS)}")
    if batch_size < 1 or n_samples % batch_size:
        raise InputError(f"batch_size is {batch_size}, allowed: a divisor of n_samples = {n_samples}")
    n_batches = n_samples // batch_size
    t = n_batches * n_epochs - 1
    v = float(batch_variance_factor(n_samples, batch_size))
    if algorithm == "sgd-momentum":
        return ExpectedCorr(*sgd_momentum_expectation(moments, beta1, n_batches, t, v), {}, None)
    sums = weight_sums((beta1, beta2), n_batches, t)
    zeroth, terms = adam_expectation(moments, sums, v, eps_root)
    return ExpectedCorr(zeroth, sum(terms.values(), np.zeros(())), terms, adam_constants(sums))
