"""The control variate is the linear part of Corr_n: mean zero, and what it leaves is of second order."""

import numpy as np
import pytest

from adam_minibatch_noise.expansion.expectation import expected_corr
from adam_minibatch_noise.expansion.one_order import rule_corr
from adam_minibatch_noise.expansion.registry import make_rule
from sim.losses.problems import make_least_squares, make_quadratics
from sim.monte_carlo import corr as corr_kernels
from sim.monte_carlo.control_variate import linear_part
from sim.monte_carlo.parallel_mean import mean_and_stderr
from sim.monte_carlo.sampling import draw_permutations, ordered_partitions


def corr(problem, batch_size, orders, eps_root):
    quadratics = problem if hasattr(problem, "hessians") else problem.quadratics()
    shape = (len(orders), -1, batch_size)
    gradients = quadratics.gradients[orders].reshape(*shape, problem.n_params).mean(axis=2)
    hessians = quadratics.hessians[orders].reshape(*shape, problem.n_params, problem.n_params).mean(axis=2)
    return rule_corr(
        make_rule("adam", {"beta1": 0.8, "beta2": 0.95, "eps_root": eps_root}), gradients, hessians
    )


@pytest.mark.parametrize("make", [make_least_squares, make_quadratics])
@pytest.mark.parametrize("eps_root", [0.0, 0.3])
def test_linear_part_leaves_an_error_of_order_2(make, eps_root):
    left = []
    for noise in (2e-3, 1e-3):
        problem, orders = make(8, 3, noise, 0), draw_permutations(8, 50, 0)
        adam = make_rule("adam", {"beta1": 0.8, "beta2": 0.95, "eps_root": eps_root})
        quiet = expected_corr(adam, problem.moments(), 8, 2).zeroth
        linear = linear_part(problem, 2, 0.8, 0.95, eps_root)(orders)
        values = corr(problem, 2, orders, eps_root) - quiet
        left.append(np.abs(values - linear).max())
        assert left[-1] < 0.1 * np.abs(values).max()
    assert np.log2(left[0] / left[1]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("make", [make_least_squares, make_quadratics])
def test_linear_part_has_mean_zero_over_all_orders(make):
    values = linear_part(make(6, 3, 0.3, 1), 2, 0.9, 0.99)(ordered_partitions(6, 2))
    assert np.all(np.abs(values.mean(axis=0)) < 1e-13 * np.abs(values).max())


def test_linear_part_cuts_the_standard_error_and_keeps_the_mean():
    problem = make_least_squares(128, 8, 0.05, 0)
    of_orders = corr_kernels.adam_least_squares(problem.features, problem.residuals, 8, 0.9, 0.99, 0.0)
    plain, plain_stderr = mean_and_stderr(of_orders, 128, 4000, 0)
    less = corr_kernels.subtract_control(of_orders, linear_part(problem, 8, 0.9, 0.99))
    mean, stderr = mean_and_stderr(less, 128, 4000, 0)
    assert np.all(stderr < plain_stderr / 10)
    assert np.all(np.abs(mean - plain) < 4 * plain_stderr)
