"""E[Corr] of batch-size invariant Adam against enumeration, against its definition, and its limits."""

import itertools

import numpy as np
import pytest
import sympy

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.invariant import (
    exact_invariant_c_total,
    invariant_corr,
    invariant_expectation,
    scatter_constants,
)
from adam_minibatch_noise.expansion.second_order import adam_constants, adam_expectation
from adam_minibatch_noise.expansion.weight_sums import limit_weight_sums, weight_sums
from adam_minibatch_noise.theory import (
    adam_corr,
    batch_variance_factor,
    c_total,
    expected_corr_terms,
    invariant_c_total,
    scaling_rule,
)
from sim.losses.problems import Quadratics, make_quadratics
from sim.monte_carlo.sampling import ordered_partitions

BETAS = 0.8, 0.95


def micro_batches_of(problem, micro_batch_size, kappa):
    """Micro-batch gradients and Hessians of every ordered partition: (n_orders, n_batches, kappa, d, ...)."""
    orders = ordered_partitions(problem.n_samples, micro_batch_size)
    shape, d = (len(orders), -1, kappa, micro_batch_size), problem.n_params
    gradients = problem.gradients[orders].reshape(*shape, d).mean(axis=3)
    return gradients, problem.hessians[orders].reshape(*shape, d, d).mean(axis=3)


def enumerated(problem, micro_batch_size, kappa, n_epochs, eps_root):
    gradients, hessians = micro_batches_of(problem, micro_batch_size, kappa)
    choices = itertools.product(range(len(gradients)), repeat=n_epochs)
    values = [
        invariant_corr(*(np.concatenate(x[list(c)]) for x in (gradients, hessians)), *BETAS, eps_root)
        for c in choices
    ]
    return np.mean(values, axis=0)


def second_order(problem, micro_batch_size, kappa, n_epochs, eps_root):
    n_batches = problem.n_samples // (micro_batch_size * kappa)
    sizes = np.array([micro_batch_size * kappa, micro_batch_size])
    sums = weight_sums(BETAS, n_batches, n_batches * n_epochs - 1)
    v = batch_variance_factor(problem.n_samples, sizes)
    zeroth, terms = invariant_expectation(problem.moments(), sums, *v, eps_root)
    return zeroth, sum(terms.values())


