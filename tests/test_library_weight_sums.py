"""The weight sums against their definitions, and epochs that leave samples out against enumeration."""

import itertools

import numpy as np
import pytest

from adam_minibatch_noise.expansion.second_order import (
    adam_constants,
    adam_expectation,
    exact_c_total,
    main_constants,
)
from adam_minibatch_noise.expansion.weight_sums import (
    batch_correlation,
    decayed_sums,
    ema_against,
    ema_products,
    main_sums,
    weight_sums,
)
from adam_minibatch_noise.theory import adam_corr, batch_variance_factor, ema_weights
from sim.losses.problems import make_quadratics

BETAS = (0.8, 0.95)


def covariance(n_steps, n_batches, correlation):
    epochs = np.arange(n_steps) // n_batches
    matrix = np.where(epochs[:, None] == epochs, correlation, 0.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def sums_by_definition(betas, n_batches, t, correlation):
    """Every sum of `WeightSums`, one index at a time."""
    c = covariance(t + 1, n_batches, correlation)
    weights = [ema_weights(beta, t) for beta in betas]
    earlier = [[np.pad(ema_weights(beta, step), (0, t - step)) for step in range(t)] for beta in betas]
    lags = np.arange(t, -1.0, -1.0)
    inner_product, inner_noise = np.zeros((2, 2)), np.zeros((2, 2))
    inner_outer = np.zeros((2, 2, 2))
    for (i, w), x, k in itertools.product(enumerate(weights), (0, 1), range(t)):
        for step in range(k, t):
            inner_product[i, x] += w[k] * earlier[x][step] @ c @ earlier[1][step]
            inner_noise[i, x] += w[k] * earlier[x][step] @ c[:, k]
            for y in (0, 1):
                inner_outer[i, x, y] += w[k] * earlier[x][step] @ c @ weights[y]
    return {
        "lag": [w @ lags for w in weights],
        "product": [w @ c @ weights[1] for w in weights],
        "lag_noise": [[(w * lags) @ c @ y for y in weights] for w in weights],
        "inner_product": inner_product,
        "inner_noise": inner_noise,
        "inner_outer": inner_outer,
    }


@pytest.mark.parametrize("betas", [BETAS, (0.0, 0.9), (0.9, 0.0), (0.9, 0.9)])
@pytest.mark.parametrize(
    ("n_batches", "t", "correlation"), [(3, 8, None), (3, 9, -0.4), (4, 10, 0.0), (1, 4, -1.0), (20, 6, -0.1)]
)
def test_weight_sums_match_their_definitions(betas, n_batches, t, correlation):
    got = vars(weight_sums(betas, n_batches, t, correlation))
    if correlation is None:
        correlation = -1 / (n_batches - 1)
    for name, value in sums_by_definition(betas, n_batches, t, correlation).items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-14, err_msg=name)


def test_an_epoch_of_one_batch_that_uses_every_sample_has_no_noise():
    assert not weight_sums(BETAS, 1, 5).product.any()
    assert not weight_sums(BETAS, 1, 5).inner_outer.any()


@pytest.mark.parametrize(("n_batches", "t"), [(127, 6349), (5, 2003)])
def test_long_sums_match_step_by_step_recursions(n_batches, t):
    beta_x, beta_y = 0.9, 0.999
    weights = ema_weights(beta_y, t)
    own = against = shared = shared_against = x = y = w = 0.0
    products, sums = [], []
    for step in range(t + 1):
        if step % n_batches == 0:
            shared, shared_against, x, y, w = shared + x * y, shared_against + x * w, 0.0, 0.0, 0.0
        own, against = (
            beta_x * beta_y * own + (1 - beta_x) * (1 - beta_y),
            beta_x * against + (1 - beta_x) * weights[step],
        )
        shared, shared_against = beta_x * beta_y * shared, beta_x * shared_against
        x, y, w = beta_x * x + 1 - beta_x, beta_y * y + 1 - beta_y, w + weights[step]
        products.append(n_batches * own - (shared + x * y))
        sums.append(n_batches * against - (shared_against + x * w))
    power = np.arange(1.0, t + 2)
    scale = (n_batches - 1) * (1 - beta_x**power)
    got = ema_products(beta_x, beta_y, n_batches, t)
    np.testing.assert_allclose(got, products / (scale * (1 - beta_y**power)), rtol=1e-9, atol=1e-13)
    got = ema_against(beta_x, weights, n_batches)
    np.testing.assert_allclose(got, sums[:-1] / scale[:-1], rtol=1e-9, atol=1e-16)


