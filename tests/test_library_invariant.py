"""C_total of batch-size invariant Adam: its limit, its scaling, and the full batch."""

import numpy as np
import pytest
import sympy

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.constants import limit_c_total, rule_c_total
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.theory import c_total, invariant_c_total, scaling_rule


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("beta2", [0.0, 0.3, 0.9, 0.999])
def test_invariant_c_total_is_the_limit_of_the_rule(beta1, beta2):
    rule = make_rule("invariant-adam", {"beta1": beta1, "beta2": beta2})
    want = limit_c_total(rule, 0.25, lam_micro=1.5)
    assert invariant_c_total(beta1, beta2, 0.25, 1.5) == pytest.approx(want, rel=1e-11, abs=1e-12)
    one_micro_batch = limit_c_total(rule, 0.25, lam_micro=0.25)
    assert c_total(beta1, beta2, 0.25) == pytest.approx(one_micro_batch, rel=1e-11, abs=1e-12)


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
    rule = make_rule("invariant-adam", {"beta1": 0.5, "beta2": 0.8})
    assert rule_c_total(rule, 0.4, 100_000, lam_micro=1.2) == pytest.approx(want, rel=1e-4)


def test_full_batch_keeps_the_noise_of_its_micro_batches():
    rule = make_rule("invariant-adam", {"beta2": 0.99})
    quiet, noisy = (rule_c_total(rule, 0.0, 1, 500, lam_micro=lam) for lam in (0.0, 1.0))
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


def test_c_total_needs_the_noise_of_the_micro_batches():
    with pytest.raises(InputError, match="needs their noise-to-signal ratio"):
        rule_c_total(make_rule("invariant-adam"), 0.5, 8)
