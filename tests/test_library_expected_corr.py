"""E[Corr_t] by name of the algorithm: the sums of `second_order`, and refusals; turning points refuse likewise."""

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion import turning_points
from adam_minibatch_noise.expansion.expected_corr import ALGORITHMS, expected_corr
from adam_minibatch_noise.expansion.second_order import (
    adam_constants,
    adam_expectation,
    sgd_momentum_expectation,
)
from adam_minibatch_noise.expansion.weight_sums import weight_sums
from adam_minibatch_noise.theory import batch_variance_factor
from sim.losses.problems import make_quadratics
from tests.test_library_second_order import enumerated


def test_adam_is_its_sums_at_the_last_step():
    moments = make_quadratics(12, 3, 0.1, 0).moments()
    result = expected_corr(moments, 12, 3, 0.8, 0.95, 0.1, n_epochs=2)
    sums = weight_sums((0.8, 0.95), 4, 7)
    zeroth, terms = adam_expectation(moments, sums, float(batch_variance_factor(12, 3)), 0.1)
    np.testing.assert_array_equal(result.zeroth, zeroth)
    np.testing.assert_array_equal(result.second_order, sum(terms.values()))
    assert list(result.terms) == ["MBN1", "MBN2", "MBN3", "MBN4", "MBN5"]
    assert result.constants == adam_constants(sums)


def test_sgd_momentum_matches_enumeration_to_all_orders():
    from sim.monte_carlo.sgd_terms import sgd_corr

    problem = make_quadratics(6, 2, 2.0, 0)
    result = expected_corr(problem.moments(), 6, 2, 0.8, n_epochs=1, algorithm="sgd-momentum")
    mean = enumerated(problem, 2, 1, lambda g, h: sgd_corr(g[None], h[None], 0.8)[0])
    np.testing.assert_allclose(result.zeroth + result.second_order, mean, rtol=1e-11)
    assert (result.terms, result.constants) == ({}, None)
    zeroth, _ = sgd_momentum_expectation(problem.moments(), 0.8, 3, 2, 0.4)
    np.testing.assert_array_equal(result.zeroth, zeroth)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 5}, "batch_size is 5, allowed: a divisor of n_samples = 12"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"algorithm": "lion"}, f"algorithm is 'lion', allowed: {', '.join(ALGORITHMS)}"),
    ],
)
def test_expected_corr_rejects(changes, words):
    moments = make_quadratics(12, 3, 0.1, 0).moments()
    with pytest.raises(InputError, match=words):
        expected_corr(moments, **{"n_samples": 12, "batch_size": 3, "beta1": 0.9} | changes)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: turning_points.sweep("beta3", [0.1]), "swept_beta is 'beta3', allowed: beta1, beta2"),
        (lambda: turning_points.sweep("beta1", [0.2, 0.1]), "grid is not ascending"),
        (lambda: turning_points.c_total_map("beta2", {"beta1": 0.9}, 10, [2], [3.0], [10**6]), "allowed: 100000 steps"),
        (
            lambda: turning_points.turning_points("beta2", {"beta1": 0.9}, 10, [3.0], [1], min_batch_size=11),
            "min_batch_size is 11, allowed: 1 to 10",
        ),
        (
            lambda: turning_points.turning_points("beta2", {"beta1": 0.9}, 10, [3.0], [1], 2, grid=[0.99, 0.95]),
            "grid is not ascending",
        ),
    ],
)
def test_turning_points_reject(call, words):
    with pytest.raises(InputError, match=words):
        call()
