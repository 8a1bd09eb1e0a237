"""Moments of small networks against autograd, their sums over components, and the rows of the table."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.theory import Moments, c_total, expected_corr_terms, limit_constants
from sim import overfitting_noise
from sim.small_networks import moments, tasks, training
from sim.small_networks.settings import Settings

ROOT = Path(__file__).parents[1]
N_INPUTS, N_HIDDEN, N_CLASSES, N = 4, 3, 3, 9


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    hidden, output = rng.normal(size=(N_INPUTS + 1, N_HIDDEN)), rng.normal(size=(N_CLASSES, N_HIDDEN + 1))
    x = np.column_stack([rng.normal(size=(N, N_INPUTS)), np.ones(N)])
    return hidden, output, x, rng.integers(N_CLASSES, size=N)


def by_autograd(hidden, output, x, targets):
    """Per-sample gradients and Hessians by torch, parameters unit by unit, then class by class."""
    x, targets = torch.tensor(x), torch.tensor(targets)
    theta = torch.tensor(np.concatenate([hidden.T.ravel(), output.ravel()]))

    def loss(theta, i):
        w, v = theta[: hidden.size].reshape(hidden.T.shape), theta[hidden.size :].reshape(output.shape)
        h = torch.cat([torch.relu(w @ x[i]), torch.ones(1, dtype=torch.float64)])
        return cross_entropy((v @ h)[None], targets[i : i + 1])

    parts = [
        (
            torch.autograd.functional.jacobian(lambda t, i=i: loss(t, i), theta),
            torch.autograd.functional.hessian(lambda t, i=i: loss(t, i), theta),
        )
        for i in range(len(x))
    ]
    return (np.stack([part[k].numpy() for part in parts]) for k in (0, 1))


def test_network_moments_match_torch(problem):
    gradients, hessians = by_autograd(*problem)
    found = moments.network_moments(*problem)
    noise, bend = gradients - gradients.mean(axis=0), hessians - hessians.mean(axis=0)
    np.testing.assert_allclose(found.gradient, gradients.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.hessian, hessians.mean(axis=0), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.covariance, noise.T @ noise / N, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.cross, np.einsum("rij,rj->ij", bend, noise) / N, rtol=1e-10, atol=1e-13)
    assert np.abs(found.hessian[:15, 15:]).max() > 1e-3  # both layers together
    assert np.abs(found.cross - found.cross.T).max() > 1e-3


@pytest.mark.parametrize("task", ["digits", "regression"])
def test_moments_are_those_of_the_run(task):
    """The layout of the run's weights is read right: gradient and tr(Sigma) are those that the run measured itself."""
    s = Settings(task=task, n_samples=64, batch_size=16, lr=1e-3, max_epochs=30).resolved()
    made = tasks.make_task(s, np.float32)
    best = np.empty(made.network.n_entries, np.float32)
    row = training.train(s, at_best=best)
    m = moments.moments_of(made, best)
    assert np.abs(m.gradient).sum() == pytest.approx(row["gradient_l1"], rel=1e-4)
    assert np.trace(m.covariance) == pytest.approx(row["trace_covariance"], rel=1e-4)
    noise = moments.component_noise(m)
    assert noise["noise_scale"] == pytest.approx(row["b_simple"], rel=1e-4)
    # the rise along the sign of the gradient, to second order, is the measured sharpness
    s_g = np.sign(m.gradient)
    rise = s.rho * np.abs(m.gradient).sum() + s.rho**2 / 2 * s_g @ m.hessian @ s_g
    assert rise == pytest.approx(row["sharpness"], rel=0.02)


def test_other_networks_are_refused():
    s = Settings(task="words", n_samples=64, batch_size=16).resolved()
    made = tasks.make_task(s, np.float32)
    with pytest.raises(InputError, match="few classes"):
        moments.moments_of(made, made.weights)


def random_moments(alike):
    rng = np.random.default_rng(1)
    d = 6
    root = rng.normal(size=(d, d))
    g = rng.normal(size=d)
    covariance = np.diag(7 * g**2) if alike else root @ root.T
    return Moments(g, root + root.T, covariance, rng.normal(size=(d, d)))


def test_components_that_are_alike_give_c_total():
    """Equal noise-to-signal ratios, independent components: K1 = K2 = that ratio, whatever the projection."""
    m = random_moments(alike=True)
    noise = moments.component_noise(m)
    for name in moments.WEIGHTINGS:
        assert noise[f"{name}_1"] == pytest.approx(7)
        assert noise[f"{name}_2"] == pytest.approx(7)
    b, r, v = 0.9, 0.99, 0.3
    constants = limit_constants(b, r)
    found = constants.FB + v * (constants.C1 * noise["rate_1"] + constants.C2 * noise["rate_2"])
    assert found == pytest.approx(float(c_total(b, r, 7 * v)))


def test_rate_is_that_at_which_corr_lowers_the_norm():
    """FB + v sum C_i K_i times the sum of (d_j |g|_1)^2 / |g_j| is the product of E[Corr] and the gradient of |g|_1."""
    m = random_moments(alike=False)
    constants, v = limit_constants(0.8, 0.95), 0.2
    corr = sum(expected_corr_terms(m, constants, v).values())
    slope = np.sign(m.gradient) @ m.hessian
    noise = moments.component_noise(m)
    factors = [getattr(constants, f"C{i}") for i in range(1, 6)]
    for name, weight in (("rate", 1 / np.abs(m.gradient)), ("proposition", np.ones(6))):
        summed = constants.FB + v * sum(c * noise[f"{name}_{i}"] for i, c in enumerate(factors, 1))
        expected = (slope * weight * np.abs(m.gradient)) @ corr
        assert summed * (slope * weight) @ slope == pytest.approx(expected)


def test_components_without_gradient_are_left_out():
    m = random_moments(alike=False)
    d = m.gradient.size

    def padded(matrix):
        return np.pad(matrix, (0, 1))

    more = Moments(padded(m.gradient), padded(m.hessian), padded(m.covariance), padded(m.cross))
    assert moments.component_noise(more) == pytest.approx(moments.component_noise(m))
    assert moments.component_noise(more)["n_params"] == d


def test_run_that_diverged_has_no_noise():
    s = Settings(n_samples=256, batch_size=1, lr=30.0, beta2=0.5, max_epochs=40)
    result, noise = moments.noise_at_best(s)
    assert result["status"] == "diverged"
    assert set(noise) == set(moments.NOISE)
    assert set(noise.values()) == {None}


RECORDS = sorted((ROOT / "records/overfitting_noise").glob("*.csv.gz"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name.partition(".")[0])
def test_recorded_row_is_measured_again(path):
    """To a few digits: sums of matrix products depend on the processor."""
    with gzip.open(path, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    row = min(rows, key=lambda row: float(row["epoch_of_min"]) / float(row["batch_size"]) ** 0.3)
    known = overfitting_noise.runs_of(row["variant"], [int(row["seed"])], [int(row["batch_size"])])
    result, noise = moments.noise_at_best(next(s for s in known if str(s.lr) == row["lr"]))
    assert str(result["min_valid_loss"]) == row["min_valid_loss"]
    assert noise == pytest.approx({name: float(row[name]) for name in moments.NOISE}, rel=1e-4)
