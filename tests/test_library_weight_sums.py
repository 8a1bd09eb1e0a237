"""The weight sums of every kind of average against their definitions."""

import itertools

import numpy as np
import pytest

from adam_minibatch_noise.expansion.averaging import (
    decayed_sums,
    lion_average,
    momentum_sum,
    moving_average,
    nadam_average,
    nesterov_sum,
    newest_batch,
)
from adam_minibatch_noise.expansion.constants import exact_c_total, main_constants
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.weight_sums import (
    batch_correlation,
    limit_weight_sums,
    main_sums,
    weight_sums,
)
from adam_minibatch_noise.theory import batch_variance_factor
from sim.losses.problems import make_quadratics
from tests.naive_expectations import covariance
from tests.orders import batches_without_replacement

KINDS = {
    "moving average": (moving_average(0.8), moving_average(0.95)),
    "one beta": (moving_average(0.9), moving_average(0.9)),
    "beta 0": (moving_average(0.0), moving_average(0.9)),
    "beta 0 last": (moving_average(0.9), moving_average(0.0)),
    "newest batch": (newest_batch(), moving_average(0.9)),
    "NAdam": (nadam_average(0.8), moving_average(0.95)),
    "Lion": (lion_average(0.9, 0.7), moving_average(0.95)),
    "Lion, beta 0": (lion_average(0.9, 0.0), moving_average(0.0)),
    "three": (moving_average(0.8), nadam_average(0.5), moving_average(0.97)),
    "momentum": (momentum_sum(0.8),),
    "Nesterov": (nesterov_sum(0.8),),
    "momentum and average": (nesterov_sum(0.7), moving_average(0.9)),
}


def sums_by_definition(weights, n_batches, t, correlation):
    """Every sum of `WeightSums`, one index at a time; of each step l where the weights do not sum to one."""
    c, averages = covariance(t + 1, n_batches, correlation), range(len(weights))
    now = [w.at(t) for w in weights]
    earlier = [[np.pad(w.at(step), (0, t - step)) for step in range(t)] for w in weights]
    shape = (len(weights),) * 3 + (t,)
    lag, lag_noise, inner_noise = np.zeros(shape[2:]), np.zeros(shape[1:]), np.zeros(shape[1:])
    inner_product, inner_outer = np.zeros(shape), np.zeros(shape)
    for a, step in itertools.product(averages, range(t)):
        for k in range(step + 1):
            lag[a, step] += now[a][k]
            for b in averages:
                lag_noise[a, b, step] += now[a][k] * (c @ now[b])[k]
                inner_noise[a, b, step] += now[a][k] * earlier[b][step] @ c[:, k]
                for d in averages:
                    inner_product[a, b, d, step] += now[a][k] * earlier[b][step] @ c @ earlier[d][step]
                    inner_outer[a, b, d, step] += now[a][k] * earlier[b][step] @ c @ now[d]
    found = {"lag": lag, "lag_noise": lag_noise, "inner_noise": inner_noise}
    found |= {"inner_product": inner_product, "inner_outer": inner_outer}
    if all(w.unit_mass for w in weights):
        found = {name: value.sum(axis=-1, keepdims=True) for name, value in found.items()}
    else:
        found["mass"] = np.array([[row[step].sum() for step in range(t)] for row in earlier])
    found["last_mass"] = np.array([w.sum() for w in now])
    return found | {"product": np.array([[x @ c @ y for y in now] for x in now])}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n_batches", "t", "correlation"), [(3, 8, None), (3, 9, -0.4), (4, 10, 0.0), (1, 4, -1.0), (20, 6, -0.1)]
)
def test_weight_sums_match_their_definitions(kind, n_batches, t, correlation):
    got = vars(weight_sums(KINDS[kind], n_batches, t, correlation))
    if correlation is None:
        correlation = -1 / (n_batches - 1)
    for name, value in sums_by_definition(KINDS[kind], n_batches, t, correlation).items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_the_mass_that_they_say(kind):
    for weights in KINDS[kind]:
        masses = [weights.at(t).sum() for t in range(9)]
        np.testing.assert_allclose(weights.mass(np.arange(9.0)), masses, rtol=1e-13)
        if weights.unit_mass:
            np.testing.assert_allclose(masses, 1.0, rtol=1e-13)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("momentum", "Nesterov")])
