import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from sim.monte_carlo import sampling, trajectories
from tests.naive_update_rules import adam


def problem(n_samples, d):
    rng = np.random.default_rng(8)
    return rng.normal(size=(n_samples, d)), rng.normal(size=n_samples), rng.normal(size=d)


def naive_run(features, targets, theta, batch_size, lr, beta1, beta2, eps_root, orders):
    """Parameters after each epoch of Adam, one order of the samples an epoch."""
    gradients, path = [], []
    for order in orders:
        for batch in np.asarray(order).reshape(-1, batch_size):
            errors = features[batch] @ theta - targets[batch]
            gradients.append([features[batch].T @ errors / batch_size])
            theta = theta - lr * adam(np.array(gradients), theta, beta1, beta2, eps_root)
        path.append(theta)
    return np.array(path)


def orders_of(run, n_epochs, n_samples, seed):
    return [
        sampling.draw_permutations(n_samples, 1, seed, run + epoch * 2**32)[0] for epoch in range(n_epochs)
    ]


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.99), (0.0, 0.0)])
@pytest.mark.parametrize(("n_samples", "batch_size", "d"), [(12, 3, 5), (6, 1, 1), (8, 8, 17), (20, 5, 70)])
def test_adam_runs_matches_naive(n_samples, batch_size, d, beta1, beta2):
    arrays = problem(n_samples, d)
    paths = trajectories.adam_runs(*arrays, batch_size, 0.01, beta1, beta2, 1e-3, 3, 2, seed=4, first_run=7)
    expected = [
        naive_run(*arrays, batch_size, 0.01, beta1, beta2, 1e-3, orders_of(7 + run, 3, n_samples, 4))
        for run in range(2)
    ]
    np.testing.assert_allclose(paths, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n_threads", [2, 4])
def test_adam_runs_same_seed_same_bytes(n_threads, monkeypatch):
    arrays = problem(12, 5)
    settings = (3, 0.01, 0.9, 0.99, 1e-3, 2)
    alone = trajectories.adam_runs(*arrays, *settings, 11, seed=1, n_threads=1)
    monkeypatch.setattr(trajectories, "RUNS_IN_BLOCK", 3)
    sizes = []
    shared = trajectories.adam_runs(
        *arrays, *settings, 11, seed=1, progress=sizes.append, n_threads=n_threads
    )
    assert shared.tobytes() == alone.tobytes()
    assert sizes == [3, 3, 3, 2]
    assert (trajectories.adam_runs(*arrays, *settings, 4, seed=1, first_run=7) == alone[7:]).all()
    assert (trajectories.adam_runs(*arrays, *settings, 11, seed=2) != alone).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 5}, "batch_size is 5, allowed: a divisor of n_samples = 12"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"lr": -1.0}, "lr is -1.0, allowed: a finite number >= 0"),
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"beta2": 1.5}, "beta2 is 1.5"),
        ({"eps_root": 0.0}, "eps_root is 0.0, allowed: a finite number > 0"),
        ({"n_epochs": 0}, "n_epochs is 0"),
        ({"n_runs": 0}, "n_runs is 0"),
        ({"first_run": 2**32}, "first_run is 4294967296"),
        ({"seed": -1}, "seed is -1, allowed: 0 to 9223372036854775807"),
        ({"targets": np.zeros(3)}, r"targets \(3,\)"),
        ({"theta": np.full(5, np.inf)}, "theta is empty or has entries that are not finite"),
    ],
)
def test_adam_runs_rejects_bad_arguments(changes, message):
    features, targets, theta = problem(12, 5)
    arguments = {
        "features": features, "targets": targets, "theta": theta, "batch_size": 3, "lr": 0.1, "beta1": 0.9,
        "beta2": 0.99, "eps_root": 0.1, "n_epochs": 1, "n_runs": 1, "seed": 0,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        trajectories.adam_runs(**(arguments | changes))
