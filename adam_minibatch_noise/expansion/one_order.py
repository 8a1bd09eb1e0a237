r"""Corr_t of an update rule along given orders of the batches, at a fixed point; also with the noise in chosen places.

    Corr_t = sum_k dF_t/dtheta_k u_{t,k} = sum_a dPhi/dz_a sum_{k<t} w^a_{t,k} psi_a'(grad L_k) * (hess L_k) u_{t,k},

u_{t,k} = sum_{l=k}^{t-1} F_l (Theorem 2.3 of Cattaneo and Shigida, 2026).
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.averaging import Weights
from adam_minibatch_noise.expansion.second_order import GRADIENT, HESSIAN, UPDATES
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.ranges import FINITE, within
from adam_minibatch_noise.theory import Array, Moments


def rule_updates(rule: UpdateRule, gradients: ArrayLike, theta: Array | None = None) -> Array:
    """Updates F_0 .. F_t at a fixed point.

    Parameters
    ----------
    rule, gradients, theta
        As in `rule_corr`.

    Returns
    -------
    (..., n_steps, n_params) ndarray
    """
    return _Orders(rule, _micro_batches(rule, within("gradients", gradients, FINITE)), theta).updates


def rule_corr(
    rule: UpdateRule, gradients: ArrayLike, hessians: ArrayLike, theta: Array | None = None
) -> Array:
    """First-order correction Corr_t at the last step of one or many orders of the batches, at a fixed point.

    Parameters
    ----------
    rule : UpdateRule
    gradients : (..., n_steps, n_params) array_like
        Batch gradients in the order in which the batches come; finite. For a rule that averages over micro-batches
        those of the micro-batches, (..., n_steps, n_micro_batches, n_params).
    hessians : (..., n_steps, n_params, n_params) array_like
        Symmetric; or (..., n_steps, n_micro_batches, n_params, n_params).
    theta : (n_params,) ndarray, optional
        The point itself, for a rule with weight decay.

    Returns
    -------
    (..., n_params) ndarray
        The memoryless iteration is theta - lr Main - lr^2 Corr, exact to O(lr^2).

    Raises
    ------
    InputError
        For arrays of other shapes, or weight decay without `theta`.
    """
    gradients, hessians = within("gradients", gradients, FINITE), within("hessians", hessians, FINITE)
    shape = (*gradients.shape, *gradients.shape[-1:])
    if hessians.shape != shape:
        raise InputError(f"hessians has shape {hessians.shape}, allowed: {shape}")
    orders = _Orders(rule, _micro_batches(rule, gradients), theta)
    hessians = hessians if rule.of_micro_batches else hessians[..., None, :, :]
    curved = np.einsum("...kmij,...kj->...kmi", hessians[..., :-1, :, :, :], orders.accumulated())
    corr: Array = orders.parts(rule.update(orders.averages[..., -1, :]).first, orders.slopes, curved).sum(
        axis=0
    )
    return corr


def _micro_batches(rule: UpdateRule, gradients: Array) -> Array:
    """Check the axes of gradients, and give those of whole batches one for a single micro-batch."""
    wanted = "n_steps, n_micro_batches, n_params" if rule.of_micro_batches else "n_steps, n_params"
    if gradients.ndim < 2 + rule.of_micro_batches or 0 in gradients.shape:
        raise InputError(
            f"gradients has shape {gradients.shape}, allowed for {rule.name}: (.., {wanted}), none of them 0"
        )
    return gradients if rule.of_micro_batches else gradients[..., None, :]


class _Orders:
    """Averages, updates and slopes of psi along orders of batches; gradients (..., n_steps, n_micro, n_params)."""

    def __init__(self, rule: UpdateRule, gradients: Array, theta: Array | None) -> None:
        self.rule, self.t = rule, gradients.shape[-3] - 1
        batches = gradients.mean(axis=-2, keepdims=True)
        psi = [
            (of_micro if average.of_micro_batches else of_batch)
            for average, of_micro, of_batch in zip(
                rule.averages, rule.functions(gradients), rule.functions(batches), strict=True
            )
        ]
        pairs = zip(rule.weights, psi, strict=True)
        self.averages = np.array([_along_steps(weights, p.value.mean(axis=-2)) for weights, p in pairs])
        self.slopes = [p.first[0][..., :-1, :, :] for p in psi]  # psi' of the batches k < t
        self.weights = [weights.at(self.t)[:-1] for weights in rule.weights]
        decay = rule.require_parameters(theta)
        self.updates: Array = rule.update(self.averages).value + (0.0 if decay is None else decay)

    def accumulated(self) -> Array:
        """Return u_{t,k} for k = 0..t-1, (..., t, n_params)."""
        backwards = self.updates[..., :-1, :][..., ::-1, :]
        future: Array = np.cumsum(backwards, axis=-2)[..., ::-1, :]
        return future

    def parts(self, first: Array, slopes: list[Array], curved: Array) -> Array:
        """Return dPhi/dz_a sum_k w^a_{t,k} mean over micro-batches of psi_a' * curved, (K, ..., n_params)."""
        sums = [
            np.einsum("k,...ki->...i", weights, (slope * curved).mean(axis=-2))
            for weights, slope in zip(self.weights, slopes, strict=True)
        ]
        parts: Array = first * np.array(sums)
        return parts


