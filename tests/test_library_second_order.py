"""The exact second-order expectation against enumeration of every batch order, its limit, and its constants."""

import itertools

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.second_order import (
    adam_constants,
    adam_expectation,
    exact_c_total,
    sgd_momentum_expectation,
)
from adam_minibatch_noise.expansion.weight_sums import apply_covariance, ema, limit_weight_sums, weight_sums
from adam_minibatch_noise.theory import (
    adam_corr,
    adam_main,
    batch_variance_factor,
    c_total,
    ema_weights,
    expected_corr_terms,
    limit_constants,
)
from sim.losses.problems import Quadratics, make_least_squares, make_quadratics
from sim.monte_carlo.sampling import ordered_partitions

TERMS = ["MBN1", "MBN2", "MBN3", "MBN4", "MBN5"]


def batches_of(problem, batch_size):
    """Batch gradients and Hessians of every ordered partition: (n_partitions, m, d) and (.., m, d, d)."""
    orders = ordered_partitions(problem.n_samples, batch_size)
    shape = (len(orders), -1, batch_size)
    gradients = problem.gradients[orders].reshape(*shape, problem.n_params).mean(axis=2)
    hessians = problem.hessians[orders].reshape(*shape, problem.n_params, problem.n_params).mean(axis=2)
    return gradients, hessians


def enumerated(problem, batch_size, n_epochs, corr):
    gradients, hessians = batches_of(problem, batch_size)
    choices = itertools.product(range(len(gradients)), repeat=n_epochs)
    values = [corr(np.concatenate(gradients[list(c)]), np.concatenate(hessians[list(c)])) for c in choices]
    return np.mean(values, axis=0)