def mirrored(n_samples, n_params):
    """Quadratics whose samples deviate from the mean in opposite pairs: third moments of the noise vanish."""
    base = make_quadratics(n_samples // 2, n_params, 1.0, 3)
    other = base.with_noise(-1.0)
    pairs = zip((base.gradients, base.hessians), (other.gradients, other.hessians), strict=True)
    return Quadratics(*(np.concatenate(pair) for pair in pairs))


@pytest.mark.parametrize(
    ("n_samples", "micro_batch_size", "kappa", "n_epochs"),
    [(6, 1, 2, 1), (6, 1, 3, 1), (8, 2, 2, 1), (4, 1, 2, 2), (4, 2, 2, 3), (4, 1, 4, 2), (6, 3, 2, 3)],
)
@pytest.mark.parametrize("eps_root", [0.0, 0.3])
def test_expectation_residual_falls_as_the_square_of_the_noise(
    n_samples, micro_batch_size, kappa, n_epochs, eps_root
):
    """Over all orders of micro-batches; the last three cases have the full batch in some micro-batches."""
    base, residuals = mirrored(n_samples, 2), []
    for amplitude in (0.04, 0.02):
        problem = base.with_noise(amplitude)
        mean = enumerated(problem, micro_batch_size, kappa, n_epochs, eps_root)
        zeroth, added = second_order(problem, micro_batch_size, kappa, n_epochs, eps_root)
        residuals.append(np.abs(mean - zeroth - added).max() / np.abs(added).max())
    assert residuals[1] < 5e-3
    assert np.log2(residuals[0] / residuals[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("eps_root", [0.0, 0.3])
def test_corr_is_the_derivative_of_the_memory(rng, eps_root):
    """Central differences of F_t as step k moves back to theta + s sum_{l=k}^{t-1} F_l, where it was taken."""
    d, kappa, n_batches = 3, 2, 4
    gradients = rng.standard_normal((n_batches, kappa, d)) + 2
    hessians = rng.standard_normal((n_batches, kappa, d, d))
    hessians = hessians + hessians.swapaxes(-1, -2)
    mu, nu = ([(1 - b) / (1 - b ** (t + 1)) for t in range(n_batches)] for b in BETAS)

    def update(g, t):
        first = sum(mu[t] * BETAS[0] ** (t - k) * g[k].mean(axis=0) for k in range(t + 1))
        second = sum(nu[t] * BETAS[1] ** (t - k) * (g[k] ** 2).mean(axis=0) for k in range(t + 1))
        return first / np.sqrt(second + eps_root)

    t = n_batches - 1
    behind = [sum(update(gradients, step) for step in range(k, t)) for k in range(t)] + [np.zeros(d)]

    def shifted(s):
        moved = [gradients[k] + s * np.einsum("aij,j->ai", hessians[k], behind[k]) for k in range(n_batches)]
        return update(moved, t)

    want = (shifted(1e-5) - shifted(-1e-5)) / 2e-5
    np.testing.assert_allclose(
        invariant_corr(gradients, hessians, *BETAS, eps_root), want, rtol=1e-6, atol=1e-8
    )


def test_one_micro_batch_reduces_to_adam():
    problem = make_quadratics(6, 3, 0.3, 1)
    gradients, hessians = micro_batches_of(problem, 2, 1)
    for g, h in zip(gradients[:5], hessians[:5], strict=True):
        np.testing.assert_allclose(
            invariant_corr(g, h, *BETAS, 0.1), adam_corr(g[:, 0], h[:, 0], *BETAS, 0.1), rtol=1e-12
        )
    sums = weight_sums(BETAS, 3, 5)
    zeroth, terms = adam_expectation(problem.moments(), sums, 0.2, 0.1)
    got_zeroth, got = invariant_expectation(problem.moments(), sums, 0.2, 0.2, 0.1)
    np.testing.assert_array_equal(got_zeroth, zeroth)
    np.testing.assert_array_equal(sum(got.values()), sum(terms.values()))
    for betas in ((0.9, 0.999), (0.5, 0.0)):
        assert invariant_c_total(*betas, 0.7, 0.7) == c_total(*betas, 0.7)
        assert exact_invariant_c_total(*betas, 0.7, 0.7, 8, 3) == pytest.approx(
            exact_invariant_c_total(*betas, 0.7, 0.0, 8, 3)
            + 0.7 * (scatter_constants(weight_sums(betas, 8, 23).lag).C1)
            + 0.7 * (scatter_constants(weight_sums(betas, 8, 23).lag).C2)
        )


def test_terms_without_eps_are_made_of_the_constants():
    problem, sums = make_quadratics(12, 4, 0.3, 1), weight_sums((0.7, 0.9), 6, 17)
    moments = problem.moments()
    _, terms = invariant_expectation(moments, sums, 0.2, 0.5)
    scatter = expected_corr_terms(moments, scatter_constants(sums.lag), 0.3)
    for i in (1, 2, 3):
        np.testing.assert_allclose(terms[f"SCATTER{i}"], scatter[f"MBN{i}"], rtol=1e-12)
    assert not scatter["FB"].any()
    assert not scatter["MBN4"].any()
    assert not scatter["MBN5"].any()


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("beta2", [0.0, 0.3, 0.9, 0.999])
def test_invariant_c_total_matches_brute_force_sums_over_lags(beta1, beta2):
    sums = limit_weight_sums((beta1, beta2))
    adam, scatter = adam_constants(sums), scatter_constants(sums.lag)
    want = adam.FB + (adam.C1 + adam.C2) * 0.25 + (scatter.C1 + scatter.C2) * (1.5 - 0.25)
    assert invariant_c_total(beta1, beta2, 0.25, 1.5) == pytest.approx(want, rel=1e-11, abs=1e-12)


def test_scatter_part_of_c_total_is_the_symbolic_sum():
    """w adds to R^2 in both of its places and leaves M_t and P_t, here for one component with g = H = 1."""
    b, r, x, y = sympy.symbols("b r x y", positive=True)
    ages = [(1 - z) * z * sympy.diff(1 / (1 - z), z) for z in (b, r)]  # from sum_a z^a = 1/(1 - z)
    # x = 1/R_t^2 outside, y = 1/R_l^2 in the updates: a growth of R^2 by w takes w from both
    corr = sympy.sqrt(y) * (sympy.sqrt(x) * ages[0] - x ** sympy.Rational(3, 2) * ages[1])
    slope = -(sympy.diff(corr, x) + sympy.diff(corr, y)).subs({x: 1, y: 1})
    values = {b: sympy.Rational(9, 10), r: sympy.Rational(999, 1000)}
    got = invariant_c_total(0.9, 0.999, 0, 1) - c_total(0.9, 0.999, 0)
    assert float(slope.subs(values)) == pytest.approx(float(got), rel=1e-12)
    assert sympy.simplify(slope - (2 * r / (1 - r) - b / (1 - b))) == 0


def test_exact_c_total_tends_to_invariant_c_total():
    want = float(invariant_c_total(0.5, 0.8, 0.4, 1.2))
    assert exact_invariant_c_total(0.5, 0.8, 0.4, 1.2, 100_000) == pytest.approx(want, rel=1e-4)


def test_full_batch_keeps_the_noise_of_its_micro_batches():
    quiet = exact_invariant_c_total(0.9, 0.99, 0.0, 0.0, 1, 500)
    noisy = exact_invariant_c_total(0.9, 0.99, 0.0, 1.0, 1, 500)
    assert noisy - quiet == pytest.approx(2 * 99 - 9, rel=0.05)


def test_scaled_regularisation_does_not_move_with_the_batch_as_beta_tends_to_one():
    """lr C_total under the invariant rule at kappa = 8, relative to kappa = 1: the gap falls as 1 - beta."""
    gaps = []
    for scale in (1e-2, 1e-3, 1e-4):
        values = []
        for kappa in (1, 8):
            lr, beta1, beta2 = scaling_rule("invariant", kappa, scale, 1 - scale, 1 - scale / 10)
            values.append(lr * invariant_c_total(beta1, beta2, 2.0 / kappa, 2.0))
        gaps.append(abs(values[1] / values[0] - 1))
    np.testing.assert_allclose(np.diff(np.log10(gaps)), -1, atol=0.1)


def test_scaling_rule_matches_a_written_out_case():
    np.testing.assert_allclose(scaling_rule("invariant", 4, 1e-3, 0.9, 0.99), (4e-3, 0.6, 0.96))
    np.testing.assert_allclose(scaling_rule("square-root", 4, 1e-3, 0.9, 0.99), (2e-3, 0.6, 0.96))


def test_expectation_rejects_zero_gradient_without_eps():
    problem = make_quadratics(4, 2, 0.0, 0)
    problem.gradients[:, 1] = 0
    with pytest.raises(InputError, match="component 1"):
        invariant_expectation(problem.moments(), weight_sums((0.9, 0.99), 2, 1), 0.1, 0.2)
