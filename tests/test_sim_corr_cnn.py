import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from sim.losses import cnn
from sim.monte_carlo import corr_cnn, sampling
from tests import naive
from tests.test_sim_cnn import torch_derivatives


def problem(n_samples, n_filters, patch_length, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1.0, 1.0], n_samples)
    data = cnn.CnnData(rng.normal(size=(n_samples, 2, patch_length)), labels, np.zeros(n_samples, int))
    return cnn.make_weights(n_filters, patch_length, 0.3, seed), data


def naive_values(gradients, hessians, *settings, orders):
    values = np.array([naive.corr_of_permutation(gradients, hessians, *settings, order) for order in orders])
    return values, 1e-10 * np.abs(values).max()


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.0, 0.0), (0.99, 0.5)])
@pytest.mark.parametrize("q", [3, 4])
@pytest.mark.parametrize(
    ("n_samples", "batch_size", "n_filters", "patch_length", "eps_root"),
    [(6, 1, 1, 1, 0.3), (12, 3, 4, 5, 1e-3), (16, 4, 2, 8, 0.1), (10, 5, 3, 9, 1.0), (24, 8, 5, 3, 0.0),
     (36, 12, 9, 17, 0.0), (12, 12, 1, 2, 0.1)],
)  # fmt: skip
def test_corr_of_permutations_matches_naive(
    n_samples, batch_size, n_filters, patch_length, eps_root, q, beta1, beta2
):
    weights, data = problem(n_samples, n_filters, patch_length)
    orders = sampling.draw_permutations(n_samples, 3, seed=1)
    settings = batch_size, beta1, beta2, eps_root
    values = corr_cnn.adam_cnn(weights, data, *settings, q=q)(orders)
    expected, atol = naive_values(*cnn.gradients_and_hessians(weights, data, q), *settings, orders=orders)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=atol)
    assert expected.any() == (beta1 > 0 and n_samples > batch_size)


def test_corr_of_permutations_matches_torch():
    weights, data = problem(8, 2, 5)
    gradients = torch_derivatives(weights, data, 3, 1).reshape(8, -1)
    hessians = torch_derivatives(weights, data, 3, 2).reshape(8, weights.size, -1)
    orders, settings = sampling.draw_permutations(8, 3, seed=2), (2, 0.9, 0.99, 0.01)
    values = corr_cnn.adam_cnn(weights, data, *settings)(orders)
    expected, atol = naive_values(gradients, hessians, *settings, orders=orders)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=atol)


def test_corr_of_permutations_is_finite_at_large_margins():
    weights, data = problem(12, 2, 4)
    weights *= 8
    assert np.abs(cnn.margins(weights, data)).max() > 1000
    orders, settings = sampling.draw_permutations(12, 3, seed=2), (4, 0.9, 0.99, 0.01)
    values = corr_cnn.adam_cnn(weights, data, *settings)(orders)
    expected, atol = naive_values(*cnn.gradients_and_hessians(weights, data), *settings, orders=orders)
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=atol)


WEIGHTS, DATA = problem(6, 2, 3)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta2": -0.1}, "beta2 is -0.1"),
        ({"eps_root": -1e-8}, "eps_root is -1e-08"),
        ({"q": 2}, "q is 2, allowed: a whole number >= 3"),
        ({"weights": WEIGHTS[:, :, :2]}, "filters have length 2, allowed: that of the patches, 3"),
        ({"weights": WEIGHTS[0]}, r"weights has shape \(2, 3\), allowed: \(2, n_filters, patch_length\)"),
        ({"weights": changed(WEIGHTS, 0, np.nan)}, "weights is empty or has entries that are not finite"),
        (
            {"weights": changed(WEIGHTS, (1, 0), 0.0), "batch_size": 6, "eps_root": 0.0},
            "gradient component 6 of the first batch is 0 and eps_root is 0",
        ),
    ],
)
def test_adam_cnn_rejects_bad_arguments(changes, message):
    arguments = {
        "weights": WEIGHTS,
        "data": DATA,
        "batch_size": 2,
        "beta1": 0.9,
        "beta2": 0.99,
        "eps_root": 0.1,
    }
    with pytest.raises(InputError, match=message):
        corr_cnn.adam_cnn(**(arguments | changes))(np.arange(6)[None])
