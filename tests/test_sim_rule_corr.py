"""The generic kernel of Corr_n: against NumPy, Adam's own kernel, enumeration and the expectation."""

import dataclasses

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.expectation import expected_corr
from adam_minibatch_noise.expansion.one_order import rule_corr
from adam_minibatch_noise.expansion.registry import make_rule
from sim.losses.problems import Quadratics, make_least_squares, make_quadratics
from sim.monte_carlo.corr import adam_least_squares, adam_quadratics
from sim.monte_carlo.parallel_mean import mean_and_stderr
from sim.monte_carlo.rule_corr import corr_of_rule
from sim.monte_carlo.sampling import draw_permutations, ordered_partitions
from tests.test_library_update_rules import CASES

QUADRATICS = dataclasses.replace(make_quadratics(24, 3, 0.3, 0), theta=np.array([0.7, -1.3, 0.4]))


def numpy_corr(rule, problem, orders, batch_size, micro_batch_size):
    shape, d = (len(orders), -1, batch_size // micro_batch_size, micro_batch_size), problem.n_params
    gradients = problem.gradients[orders].reshape(*shape, d).mean(axis=3)
    hessians = problem.hessians[orders].reshape(*shape, d, d).mean(axis=3)
    if not rule.of_micro_batches:
        gradients, hessians = gradients.mean(axis=2), hessians.mean(axis=2)
    return rule_corr(rule, gradients, hessians, problem.theta)


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("problem", [make_least_squares(24, 3, 0.3, 0), QUADRATICS])
def test_kernel_matches_numpy_for_every_order(problem, name, settings):
    rule, orders = make_rule(name, settings), draw_permutations(24, 5, 0)
    for batch_size, micro_batch_size in ((6, 2), (4, 1), (24, 12)):
        got = corr_of_rule(problem, rule, batch_size, micro_batch_size)(orders)
        quadratics = problem if isinstance(problem, Quadratics) else problem.quadratics()
        want = numpy_corr(rule, quadratics, orders, batch_size, micro_batch_size)
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("d", [3, 8, 40])
def test_adam_matches_its_own_kernel(d):
    rule = make_rule("adam", {"beta2": 0.99, "eps_root": 1e-4})
    settings, orders = (4, 0.9, 0.99, 1e-4), draw_permutations(64, 9, 1)
    problem = make_least_squares(64, d, 0.3, 0)
    want = adam_least_squares(problem.features, problem.residuals, *settings)(orders)
    np.testing.assert_allclose(corr_of_rule(problem, rule, 4)(orders), want, rtol=1e-10, atol=1e-12)
    problem = make_quadratics(64, d, 0.3, 0)
    want = adam_quadratics(problem.gradients, problem.hessians, *settings)(orders)
    np.testing.assert_allclose(corr_of_rule(problem, rule, 4)(orders), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_montecarlo_within_4_stderr_of_enumeration_and_of_the_expectation(name, settings):
    """At a noise so small that what the expectation leaves out is far below a standard error."""
    rule, problem = make_rule(name, settings), make_least_squares(8, 3, 0.02, 0)
    corr = corr_of_rule(problem, rule, 4, 2)
    every = corr(ordered_partitions(8, 2)).mean(axis=0)
    mean, stderr = mean_and_stderr(corr, 8, 3000, 1)
    assert (stderr > 0).all()
    assert (np.abs(mean - every) <= 4 * stderr).all()
    exact = expected_corr(rule, problem.moments(), 8, 4, 1, 2, problem.theta)
    assert np.abs(every - exact.zeroth - exact.second_order).max() <= 0.05 * np.abs(exact.second_order).max()


def test_same_seed_same_bytes_for_any_number_of_threads():
    corr = corr_of_rule(make_least_squares(32, 5, 0.1, 0), make_rule("nadam"), 4)
    one, two = (mean_and_stderr(corr, 32, 600, 3, n_threads=n) for n in (1, 2))
    assert [x.tobytes() for x in one] == [x.tobytes() for x in two]


def test_what_is_not_finite_is_refused():
    problem = Quadratics(np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.ones((4, 1, 1)))
    with pytest.raises(InputError, match="nadam is not a finite number"):
        corr_of_rule(problem, make_rule("nadam"), 2)(ordered_partitions(4, 2))
    with pytest.raises(InputError, match="batch_size is 3"):
        corr_of_rule(problem, make_rule("nadam"), 3)
    with pytest.raises(InputError, match="needs the parameters"):
        corr_of_rule(problem, make_rule("adamw"), 2)
