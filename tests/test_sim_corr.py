import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from sim.losses import cnn
from sim.monte_carlo import corr, parallel_mean, sampling
from sim.monte_carlo.corr_cnn import adam_cnn
from sim.monte_carlo.parallel_mean import mean_and_stderr
from tests import naive

BETAS = [(0.9, 0.999), (0.0, 0.0), (0.99, 0.5)]


def least_squares(n_samples, d, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_samples, d))
    return features, rng.normal(size=n_samples) + 1


def quadratics(n_samples, d, seed=0):
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(n_samples, d, d))
    return rng.normal(size=(n_samples, d)), half + half.transpose(0, 2, 1)


def as_quadratics(features, residuals):
    return features * residuals[:, None], features[:, :, None] * features[:, None, :]


def network(n_samples, d):
    data = cnn.make_data(n_samples, d, n_noise=2, noise_std=0.7, feature_noise=0.2, seed=0)
    return cnn.make_weights(2, d, init_std=0.5, seed=0), data


PROBLEMS = {
    "least_squares": (least_squares, as_quadratics, corr.adam_least_squares),
    "quadratics": (quadratics, lambda *problem: problem, corr.adam_quadratics),
    "cnn": (network, None, adam_cnn),
}
each_problem = pytest.mark.parametrize("kind", ["least_squares", "quadratics"])
each_kernel = pytest.mark.parametrize("kind", PROBLEMS)


@each_problem
@pytest.mark.parametrize(("beta1", "beta2"), BETAS)
@pytest.mark.parametrize("eps_root", [0.0, 0.3])
@pytest.mark.parametrize(
    ("n_samples", "batch_size", "d"),
    [(12, 3, 5), (8, 4, 1), (6, 1, 8), (16, 2, 17), (12, 12, 3), (40, 8, 70)],
)
def test_corr_of_permutations_matches_naive(kind, n_samples, batch_size, d, beta1, beta2, eps_root):
    make, arrays, adam = PROBLEMS[kind]
    problem = make(n_samples, d)
    orders = sampling.draw_permutations(n_samples, 3, seed=1)
    values = adam(*problem, batch_size, beta1, beta2, eps_root)(orders)
    expected = [
        naive.corr_of_permutation(*arrays(*problem), batch_size, beta1, beta2, eps_root, order)
        for order in orders
    ]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-12 * scale)


