"""The exact second-order expectation term by term, against derivations by hand, and its constants and limits."""

import itertools

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.averaging import moving_average
from adam_minibatch_noise.expansion.constants import (
    exact_c_total,
    limit_c_total,
    main_constants,
    rule_c_total,
    rule_constants,
    step_size,
)
from adam_minibatch_noise.expansion.one_order import SwitchedCorr, rule_corr
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.second_order import (
    places_of,
    second_order_lines,
    second_order_terms,
    term_of,
)
from adam_minibatch_noise.expansion.weight_sums import (
    apply_covariance,
    limit_weight_sums,
    main_sums,
    weight_sums,
)
from adam_minibatch_noise.theory import (
    batch_variance_factor,
    c_total,
    expected_corr_terms,
    limit_constants,
)
from sim.losses.problems import make_least_squares, make_quadratics
from tests import naive_expectations
from tests.orders import batches_of, micro_batches_of, mirrored
from tests.test_library_update_rules import CASES, LINEAR, THETA

SCALE_INVARIANT = {
    "adam": {"beta1": 0.8, "beta2": 0.95},
    "nadam": {"beta1": 0.8, "beta2": 0.95},
    "rmsprop": {"beta2": 0.95},
    "ademamix": {"beta1": 0.8, "beta2": 0.95, "beta3": 0.98, "alpha": 2.0},
    "adam-p": {"beta1": 0.8, "beta2": 0.95, "power": 3.0},
}


# --------------------------------------------------------------------------- beside the derivations by hand
@pytest.mark.parametrize(("n_batches", "t", "correlation"), [(3, 5, None), (3, 8, -0.4), (4, 6, 0.0)])
@pytest.mark.parametrize("eps_root", [0.0, 0.3])
def test_adam_and_its_invariant_kin_match_the_derivation_by_hand(n_batches, t, correlation, eps_root):
    betas, moments = (0.8, 0.95), make_quadratics(12, 3, 0.5, 1).moments()
    settings = {"beta1": 0.8, "beta2": 0.95, "eps_root": eps_root}
    by_hand = naive_expectations.adam_sums(betas, n_batches, t, correlation)
    rule = make_rule("adam", settings)
    sums = weight_sums(rule.weights, n_batches, t, correlation)
    zeroth, terms = second_order_terms(rule, moments, sums, 0.2)
    want_zeroth, want = naive_expectations.adam_expectation(moments, by_hand, 0.2, eps_root)
    np.testing.assert_allclose(zeroth, want_zeroth, rtol=1e-12)
    for name in want:
        atol = 1e-13 * np.abs(want[name]).max()
        np.testing.assert_allclose(terms[name], want[name], rtol=1e-11, atol=atol, err_msg=name)
    _, terms = second_order_terms(make_rule("invariant-adam", settings), moments, sums, 0.2, 0.5)
    _, want = naive_expectations.invariant_expectation(moments, by_hand, 0.2, 0.5, eps_root)
    for i in range(1, 6):
        total = want[f"MBN{i}"] + want.get(f"SCATTER{i}", 0.0)
        atol = 1e-13 * np.abs(total).max()
        np.testing.assert_allclose(terms[f"MBN{i}"], total, rtol=1e-11, atol=atol, err_msg=f"MBN{i}")


@pytest.mark.parametrize("beta", [0.0, 0.7, 1 - 1e-9])
def test_sgd_momentum_matches_the_derivation_by_hand(beta):
    moments, rule = make_quadratics(6, 3, 2.0, 5).moments(), make_rule("sgd-momentum", {"beta1": beta})
    zeroth, terms = second_order_terms(rule, moments, weight_sums(rule.weights, 3, 7), 0.4)
    want = naive_expectations.sgd_momentum_expectation(moments, beta, 3, 7, 0.4)
    np.testing.assert_allclose((zeroth, sum(terms.values())), want, rtol=1e-12)


