"""E[Corr_t] of an optimiser at the last step of some epochs, from the moments of the samples at one point."""

from dataclasses import dataclass

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.constants import rule_constants
from adam_minibatch_noise.expansion.registry import LINEAR
from adam_minibatch_noise.expansion.second_order import second_order_terms
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.expansion.weight_sums import weight_sums
from adam_minibatch_noise.theory import Array, Constants, Moments, batch_variance_factor


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
        MBN1 .. MBN5, whose sum is `second_order`; MBN4 alone for SGD with momentum, where no other noises meet.
    constants : Constants or None
        FB and C1 .. C5 at this step, for eps -> 0; None where the optimiser is not scale-invariant.
    """

    zeroth: Array
    second_order: Array
    terms: dict[str, Array]
    constants: Constants | None


def expected_corr(
    rule: UpdateRule,
    moments: Moments,
    n_samples: int,
    batch_size: int,
    n_epochs: int = 1,
    micro_batch_size: int | None = None,
    theta: Array | None = None,
) -> ExpectedCorr:
    """Compute E[Corr_t] at the last step of `n_epochs` epochs, batches drawn without replacement.

    Exact to second order in the noise (`adam_minibatch_noise.expansion.second_order_terms`); for SGD with momentum to
    all orders where the losses are quadratic.

    Parameters
    ----------
    rule : UpdateRule
        Such as ``make_rule("nadam", {"beta1": 0.9, "beta2": 0.99})``.
    moments : Moments
        Of the samples at the point.
    n_samples, batch_size, n_epochs : int
        >= 1; `batch_size` divides `n_samples`.
    micro_batch_size : int, optional
        Divides `batch_size`; of a rule that averages over micro-batches.
    theta : (n_params,) ndarray, optional
        The point itself, for a rule with weight decay.

    Returns
    -------
    ExpectedCorr

    Raises
    ------
    InputError
        For a batch size that does not divide, or as `second_order_terms`.
    """
    if batch_size < 1 or n_samples % batch_size:
        raise InputError(f"batch_size is {batch_size}, allowed: a divisor of n_samples = {n_samples}")
    v_micro = None
    if rule.of_micro_batches:
        if micro_batch_size is None or micro_batch_size < 1 or batch_size % micro_batch_size:
            raise InputError(
                f"micro_batch_size is {micro_batch_size}, allowed: a divisor of batch_size = {batch_size}"
            )
        v_micro = float(batch_variance_factor(n_samples, micro_batch_size))
    n_batches = n_samples // batch_size
    sums = weight_sums(rule.weights, n_batches, n_batches * n_epochs - 1)
    v = float(batch_variance_factor(n_samples, batch_size))
    zeroth, terms = second_order_terms(rule, moments, sums, v, v_micro, theta)
    if rule.formula == LINEAR:
        terms = {"MBN4": terms["MBN4"]}
    constants = rule_constants(rule, sums) if rule.is_scale_invariant else None
    return ExpectedCorr(zeroth, np.sum(list(terms.values()), axis=0), terms, constants)