@each_kernel
def test_mean_and_stderr_are_those_of_the_permutations(kind):
    make, _, adam = PROBLEMS[kind]
    of_orders, n, sizes = adam(*make(12, 4), 3, 0.9, 0.99, 0.1), 2 * parallel_mean.BLOCK + 100, []

    def control(orders):
        return orders[:, :1] - 5.5

    less = corr.subtract_control(of_orders, control)
    orders = sampling.draw_permutations(12, n, 3, 17)
    values = corr.in_blocks(of_orders, orders, 12)
    for function, want in ((of_orders, values), (less, values - control(orders))):
        mean, stderr = mean_and_stderr(function, 12, n, 3, first_index=17, progress=sizes.append)
        np.testing.assert_allclose(mean, want.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(stderr, want.std(axis=0, ddof=1) / np.sqrt(n), rtol=1e-12)
    assert sizes == 2 * [parallel_mean.BLOCK, parallel_mean.BLOCK, 100]


@each_problem
def test_mean_matches_enumeration_within_4_stderr(kind):
    make, _, adam = PROBLEMS[kind]
    of_orders = adam(*make(6, 3, seed=4), 2, 0.9, 0.99, 0.5)
    exact = of_orders(sampling.ordered_partitions(6, 2)).mean(axis=0)
    mean, stderr = mean_and_stderr(of_orders, 6, 5000, 5)
    assert (np.abs(mean - exact) < 4 * stderr).all()


def test_stderr_keeps_its_digits_when_the_deviations_are_small():
    # All samples alike but for one part in 10^9: sums of squares would lose every digit of the variance.
    features = least_squares(8, 3)[0]
    of_orders = corr.adam_least_squares(features[:1] + 1e-9 * features, np.ones(8), 2, 0.9, 0.99, 0.0)
    _, stderr = mean_and_stderr(of_orders, 8, 1000, seed=1)
    values = of_orders(sampling.draw_permutations(8, 1000, 1))
    np.testing.assert_allclose(stderr, (values - values[0]).std(axis=0, ddof=1) / np.sqrt(1000), rtol=1e-6)


@each_kernel
def test_same_seed_same_bytes(kind, monkeypatch):
    monkeypatch.setattr(parallel_mean, "BLOCK", 16)
    make, _, adam = PROBLEMS[kind]
    of_orders, n = adam(*make(16, 20), 4, 0.9, 0.999, 0.1), 5 * parallel_mean.BLOCK + 7

    def run(seed, n_threads=None):
        return np.concatenate(mean_and_stderr(of_orders, 16, n, seed, n_threads=n_threads)).tobytes()

    assert run(9, 1) == run(9, 2) == run(9, 4) != run(10)


def with_entry(array, index, value):
    array = array.copy()
    array[index] = value
    return array


FEATURES, RESIDUALS = least_squares(6, 3)
GRADIENTS, HESSIANS = quadratics(6, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 4}, "batch_size is 4, allowed: a divisor of n_samples = 6"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"beta1": 1.0}, "beta1 is 1.0, allowed: >= 0 and < 1"),
        ({"beta2": -0.1}, "beta2 is -0.1"),
        ({"eps_root": -1e-8}, "eps_root is -1e-08"),
        ({"residuals": RESIDUALS[:5]}, r"features has shape \(6, 3\) and residuals \(5,\)"),
        (
            {"features": with_entry(FEATURES, (1, 1), np.nan)},
            "features is empty or has entries that are not finite",
        ),
        ({"features": with_entry(FEATURES, (slice(None), 2), 0.0)}, "gradient component 2 .* eps_root is 0"),
    ],
)
def test_adam_least_squares_rejects_bad_arguments(changes, message):
    arguments = {
        "features": FEATURES, "residuals": RESIDUALS, "batch_size": 2, "beta1": 0.9, "beta2": 0.99, "eps_root": 0.0,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        corr.adam_least_squares(**(arguments | changes))(np.arange(6)[None])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_permutations": 1}, "n_permutations is 1, allowed: >= 2"),
        ({"seed": -1}, "seed is -1"),
        ({"n_threads": 0}, "n_threads is 0, allowed: >= 1"),
    ],
)
def test_mean_and_stderr_rejects_bad_arguments(changes, message):
    of_orders = corr.adam_least_squares(FEATURES, RESIDUALS, 2, 0.9, 0.99, 0.0)
    with pytest.raises(InputError, match=message):
        mean_and_stderr(of_orders, 6, **({"n_permutations": 10, "seed": 0} | changes))


@pytest.mark.parametrize(
    ("gradients", "hessians", "message"),
    [
        (GRADIENTS, HESSIANS[:, :2], r"hessians \(6, 2, 3\)"),
        (GRADIENTS, with_entry(HESSIANS, (0, 1, 1), np.inf), "hessians is empty or has entries"),
        (with_entry(GRADIENTS, (slice(None), 1), 0.0), HESSIANS, "gradient component 1 .* eps_root is 0"),
    ],
)
def test_adam_quadratics_rejects_bad_arguments(gradients, hessians, message):
    with pytest.raises(InputError, match=message):
        corr.adam_quadratics(gradients, hessians, 2, 0.9, 0.99, 0.0)(np.arange(6)[None])


@pytest.mark.parametrize("row", [[0, 1, 2, 3, 4, 4], [0, 1, 2, 3, 4, 6], [-1, 1, 2, 3, 4, 5], [0, 1, 2]])
def test_given_orders_that_are_no_permutations_are_refused(row):
    of_orders = corr.adam_least_squares(FEATURES, RESIDUALS, 2, 0.9, 0.99, 0.1)
    with pytest.raises(InputError, match="other rows than permutations of 0 to 5"):
        corr.in_blocks(of_orders, [row], 6)