def _along_steps(weights: Weights, values: Array) -> Array:
    """Average values (..., n_steps, n_params) along the steps."""
    return np.swapaxes(weights.average(np.swapaxes(values, -1, -2)), -1, -2)


class SwitchedCorr:
    """Corr_t of many orders of the batches, with the noise in chosen places only (for `second_order_terms`).

    Elsewhere the full-batch gradient and Hessian stand in. What two noises contribute together is found by inclusion
    and exclusion: f(a, b) - f(a) - f(b) + f(none), and f(a) - f(none) where both sit in the same place. To second
    order the sum over all pairs of places is the noise part of E[Corr_t].

    Parameters
    ----------
    rule : UpdateRule
    gradients : (n_orders, n_steps, n_params) ndarray
        Batch gradients in the order in which the batches come; t = n_steps - 1. For a rule that averages over
        micro-batches those of the micro-batches, (n_orders, n_steps, n_micro_batches, n_params).
    hessians : (n_orders, n_steps, n_params, n_params) ndarray
        Or (n_orders, n_steps, n_micro_batches, n_params, n_params).
    moments : Moments
        Supplies the full-batch gradient and Hessian.
    theta : (n_params,) ndarray, optional
        The point itself, for a rule with weight decay.
    """

    def __init__(
        self,
        rule: UpdateRule,
        gradients: Array,
        hessians: Array,
        moments: Moments,
        theta: Array | None = None,
    ) -> None:
        still = np.broadcast_to(moments.gradient, (1, *gradients.shape[1:]))
        # index 0: full batch, 1: noisy
        self.rule = rule
        self.orders = [_Orders(rule, _micro_batches(rule, g), theta) for g in (still, gradients)]
        hessians = hessians if rule.of_micro_batches else hessians[:, :, None]
        self.hessians = [moments.hessian[None, None, None], hessians[:, :-1]]
        self.n_orders = len(gradients)

    def parts(self, places: Iterable[str] = ()) -> Array:
        """Return the summands of Corr_t, one an average, with noise in these places: (K, n_orders or 1, n_params)."""
        noisy = set(places)
        averages = np.array(
            np.broadcast_arrays(
                *(self.orders[f"z{a + 1}" in noisy].averages[a] for a in range(len(self.rule.averages)))
            )
        )
        source = self.orders[GRADIENT in noisy]
        updates = self.orders[UPDATES in noisy].accumulated()
        curved = np.einsum("pkmij,pkj->pkmi", self.hessians[HESSIAN in noisy], updates, optimize=True)
        return source.parts(self.rule.update(averages[..., -1, :]).first, source.slopes, curved)

    def pair(self, a: Iterable[str], b: Iterable[str]) -> Array:
        """Return what noise in the places `a` and in the places `b` contributes together, (K, n_orders, n_params).

        Parameters
        ----------
        a, b : iterables of str
            The same, or disjoint.
        """
        sets = [(1, a), (-1, ())] if set(a) == set(b) else [(1, (*a, *b)), (-1, a), (-1, b), (1, ())]
        total = np.zeros((len(self.rule.averages), self.n_orders, self.hessians[0].shape[-1]))
        for sign, places in sets:
            total += sign * self.parts(places)
        return total
