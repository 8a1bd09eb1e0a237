import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from sim.losses import cnn


def draw(n_samples=6, n_filters=3, patch_length=7, init_std=0.6, seed=0):
    data = cnn.make_data(n_samples, patch_length, 4, 0.8, 0.2, seed)
    return cnn.make_weights(n_filters, patch_length, init_std, seed), data


def torch_loss(weights, patches, label, q):
    """Cross-entropy of the two class scores, from the definition, for one sample."""
    scores = [sum(torch.relu(w @ x) ** q for w in filters for x in patches) for filters in weights]
    target = torch.tensor(0 if label > 0 else 1)
    return torch.nn.functional.cross_entropy(torch.stack(scores), target)


def torch_derivatives(weights, data, q, order):
    """Loss, gradient or Hessian of every sample by automatic differentiation, in float64."""
    point = torch.tensor(weights)
    take = {
        0: lambda f: f(point),
        1: lambda f: torch.autograd.functional.jacobian(f, point),
        2: lambda f: torch.autograd.functional.hessian(f, point),
    }[order]
    pairs = zip(torch.tensor(data.patches), data.labels, strict=True)
    return np.array([take(lambda w, x=x, y=y: torch_loss(w, x, y, q)).numpy() for x, y in pairs])


@pytest.mark.parametrize("q", [3, 4])
def test_losses_and_gradients_match_torch(q):
    weights, data = draw()
    np.testing.assert_allclose(
        cnn.losses(weights, data, q), torch_derivatives(weights, data, q, 0), rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(
        cnn.gradients(weights, data, q), torch_derivatives(weights, data, q, 1), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("q", [3, 4])
def test_hessian_vector_products_match_torch(q):
    weights, data = draw()
    hessians = torch_derivatives(weights, data, q, 2)
    rng = np.random.default_rng(1)
    for vectors in (
        rng.standard_normal(weights.shape),
        rng.standard_normal((data.n_samples, *weights.shape)),
    ):
        expected = np.einsum("njrlabc,nabc->njrl", hessians, np.broadcast_to(vectors, hessians.shape[:4]))
        products = cnn.hessian_vector_products(weights, vectors, data, q)
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(products, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("q", [3, 4])
def test_gradients_and_hessians_match_torch(q):
    weights, data = draw()
    gradients, hessians = cnn.gradients_and_hessians(weights, data, q)
    expected = torch_derivatives(weights, data, q, 2).reshape(hessians.shape)
    np.testing.assert_allclose(
        gradients, cnn.gradients(weights, data, q).reshape(gradients.shape), rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(hessians, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_losses_and_derivatives_are_finite_at_huge_margins(sign):
    weights, data = draw(init_std=100.0)
    weights = weights * np.array([1.0, 1e-3])[:: int(sign), None, None]  # one class wins every sample
    margins = cnn.margins(weights, data)
    assert margins.max() > 1e3
    assert margins.min() < -1e3
    losses = cnn.losses(weights, data)
    np.testing.assert_allclose(losses[margins < -1e3], -margins[margins < -1e3])
    assert (losses[margins > 1e3] == 0).all()
    for derivative in (cnn.gradients(weights, data), *cnn.gradients_and_hessians(weights, data)):
        assert np.isfinite(derivative).all()


def test_make_data_follows_the_data_model():
    n_samples, patch_length, n_noise, noise_std, feature_noise = 4000, 12, 5, 0.3, 0.2
    data = cnn.make_data(n_samples, patch_length, n_noise, noise_std, feature_noise, seed=3)
    every = np.arange(n_samples)
    signal = data.patches[every, data.signal_patch]
    noise = data.noise_patches
    np.testing.assert_array_equal(signal[:, 0], data.labels)
    assert not signal[:, 1:].any()
    np.testing.assert_array_equal(noise[:, 0], -feature_noise * data.labels)
    assert ((noise[:, 1:] != 0).sum(axis=1) == n_noise).all()
    for half in (data.labels > 0, data.signal_patch > 0):
        assert abs(half.mean() - 0.5) < 4 * 0.5 / np.sqrt(n_samples)
    drawn = noise[:, 1:][noise[:, 1:] != 0]
    assert abs(drawn.std() / noise_std - 1) < 4 / np.sqrt(2 * drawn.size)
    share = (noise[:, 1:] != 0).mean(axis=0)  # of the samples whose noise has the coordinate
    p = n_noise / (patch_length - 1)
    assert (np.abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / n_samples)).all()


def test_make_data_same_seed_same_bytes():
    assert draw(seed=5)[1].patches.tobytes() == draw(seed=5)[1].patches.tobytes()
    assert draw(seed=5)[1].patches.tobytes() != draw(seed=6)[1].patches.tobytes()
    assert draw(seed=5)[0].tobytes() == draw(seed=5)[0].tobytes()


def test_take_keeps_samples_together():
    weights, data = draw()
    picked = np.array([4, 1])
    np.testing.assert_array_equal(
        cnn.gradients(weights, data.take(picked)), cnn.gradients(weights, data)[picked]
    )
    np.testing.assert_array_equal(data.take(picked).noise_patches, data.noise_patches[picked])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_length": 1, "n_noise": 0}, "patch_length is 1, allowed: >= 2"),
        ({"patch_length": 4, "n_noise": 4}, "n_noise is 4, allowed: 0 to patch_length - 1 = 3"),
    ],
)
def test_make_data_rejects_impossible_patches(settings, message):
    with pytest.raises(InputError, match=message):
        cnn.make_data(n_samples=3, noise_std=1.0, feature_noise=0.2, seed=0, **settings)


def test_losses_reject_small_powers_and_other_lengths():
    weights, data = draw()
    for function in (cnn.losses, cnn.gradients_and_hessians):
        with pytest.raises(InputError, match="q is 2, allowed"):
            function(weights, data, 2)
        with pytest.raises(InputError, match="filters have length 6, allowed: that of the patches, 7"):
            function(weights[:, :, :6], data)