def test_limit_is_that_of_long_sums_of_independent_batches(kind):
    weights = KINDS[kind]
    long, limit = vars(weight_sums(weights, 1501, 1500, 0.0)), vars(limit_weight_sums(weights))
    for name, value in limit.items():
        total = (
            long[name].sum(axis=-1, keepdims=True) if value.shape[-1] == 1 and name != "mass" else long[name]
        )
        np.testing.assert_allclose(
            total[..., -1:] if name == "mass" else total, value, rtol=1e-10, err_msg=name
        )


def test_an_epoch_of_one_batch_that_uses_every_sample_has_no_noise():
    sums = weight_sums(KINDS["moving average"], 1, 5)
    assert not sums.product.any()
    assert not sums.inner_outer.any()


@pytest.mark.parametrize(("n_batches", "t"), [(127, 2500), (5, 1003)])
def test_long_sums_match_matrices(n_batches, t):
    """Over hundreds of epochs; weights of all steps as triangular matrices."""
    weights = moving_average(0.9), nadam_average(0.99)
    x, y = (np.array([np.pad(w.at(step), (0, t - step)) for step in range(t + 1)]) for w in weights)
    c = covariance(t + 1, n_batches, -1 / (n_batches - 1))
    sums, cumulative = weight_sums(weights, n_batches, t), np.cumsum(x[-1])[:-1]
    products = np.einsum("lp,lp->l", x @ c, y)
    np.testing.assert_allclose(sums.product[0, 1], products[-1], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(sums.inner_product[0, 0, 1, 0], cumulative @ products[:-1], rtol=1e-9)
    seen = np.cumsum(x[-1] * (y @ c), axis=1)[np.arange(t), np.arange(t)]  # sum_{k<=l} w_k (c y^l)_k
    np.testing.assert_allclose(sums.inner_noise[0, 1, 0], seen.sum(), rtol=1e-9)


def test_decayed_sums_match_matrix(rng):
    values = rng.standard_normal((2, 37))
    powers = np.tril(0.7 ** np.subtract.outer(np.arange(37.0), np.arange(37)).clip(0))
    np.testing.assert_allclose(decayed_sums(0.7, values), values @ powers.T, rtol=1e-12)


def test_main_sums_of_arrays_are_those_of_scalars():
    beta2, correlations = np.array([0.5, 0.9, 0.999]), np.array([0.0, -0.3])
    rule = make_rule("adam", {"beta1": 0.9, "beta2": beta2})
    many = main_constants(rule, main_sums(rule.weights, 4, 10, correlations))
    for (i, correlation), (j, r) in itertools.product(enumerate(correlations), enumerate(beta2)):
        one = make_rule("adam", {"beta1": 0.9, "beta2": r})
        forward, c1, c2 = main_constants(one, main_sums(one.weights, 4, 10, correlation))
        assert many[0][j] == pytest.approx(forward, rel=1e-13)
        assert many[1][i, j] == pytest.approx(c1, rel=1e-12)
        assert many[2][i, j] == pytest.approx(c2, rel=1e-12)


# ------------------------------------------------------------------ epochs that leave samples out (N=7, b=2, m=3)
def test_batch_correlation_matches_enumeration():
    orders = np.array(batches_without_replacement(range(7), 2, 3))
    assert orders.shape == (630, 3, 2)
    problem = make_quadratics(7, 2, 1.0, 5)
    noise = (problem.gradients - problem.gradients.mean(axis=0))[orders].mean(axis=2)  # (630, 3, d)
    second = np.einsum("opi,oqj->pqij", noise, noise) / len(orders)
    v, correlation = float(batch_variance_factor(7, 2)), batch_correlation(7, 2)
    want = v * np.multiply.outer(covariance(3, 3, correlation), problem.moments().covariance)
    np.testing.assert_allclose(second, want, rtol=1e-12, atol=1e-15)
    assert correlation * v == pytest.approx(-1 / 6, rel=1e-14)
    assert batch_correlation(6, 2) == pytest.approx(-1 / 2)


def test_exact_c_total_takes_the_correlation():
    exact = exact_c_total(0.9, 0.99, 0.7, 6, 3, batch_correlation(60, 10))
    assert exact == pytest.approx(exact_c_total(0.9, 0.99, 0.7, 6, 3), rel=1e-12)
    assert exact_c_total(0.9, 0.99, 0.7, 6, 3, 0.0) != pytest.approx(exact, rel=1e-3)
