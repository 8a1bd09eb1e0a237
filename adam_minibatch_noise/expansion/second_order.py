r"""The expectation of Corr_t over batch orders, exact to second order in the noise; nothing is sampled.

Goes beyond Proposition 3.3 of Cattaneo and Shigida (2026): any optimiser with exponential averages (`update_rule`),
finite t, finite number of batches an epoch, several epochs, samples left out. With u_{t,k} = sum_{l=k}^{t-1} F_l,

    Corr_{t,j} = sum_a (dPhi/dz_a)_j sum_{k<t} w^a_{t,k} psi_a'(g_{k,j}) (hess L_k u_{t,k})_j

is a smooth function of the stacked noise D of all batches;

    E[Corr_t] = Corr_t at D = 0  +  1/2 sum_{p,q} Cov_pq K_pq  +  O(E d^3),

where K_pq, the second derivative in the noise of batches p and q, is a product of a few weight sequences, so
that the sums over p and q are those of `expansion.weight_sums`. Two noises meet in two of these places: the averages
"z1", "z2", .. in dPhi/dz_a, the "gradient" in psi_a', the "hessian", and the "updates" u_{t,k}. The first two kinds
together are the outer gradients of Proposition 3.3, and the pairs of {outer, hessian, updates} its five terms.
"""

import numpy as np

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.update_rule import UpdateRule
from adam_minibatch_noise.expansion.weight_sums import WeightSums
from adam_minibatch_noise.theory import Array, Moments

GRADIENT, HESSIAN, UPDATES = "gradient", "hessian", "updates"
TERMS = ("MBN1", "MBN2", "MBN3", "MBN4", "MBN5")
Line = tuple[int, str, str]
"""Average a of dPhi/dz_a, from 0, and the two places where noises meet."""


def term_of(line: Line) -> str:
    """Name the term of Proposition 3.3 that a line belongs to."""
    places = set(line[1:])
    if places == {UPDATES}:
        return "MBN2"
    if places == {HESSIAN, UPDATES}:
        return "MBN4"
    return "MBN3" if HESSIAN in places else "MBN5" if UPDATES in places else "MBN1"


def places_of(rule: UpdateRule) -> tuple[str, ...]:
    """Return the places of Corr_t where a batch's noise enters."""
    return (*(f"z{a + 1}" for a in range(len(rule.averages))), GRADIENT, HESSIAN, UPDATES)


