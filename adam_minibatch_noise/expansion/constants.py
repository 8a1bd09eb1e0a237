"""FB, C1 .. C5 and C_total of scale-invariant optimisers: Proposition 3.3 of the paper for any of them.

Where Phi(psi_1(g), psi_2(g), ..) = f sign(g) as eps -> 0, E[Corr_j] |g_j| is the sum of FB d_j|g|_1 and five noise
terms (`adam_minibatch_noise.theory.expected_corr_terms`), with constants that depend on the averages alone: they are
the expectation of one parameter with gradient, Hessian and noise moments 1. f is 1 for Adam and 1 + alpha for
AdEMAMix; as Corr is of degree two in the update, optimisers are compared at the same step size by their constants
over f^2 (`step_size`). Weight decay has no part in them.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.second_order import second_order_terms
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.expansion.weight_sums import WeightSums, limit_weight_sums, main_sums
from adam_minibatch_noise.ranges import NONNEGATIVE, within
from adam_minibatch_noise.theory import Array, Constants, Moments

MainSums = tuple[Array, Array, Array, Array]
"""What `weight_sums.main_sums` returns."""
_ONE = np.ones((1, 1))


def rule_constants(rule: UpdateRule, sums: WeightSums) -> Constants:
    """Coefficients of the six terms of Proposition 3.3 for a scale-invariant rule, eps -> 0.

    Parameters
    ----------
    rule : UpdateRule
    sums : WeightSums
        Its own: of a finite epoch (`weight_sums`), or of the limit (`limit_weight_sums`), where those of Adam equal the
        closed forms of `theory`.

    Raises
    ------
    InputError
        If the rule is not scale-invariant.
    """
    rule = replace(_scale_invariant(rule), weight_decay=0.0)
    zeroth, terms = second_order_terms(rule, Moments(_ONE[0], _ONE, _ONE, _ONE), sums, 1.0, 1.0)
    return Constants(float(zeroth[0]), *(float(term[0]) for term in terms.values()))


def step_size(rule: UpdateRule) -> float:
    """Return f, the absolute update of a scale-invariant rule without noise, eps -> 0."""
    rule = _scale_invariant(rule)
    return float(rule.update(np.array([psi.value for psi in rule.functions(_ONE[0])])).value[0])


def main_constants(rule: UpdateRule, sums: MainSums, scatter: float = 0.0) -> tuple[Array, Array, Array]:
    """FB, C1 and C2 of a scale-invariant rule, from what `expansion.weight_sums.main_sums` returns.

    Parameters
    ----------
    rule : UpdateRule
    sums : (lag, product, lag_noise, inner_product)
        They may have axes of decays and of a correlation.
    scatter : float
        Noise-to-signal ratio of a micro-batch less that of a batch, over that of a batch, for rules that average over
        micro-batches; >= 0.

    Returns
    -------
    FB, C1, C2 : ndarray
        With the axes of the sums; C1 and C2 per noise-to-signal ratio of a batch.
    """
    rule = _scale_invariant(rule)
    lag, product, lag_noise, inner = sums[0][..., 0], sums[1], sums[2][..., 0], sums[3][..., 0]
    psi = rule.functions(np.ones(()))
    value, d1, d2, d3 = (
        np.array([getattr(p, name).reshape(()) for p in psi])
        for name in ("value", "first", "second", "third")
    )
    phi = rule.update(value)
    micro = np.array([1.0 + scatter * average.of_micro_batches for average in rule.averages])
    bend = 0.5 * micro * d2  # of the averages, per unit of noise
    outer, slopes = phi.first * d1, np.multiply.outer(d1, d1)
    forward = phi.value * np.einsum("a,a...->...", outer, lag)
    at_once = d1 * (phi.second @ bend) + 0.5 * micro * phi.first * d3
    c1 = phi.value * (
        np.einsum("a,a...->...", at_once, lag)
        + 0.5 * np.einsum("a,abc,bc,bc...,a...->...", d1, phi.third, slopes, product, lag)
        + np.einsum("ab,ab...->...", np.outer(d2, d1) * phi.second, lag_noise)
    )
    c2 = np.einsum("a,a...->...", outer * (phi.first @ bend), lag) + 0.5 * np.einsum(
        "a,bc,abc...->...", outer, phi.second * slopes, inner
    )
    return forward, c1, c2


def rule_c_total(
    rule: UpdateRule,
    lam: ArrayLike,
    n_batches: int,
    n_epochs: int = 1,
    correlation: float | None = None,
    lam_micro: ArrayLike | None = None,
) -> Array:
    """C_total at the last step of a finite number of finite epochs, for a scale-invariant rule.

    Positive: |g|_1 is penalised (flat minima); negative: it is rewarded.

    Parameters
    ----------
    rule : UpdateRule
    lam : array_like
        Noise-to-signal ratio of a batch gradient (`adam_minibatch_noise.theory.noise_to_signal`), >= 0.
    n_batches, n_epochs : int
        Batches an epoch and epochs, >= 1.
    correlation : float, optional
        Of two batches of an epoch, see `weight_sums`; needed where an epoch leaves samples out.
    lam_micro : array_like, optional
        Noise-to-signal ratio of a micro-batch gradient, >= lam, for a rule that averages over micro-batches.

    Returns
    -------
    ndarray
        FB + (C1 + C2) lam, of the shape of `lam`.

    Raises
    ------
    InputError
        If the rule is not scale-invariant, or lacks `lam_micro`.
    """
    sums = main_sums(rule.weights, n_batches, n_batches * n_epochs - 1, correlation)
    return _total(rule, sums, lam, lam_micro)


def limit_c_total(rule: UpdateRule, lam: ArrayLike, lam_micro: ArrayLike | None = None) -> Array:
    """The limit of `rule_c_total` as the number of batches grows; parameters and errors as there.

    With arrays of decays, (n_decays,), lam is a number or has its axes before theirs.
    """
    sums = limit_weight_sums(rule.weights)
    return _total(rule, (sums.lag, sums.product, sums.lag_noise, sums.inner_product), lam, lam_micro)


def exact_c_total(
    beta1: float,
    beta2: float,
    lam: float,
    n_batches: int,
    n_epochs: int = 1,
    correlation: float | None = None,
) -> float:
    """C_total of Adam, as `rule_c_total`; `adam_minibatch_noise.theory.c_total` is its limit."""
    return float(
        rule_c_total(
            make_rule("adam", {"beta1": beta1, "beta2": beta2}), lam, n_batches, n_epochs, correlation
        )
    )


def _total(rule: UpdateRule, sums: MainSums, lam: ArrayLike, lam_micro: ArrayLike | None) -> Array:
    lam = within("lam", lam, NONNEGATIVE)
    forward, c1, c2 = main_constants(rule, sums)
    noise = (c1 + c2) * lam
    if rule.of_micro_batches:
        if lam_micro is None:
            raise InputError(
                f"{rule.name} averages over micro-batches: needs their noise-to-signal ratio lam_micro"
            )
        # linear in the scatter of the micro-batches inside a batch
        _, more1, more2 = main_constants(rule, sums, scatter=1.0)
        noise = noise + (more1 + more2 - c1 - c2) * (within("lam_micro", lam_micro, NONNEGATIVE) - lam)
    total: Array = forward + noise
    return total


def _scale_invariant(rule: UpdateRule) -> UpdateRule:
    rule.require_scale_invariance()
    return rule.without_eps()