# ------------------------------------------------------------------------------------------- term by term
def of_rule(rule, problem):
    """Every order of batches of 2, in micro-batches of 1 where the rule averages over these."""
    return micro_batches_of(problem, 1, 2) if rule.of_micro_batches else batches_of(problem, 2)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_each_line_matches_enumeration_with_noise_in_its_two_places_only(name, settings):
    """Noise is switched on in the averages, in psi', in the Hessian and in the updates separately."""
    rule, problem = make_rule(name, settings), mirrored(6, 2, 1e-4, 3)
    switched = SwitchedCorr(rule, *of_rule(rule, problem), problem.moments(), THETA)
    v = batch_variance_factor(6, [2, 1]).tolist()
    zeroth, lines = second_order_lines(rule, problem.moments(), weight_sums(rule.weights, 3, 2), *v, THETA)
    np.testing.assert_allclose(switched.parts().sum(axis=0)[0], zeroth, rtol=1e-12)
    places = places_of(rule)
    largest = max(np.abs(value).max() for value in lines.values())
    for p, q in itertools.combinations_with_replacement(places, 2):
        measured = switched.pair((p,), (q,)).mean(axis=1)
        for a, value in enumerate(measured):
            want = lines.get((a, p, q), np.zeros(2))  # a pair that is no line contributes nothing
            np.testing.assert_allclose(value, want, rtol=2e-3, atol=1e-5 * largest, err_msg=f"{a} {p} {q}")


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_noise_everywhere_is_corr(name, settings):
    rule, problem = make_rule(name, settings), make_quadratics(6, 2, 0.3, 1)
    switched = SwitchedCorr(rule, *of_rule(rule, problem), problem.moments(), THETA)
    want = rule_corr(rule, *of_rule(rule, problem), THETA)
    np.testing.assert_allclose(switched.parts(places_of(rule)).sum(axis=0), want, rtol=1e-12, atol=1e-14)


def test_every_line_belongs_to_a_term():
    rule, moments = make_rule("adam"), make_quadratics(6, 2, 0.3, 1).moments()
    sums = weight_sums(rule.weights, 3, 2)
    _, lines = second_order_lines(rule, moments, sums, 0.2)
    _, terms = second_order_terms(rule, moments, sums, 0.2)
    for term, value in terms.items():
        total = sum(line for key, line in lines.items() if term_of(key) == term)
        np.testing.assert_allclose(total, value, rtol=1e-12, err_msg=term)


# ---------------------------------------------------------------------------------------------- constants
@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("beta2", [0.0, 0.3, 0.9, 0.999])
def test_limit_of_adams_constants_is_the_formula_sheet(beta1, beta2):
    rule = make_rule("adam", {"beta1": beta1, "beta2": beta2, "eps_root": 0.1, "eps": 0.2})  # eps -> 0
    got, sheet = (
        vars(rule_constants(rule, limit_weight_sums(rule.weights))),
        vars(limit_constants(beta1, beta2)),
    )
    for name, value in sheet.items():
        assert got[name] == pytest.approx(value, rel=1e-11, abs=1e-12), name


@pytest.mark.parametrize(("name", "settings"), SCALE_INVARIANT.items())
def test_limit_constants_are_those_of_a_long_epoch_of_independent_batches(name, settings):
    rule = make_rule(name, settings)
    long = rule_constants(rule, weight_sums(rule.weights, 3001, 3000, 0.0))
    limit = rule_constants(rule, limit_weight_sums(rule.weights))
    np.testing.assert_allclose(list(vars(long).values()), list(vars(limit).values()), rtol=1e-10)


def test_finite_constants_tend_to_the_limit_as_one_over_the_number_of_batches():
    rule = make_rule("adam", {"beta1": 0.5, "beta2": 0.8})
    limit = np.array(list(vars(limit_constants(0.5, 0.8)).values()))
    gaps = [
        np.abs(
            np.array(list(vars(rule_constants(rule, weight_sums(rule.weights, m, m - 1))).values())) - limit
        )[1:]
        for m in (500, 1000)
    ]
    np.testing.assert_allclose(np.log2(gaps[0] / gaps[1]), 1.0, atol=0.02)