def term_places(rule: UpdateRule) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the two groups of places whose noises meet in each of `TERMS`."""
    *outer, hessian, updates = places_of(rule)
    pairs = (
        (outer, outer),
        ((updates,),) * 2,
        (outer, (hessian,)),
        ((hessian,), (updates,)),
        (outer, (updates,)),
    )
    return {name: (tuple(a), tuple(b)) for name, (a, b) in zip(TERMS, pairs, strict=True)}


def second_order_terms(
    rule: UpdateRule,
    moments: Moments,
    sums: WeightSums,
    variance_factor: float,
    micro_variance_factor: float | None = None,
    theta: Array | None = None,
) -> tuple[Array, dict[str, Array]]:
    """E[Corr_t] to second order in the noise, term by term.

    Parameters
    ----------
    rule : UpdateRule
    moments : Moments
        At the fixed point.
    sums : WeightSums
        `weight_sums` of the rule at step t; steps and epochs are counted in batches.
    variance_factor, micro_variance_factor : float
        v of `adam_minibatch_noise.theory.batch_variance_factor` for the size of a batch and of a micro-batch; the
        second is of no effect unless the rule averages over micro-batches.
    theta : (n_params,) ndarray, optional
        The point itself, for a rule with weight decay.

    Returns
    -------
    zeroth : (n_params,) ndarray
        Corr_t without noise.
    second_order : dict of str to (n_params,) ndarray
        Keys MBN1 .. MBN5, the five pairs of places where two noises meet, as in Proposition 3.3.

    Raises
    ------
    InputError
        If a component of the gradient is 0 where the formula or one of its derivatives is not finite, weight decay
        lacks `theta`, or micro-batches their variance factor.
    """
    zeroth, lines = second_order_lines(rule, moments, sums, variance_factor, micro_variance_factor, theta)
    terms = {name: np.zeros_like(zeroth) for name in TERMS}
    for line, value in lines.items():
        terms[term_of(line)] += value
    return zeroth, terms


def second_order_lines(
    rule: UpdateRule,
    moments: Moments,
    sums: WeightSums,
    variance_factor: float,
    micro_variance_factor: float | None = None,
    theta: Array | None = None,
) -> tuple[Array, dict[Line, Array]]:
    """E[Corr_t] to second order, every pair of places by itself: Proposition A.6 of the paper, for any optimiser.

    Parameters and errors as in `second_order_terms`. A line is linear in the correlation of two batches, so that
    correlation 0 in the weight sums leaves the noise of a batch with itself, and the rest is that of different batches.

    Returns
    -------
    zeroth : (n_params,) ndarray
    lines : dict of Line to (n_params,) ndarray
    """
    v, micro = _variance_factors(rule, variance_factor, micro_variance_factor)
    g, hessian, decay = moments.gradient, moments.hessian, rule.require_parameters(theta)
    averages = range(len(rule.averages))
    with np.errstate(divide="ignore", invalid="ignore"):
        psi = rule.functions(g)
        value, d1, d2, d3 = (np.array([getattr(p, name).reshape(g.shape) for p in psi]) for name in _FIELDS)
        then = rule.update(
            sums.mass[..., None] * value[:, None]
        )  # at the kinds of steps l < t, (..., n_kinds, n_params)
        now = rule.update(sums.last_mass[:, None] * value)  # at step t
    _require_finite(now, d3)

    # sum over l: of F_l with weights W^a_l, and with those of batches that share noise with z_b
    def accumulated(weights: Array) -> Array:
        total: Array = weights @ then.value
        return total if decay is None else total + decay * weights.sum()

    plain = [accumulated(sums.lag[a]) for a in averages]
    outer = now.first * d1  # Phi_a psi_a'
    variance = np.diag(moments.covariance)
    zeroth: Array = sum((outer[a] * (hessian @ plain[a]) for a in averages), np.zeros_like(g))

    lines: dict[Line, Array] = {}
    pulled = hessian * moments.covariance  # symmetric
    # per unit of noise: second-order bend of F_l through psi, and its slope
    bend = [0.5 * m * then.first[b] * d2[b] for b, m in enumerate(micro)]
    slope = [then.first[b] * d1[b] for b in averages]
    for a in averages:
        straight = hessian @ plain[a]
        # ------------------------------------------------------------------ a noise of the averages in dPhi/dz_a
        for b in averages:
            z, mixed = f"z{b + 1}", now.second[a, b] * d1[b]
            shared = accumulated(sums.lag_noise[a, b])
            for c in range(b + 1):
                both = now.third[a, b, c] * d1[b] * d1[c] * sums.product[b, c] * (0.5 if b == c else 1.0) * v
                if b == c:
                    both = both + 0.5 * micro[b] * now.second[a, b] * d2[b] * sums.last_mass[b]
                lines[a, f"z{c + 1}", z] = straight * variance * d1[a] * both
            lines[a, z, GRADIENT] = v * (hessian @ shared) * variance * d2[a] * mixed
            lines[a, z, HESSIAN] = v * d1[a] * mixed * (shared @ moments.cross)
            pulls = sum(d1[c] * (sums.inner_outer[a, c, b] @ then.first[c]) for c in averages)
            lines[a, z, UPDATES] = v * d1[a] * mixed * (pulled @ pulls)
        # ------------------------------------------------------------------ the other places with each other
        late = now.first[a] * d2[a]
        inner = sum(sums.inner_noise[a, c] @ slope[c] for c in averages)
        lines[a, GRADIENT, GRADIENT] = 0.5 * micro[a] * straight * variance * now.first[a] * d3[a]
        lines[a, GRADIENT, HESSIAN] = micro[a] * late * (plain[a] @ moments.cross)
        lines[a, GRADIENT, UPDATES] = v * late * (pulled @ inner)
        lines[a, HESSIAN, UPDATES] = v * outer[a] * (moments.cross @ inner)
        moved = sum(
            0.5 * v * d1[b] * d1[c] * (sums.inner_product[a, b, c] @ then.second[b, c])
            for b in averages
            for c in averages
        ) + sum(sums.lag[a] * sums.mass[b] @ bend[b] for b in averages)
        lines[a, UPDATES, UPDATES] = outer[a] * (hessian @ (variance * moved))
    return zeroth, lines


_FIELDS = ("value", "first", "second", "third")


def _variance_factors(rule: UpdateRule, v: float, micro: float | None) -> tuple[float, list[float]]:
    """Return v of a batch, and of what psi of each average is taken of."""
    if rule.of_micro_batches and micro is None:
        raise InputError(f"{rule.name} averages over micro-batches: needs their variance factor")
    return v, [micro if average.of_micro_batches and micro is not None else v for average in rule.averages]


def _require_finite(*values: object) -> None:
    for each in values:
        arrays = [each] if isinstance(each, np.ndarray) else list(vars(each).values())
        for array in arrays:
            finite = np.isfinite(array).reshape(-1, array.shape[-1]).all(axis=0)
            if not finite.all():
                i = int(np.argmin(finite))
                raise InputError(
                    f"component {i} of the gradient is 0, or too small for the formula's derivatives, allowed with "
                    "--eps-root > 0 only"
                )
