"""E[Corr_t] at the end of some epochs: the sums of `second_order`, and refusals; turning points refuse likewise."""

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion import turning_points
from adam_minibatch_noise.expansion.constants import rule_constants
from adam_minibatch_noise.expansion.expectation import expected_corr
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.second_order import second_order_terms
from adam_minibatch_noise.expansion.weight_sums import weight_sums
from adam_minibatch_noise.theory import batch_variance_factor
from sim.losses.problems import make_quadratics


def test_adam_is_its_sums_at_the_last_step():
    moments, rule = (
        make_quadratics(12, 3, 0.1, 0).moments(),
        make_rule("adam", {"beta1": 0.8, "eps_root": 0.1}),
    )
    result = expected_corr(rule, moments, 12, 3, n_epochs=2)
    sums = weight_sums(rule.weights, 4, 7)
    zeroth, terms = second_order_terms(rule, moments, sums, float(batch_variance_factor(12, 3)))
    np.testing.assert_array_equal(result.zeroth, zeroth)
    np.testing.assert_allclose(result.second_order, sum(terms.values()), rtol=1e-14)
    assert list(result.terms) == ["MBN1", "MBN2", "MBN3", "MBN4", "MBN5"]
    assert result.constants == rule_constants(rule, sums)


def test_micro_batches_and_parameters_reach_the_expectation():
    problem, theta = make_quadratics(12, 3, 0.1, 0), np.array([1.0, 2.0, 3.0])
    invariant, adamw = make_rule("invariant-adam"), make_rule("adamw", {"weight_decay": 0.5})
    whole, parts = (expected_corr(invariant, problem.moments(), 12, 4, 2, size) for size in (4, 1))
    assert not np.allclose(whole.second_order, parts.second_order, rtol=1e-3)
    still, moved = (expected_corr(adamw, problem.moments(), 12, 4, theta=t) for t in (0 * theta, theta))
    assert not np.allclose(still.zeroth, moved.zeroth, rtol=1e-3)
    assert expected_corr(make_rule("sgd-momentum"), problem.moments(), 12, 4).constants is None


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("adam", {"batch_size": 5}, "batch_size is 5, allowed: a divisor of n_samples = 12"),
        ("adam", {"batch_size": 0}, "batch_size is 0"),
        ("adamw", {}, "needs the parameters"),
        ("invariant-adam", {}, "micro_batch_size is None, allowed: a divisor of batch_size = 3"),
        ("invariant-adam", {"micro_batch_size": 2}, "micro_batch_size is 2, allowed"),
    ],
)
def test_expected_corr_rejects(name, changes, words):
    moments = make_quadratics(12, 3, 0.1, 0).moments()
    with pytest.raises(InputError, match=words):
        expected_corr(make_rule(name), moments, **{"n_samples": 12, "batch_size": 3} | changes)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: turning_points.sweep("beta3", [0.1]), "swept_beta is 'beta3', allowed: beta1, beta2"),
        (lambda: turning_points.sweep("beta1", [0.2, 0.1]), "grid is not ascending"),
        (
            lambda: turning_points.c_total_map("beta2", 0.9, 10, [2], [3.0], [10**6]),
            "allowed: 100000 steps",
        ),
        (
            lambda: turning_points.turning_points("beta2", 0.9, 10, [3.0], [1], min_batch_size=11),
            "min_batch_size is 11, allowed: 1 to 10",
        ),
        (
            lambda: turning_points.turning_points(
                "beta2", {"beta1": 0.9}, 10, [3.0], [1], 2, grid=[0.99, 0.95]
            ),
            "grid is not ascending",
        ),
        (lambda: turning_points.sweep("beta1", [0.1], optimizer="rmsprop"), "is 'beta1', allowed: beta2"),
        (
            lambda: turning_points.sweep("beta1", [0.1], optimizer="nesterov"),
            "nesterov is not the same for every",
        ),
    ],
)
def test_turning_points_reject(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_of_adam_the_other_beta_suffices():
    for swept, other in (("beta1", "beta2"), ("beta2", "beta1")):
        rows = [
            turning_points.c_total_map(swept, fixed, 100, [5], [3.0], [2]) for fixed in (0.7, {other: 0.7})
        ]
        assert rows[0] == rows[1]
        assert {row[other] for row in rows[0]} == {0.7}