@pytest.mark.parametrize(("name", "settings"), SCALE_INVARIANT.items())
def test_expectation_without_eps_is_made_of_the_six_constants(name, settings):
    rule, problem = make_rule(name, settings), make_quadratics(12, 4, 0.3, 1)
    sums = weight_sums(rule.weights, 6, 17)
    zeroth, terms = second_order_terms(rule, problem.moments(), sums, 0.2)
    constants = rule_constants(rule, sums)
    for term, value in expected_corr_terms(problem.moments(), constants, 0.2).items():
        np.testing.assert_allclose(zeroth if term == "FB" else terms[term], value, rtol=1e-11, err_msg=term)
    forward, c1, c2 = main_constants(rule, main_sums(rule.weights, 6, 17))
    np.testing.assert_allclose((forward, c1, c2), (constants.FB, constants.C1, constants.C2), rtol=1e-12)


def test_c_total_tends_to_its_limit():
    assert exact_c_total(0.5, 0.8, 0.7, 100_000) == pytest.approx(float(c_total(0.5, 0.8, 0.7)), rel=1e-4)
    for name, settings in SCALE_INVARIANT.items():
        rule = make_rule(name, settings)
        limit = limit_c_total(rule, [0.0, 0.7])
        np.testing.assert_allclose(rule_c_total(rule, [0.0, 0.7], 100_000), limit, rtol=1e-3, err_msg=name)


def test_step_size_is_the_update_of_a_constant_gradient():
    assert step_size(make_rule("adam")) == pytest.approx(1)
    assert step_size(make_rule("ademamix", {"alpha": 5.0})) == pytest.approx(6)


@pytest.mark.parametrize("name", ["sgd-momentum", "nesterov", "signum-smooth", "lion-smooth"])
def test_constants_are_refused_where_the_update_depends_on_the_size_of_the_gradient(name):
    rule = make_rule(name)
    with pytest.raises(InputError, match=f"the update of {name} is not the same for every multiple"):
        rule_constants(rule, weight_sums(rule.weights, 3, 2))
    with pytest.raises(InputError, match="no C_total"):
        rule_c_total(rule, 1.0, 3)
    assert name in LINEAR or not rule.is_scale_invariant


# ------------------------------------------------------------------------------------------- building blocks
def test_least_squares_moments_match_written_out_quadratics():
    problem = make_least_squares(20, 4, 0.7, 2)
    for name, value in vars(problem.quadratics().moments()).items():
        np.testing.assert_allclose(vars(problem.moments())[name], value, rtol=1e-12, err_msg=name)


def test_apply_covariance_matches_matrix(rng):
    values, m = rng.standard_normal(11), 4
    matrix = naive_expectations.covariance(11, m, -1 / (m - 1))
    np.testing.assert_allclose(apply_covariance(values, m), matrix @ values, rtol=1e-12)


def test_moving_average_matches_weights(rng):
    values = rng.standard_normal(9)
    want = [moving_average(0.8).at(t) @ values[: t + 1] for t in range(9)]
    np.testing.assert_allclose(moving_average(0.8).average(values), want, rtol=1e-12)


def test_zero_gradient_without_eps_is_refused():
    problem = make_quadratics(4, 2, 0.0, 0)
    problem.gradients[:, 1] = 0
    adam = make_rule("adam", {"beta1": 0.9, "beta2": 0.99})
    with pytest.raises(InputError, match="component 1"):
        second_order_terms(adam, problem.moments(), weight_sums(adam.weights, 2, 1), 0.1)
    adam = make_rule("adam", {"beta1": 0.9, "beta2": 0.99, "eps_root": 1e-3})
    zeroth, _ = second_order_terms(adam, problem.moments(), weight_sums(adam.weights, 2, 1), 0.1)
    assert np.isfinite(zeroth).all()