def mirrored(n_samples, n_params, noise, seed):
    """Quadratics whose samples deviate from the mean in opposite pairs: third moments of the noise vanish."""
    base = make_quadratics(n_samples // 2, n_params, 1.0, seed)
    other = base.with_noise(-1.0)
    pairs = zip((base.gradients, base.hessians), (other.gradients, other.hessians), strict=True)
    return Quadratics(*(np.concatenate(pair) for pair in pairs)).with_noise(noise)


def second_order(problem, batch_size, n_epochs, beta1, beta2, eps_root):
    n_batches = problem.n_samples // batch_size
    v = float(batch_variance_factor(problem.n_samples, batch_size))
    sums = weight_sums((beta1, beta2), n_batches, n_batches * n_epochs - 1)
    zeroth, terms = adam_expectation(problem.moments(), sums, v, eps_root)
    return zeroth, sum(terms.values())


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "n_epochs"),
    [(6, 1, 1), (6, 2, 1), (6, 2, 2), (8, 2, 1), (8, 4, 2), (4, 1, 2), (6, 3, 2), (6, 6, 3)],
)
@pytest.mark.parametrize("eps_root", [0.0, 0.3])
def test_adam_expectation_residual_falls_as_the_square_of_the_noise(
    n_samples, batch_size, n_epochs, eps_root
):
    """Residual relative to the second-order term: O(noise) from third moments, O(noise^2) where they vanish.

    The noise of the six samples is symmetric about the mean (r, -r), so third moments of a sample vanish and the
    ratio between amplitude z and z/2 is 4.
    """
    base = make_quadratics(n_samples // 2, 2, 1.0, 3)
    mirrored = base.with_noise(-1.0)
    base = type(base)(
        np.concatenate([base.gradients, mirrored.gradients]),
        np.concatenate([base.hessians, mirrored.hessians]),
    )
    residuals = []
    for amplitude in (0.04, 0.02):
        problem = base.with_noise(amplitude)
        mean = enumerated(problem, batch_size, n_epochs, lambda g, h: adam_corr(g, h, 0.8, 0.95, eps_root))
        zeroth, added = second_order(problem, batch_size, n_epochs, 0.8, 0.95, eps_root)
        if batch_size == n_samples:
            np.testing.assert_allclose(mean, zeroth, rtol=1e-12)
            assert not added.any()
            return
        residuals.append(np.abs(mean - zeroth - added).max() / np.abs(added).max())
    slope = np.log2(residuals[0] / residuals[1])
    assert residuals[1] < 5e-3
    assert slope == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("eps_root", [0.0, 0.3])
def test_each_term_matches_enumeration_with_noise_in_its_two_places_only(eps_root):
    """MBN1..MBN5 one by one: noise is switched on in g_j, the Hessian and the accumulated updates separately."""
    beta1, beta2, batch_size = 0.8, 0.95, 2
    problem = mirrored(6, 3, 1e-3, 0)
    moments = problem.moments()
    all_gradients, all_hessians = batches_of(problem, batch_size)

    def expectation(outer, hessian, inner):
        values = []
        for g, h in zip(all_gradients, all_hessians, strict=True):
            inner_g = g if inner else np.broadcast_to(moments.gradient, g.shape)
            outer_g = g if outer else np.broadcast_to(moments.gradient, g.shape)
            h = h if hessian else np.broadcast_to(moments.hessian, h.shape)
            t = len(g) - 1
            mu, nu = ema_weights(beta1, t), ema_weights(beta2, t)
            updates = adam_main(inner_g[:-1], beta1, beta2, eps_root)
            curved = np.einsum("kij,kj->ki", h[:-1], np.cumsum(updates[::-1], axis=0)[::-1])
            root = np.sqrt(nu @ outer_g**2 + eps_root)
            second = nu[:-1] @ (outer_g[:-1] * curved)
            values.append((mu[:-1] @ curved) / root - (mu @ outer_g) * second / root**3)
        return np.mean(values, axis=0)

    quiet = expectation(0, 0, 0)
    outer, hessian, inner = expectation(1, 0, 0), expectation(0, 1, 0), expectation(0, 0, 1)
    measured = {
        "MBN1": outer - quiet,
        "MBN2": inner - quiet,
        "MBN3": expectation(1, 1, 0) - outer - hessian + quiet,
        "MBN4": expectation(0, 1, 1) - hessian - inner + quiet,
        "MBN5": expectation(1, 0, 1) - outer - inner + quiet,
    }
    v = float(batch_variance_factor(6, batch_size))
    zeroth, terms = adam_expectation(moments, weight_sums((beta1, beta2), 3, 2), v, eps_root)
    np.testing.assert_allclose(quiet, zeroth, rtol=1e-12)
    for name in TERMS:
        np.testing.assert_allclose(measured[name], terms[name], rtol=2e-3, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("beta2", [0.0, 0.3, 0.9, 0.999])
def test_limit_of_the_weight_sums_is_the_formula_sheet(beta1, beta2):
    got, sheet = vars(adam_constants(limit_weight_sums((beta1, beta2)))), vars(limit_constants(beta1, beta2))
    for name, value in sheet.items():
        assert got[name] == pytest.approx(value, rel=1e-11, abs=1e-12), name


def test_finite_constants_tend_to_the_limit_as_one_over_the_number_of_batches():
    limit = np.array(list(vars(limit_constants(0.5, 0.8)).values()))
    gaps = [
        np.abs(np.array(list(vars(adam_constants(weight_sums((0.5, 0.8), m, m - 1))).values())) - limit)[1:]
        for m in (500, 1000)
    ]
    np.testing.assert_allclose(np.log2(gaps[0] / gaps[1]), 1.0, atol=0.02)


def test_adam_expectation_without_eps_is_made_of_the_six_constants():
    problem, sums = make_quadratics(12, 4, 0.3, 1), weight_sums((0.7, 0.9), 6, 17)
    zeroth, terms = adam_expectation(problem.moments(), sums, 0.2)
    for name, value in expected_corr_terms(problem.moments(), adam_constants(sums), 0.2).items():
        np.testing.assert_allclose(zeroth if name == "FB" else terms[name], value, rtol=1e-11)


def test_exact_c_total_tends_to_c_total():
    assert exact_c_total(0.5, 0.8, 0.7, 100_000) == pytest.approx(float(c_total(0.5, 0.8, 0.7)), rel=1e-4)


@pytest.mark.parametrize("n_epochs", [1, 2])
@pytest.mark.parametrize("beta", [0.0, 0.7, 1 - 1e-9])
def test_sgd_momentum_expectation_matches_enumeration(beta, n_epochs):
    """No remainder: Corr is bilinear in the noise."""
    problem = make_quadratics(6, 3, 2.0, 5)

    def corr(gradients, hessians):
        t = len(gradients) - 1
        updates = [sum(beta ** (l - k) * gradients[k] for k in range(l + 1)) for l in range(t)]  # noqa: E741
        return sum(beta ** (t - k) * hessians[k] @ sum(updates[k:]) for k in range(t))

    v = float(batch_variance_factor(6, 2))
    got = sum(sgd_momentum_expectation(problem.moments(), beta, 3, 3 * n_epochs - 1, v))
    np.testing.assert_allclose(got, enumerated(problem, 2, n_epochs, corr), rtol=1e-12)


def test_least_squares_moments_match_written_out_quadratics():
    problem = make_least_squares(20, 4, 0.7, 2)
    for name, value in vars(problem.quadratics().moments()).items():
        np.testing.assert_allclose(vars(problem.moments())[name], value, rtol=1e-12, err_msg=name)


def test_apply_covariance_matches_matrix(rng):
    values, m = rng.standard_normal(11), 4
    epoch = np.arange(11) // m
    matrix = np.where(epoch[:, None] == epoch, -1 / (m - 1), 0.0)
    np.fill_diagonal(matrix, 1.0)
    np.testing.assert_allclose(apply_covariance(values, m), matrix @ values, rtol=1e-12)


def test_ema_matches_weights(rng):
    values = rng.standard_normal(9)
    want = [ema_weights(0.8, t) @ values[: t + 1] for t in range(9)]
    np.testing.assert_allclose(ema(0.8, values), want, rtol=1e-12)


def test_adam_expectation_rejects_zero_gradient_without_eps():
    problem = make_quadratics(4, 2, 0.0, 0)
    problem.gradients[:, 1] = 0
    with pytest.raises(InputError, match="component 1"):
        adam_expectation(problem.moments(), weight_sums((0.9, 0.99), 2, 1), 0.1)
    zeroth, _ = adam_expectation(problem.moments(), weight_sums((0.9, 0.99), 2, 1), 0.1, eps_root=1e-3)
    assert np.isfinite(zeroth).all()