def test_decayed_sums_match_matrix(rng):
    values = rng.standard_normal(37)
    powers = np.tril(0.7 ** np.subtract.outer(np.arange(37.0), np.arange(37)).clip(0))
    np.testing.assert_allclose(decayed_sums(0.7, values), powers @ values, rtol=1e-12)


def test_main_sums_of_arrays_are_those_of_scalars():
    beta2, correlations = np.array([0.5, 0.9, 0.999]), np.array([0.0, -0.3])
    many = main_constants(*main_sums((np.full(3, 0.9), beta2), 4, 10, correlations))
    for (i, correlation), (j, r) in itertools.product(enumerate(correlations), enumerate(beta2)):
        one = vars(adam_constants(weight_sums((0.9, r), 4, 10, correlation)))
        assert many[0][j] == pytest.approx(one["FB"], rel=1e-13)
        assert many[1][i, j] == pytest.approx(one["C1"], rel=1e-12)
        assert many[2][i, j] == pytest.approx(one["C2"], rel=1e-12)


# ------------------------------------------------------------------ epochs that leave samples out (N=7, b=2, m=3)
def batches_without_replacement(samples, batch_size, n_batches):
    """Every sequence of `n_batches` disjoint batches; samples may remain."""
    if n_batches == 0:
        return [()]
    return [
        (batch, *rest)
        for batch in itertools.combinations(samples, batch_size)
        for rest in batches_without_replacement(
            [s for s in samples if s not in batch], batch_size, n_batches - 1
        )
    ]


@pytest.fixture(scope="module")
def dropping():
    """Quadratics of 7 samples and the 630 ways to deal 3 batches of 2."""
    orders = np.array(batches_without_replacement(range(7), 2, 3))
    assert orders.shape == (630, 3, 2)
    return make_quadratics(7, 2, 1.0, 5), orders


def test_batch_correlation_matches_enumeration(dropping):
    problem, orders = dropping
    noise = (problem.gradients - problem.gradients.mean(axis=0))[orders].mean(axis=2)  # (630, 3, d)
    second = np.einsum("opi,oqj->pqij", noise, noise) / len(orders)
    v, correlation = float(batch_variance_factor(7, 2)), batch_correlation(7, 2)
    want = v * np.multiply.outer(covariance(3, 3, correlation), problem.moments().covariance)
    np.testing.assert_allclose(second, want, rtol=1e-12, atol=1e-15)
    assert correlation * v == pytest.approx(-1 / 6, rel=1e-14)
    assert batch_correlation(6, 2) == pytest.approx(-1 / 2)


def test_adam_expectation_of_an_epoch_that_leaves_samples_out_matches_enumeration(dropping):
    """Odd orders cancel between a problem and its mirror image; then the residual falls as the square."""
    problem, orders = dropping
    v, correlation = float(batch_variance_factor(7, 2)), batch_correlation(7, 2)
    residuals = []
    for amplitude in (0.04, 0.02):
        mean = np.zeros(2)
        for sign in (1, -1):
            noisy = problem.with_noise(sign * amplitude)
            gradients, hessians = noisy.gradients[orders].mean(axis=2), noisy.hessians[orders].mean(axis=2)
            values = [adam_corr(g, h, *BETAS) for g, h in zip(gradients, hessians, strict=True)]
            mean += np.mean(values, axis=0) / 2
        moments = problem.with_noise(amplitude).moments()
        zeroth, terms = adam_expectation(moments, weight_sums(BETAS, 3, 2, correlation), v)
        added = sum(terms.values())
        residuals.append(np.abs(mean - zeroth - added).max() / np.abs(added).max())
    assert residuals[1] < 5e-3
    assert np.log2(residuals[0] / residuals[1]) == pytest.approx(2, abs=0.1)


def test_exact_c_total_takes_the_correlation():
    exact = exact_c_total(0.9, 0.99, 0.7, 6, 3, batch_correlation(60, 10))
    assert exact == pytest.approx(exact_c_total(0.9, 0.99, 0.7, 6, 3), rel=1e-12)
    assert exact_c_total(0.9, 0.99, 0.7, 6, 3, 0.0) != pytest.approx(exact, rel=1e-3)
