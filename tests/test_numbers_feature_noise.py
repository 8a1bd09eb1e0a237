"""Adam and AdamW on the two-layer CNN at the ends of their ranges, against the same run in 50 digits."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from sim.feature_noise.settings import Settings
from sim.feature_noise.training import Run
from tests.fifty_digits import MAX_RELATIVE_ERROR

SMALL = Settings(
    n_samples=4, patch_length=6, n_noise=2, noise_std=0.5, n_filters=2, init_std=0.3, lr=0.01, weight_decay=0.1,
    batch_size=2, n_epochs=3, n_test=0, seed=3,
)  # fmt: skip
EDGES = {
    "as published": {},
    "L2 in the gradient": {"optimizer": "adam"},
    "no bias correction": {"bias_correction": False},
    "betas 0": {"beta1": 0.0, "beta2": 0.0},
    "beta1 0": {"beta1": 0.0},
    "beta2 0": {"beta2": 0.0},
    "betas 0, no bias correction": {"beta1": 0.0, "beta2": 0.0, "bias_correction": False},
    "equal betas": {"beta1": 0.5, "beta2": 0.5},
    "betas near 1": {"beta1": 1 - 2e-16, "beta2": 1 - 3e-9, "eps": 1e-12},
    "batch of all": {"batch_size": 4},
    "batch of 1": {"batch_size": 1, "bias_correction": False},
    "eps_root": {"eps": 0.0, "eps_root": 1e-9},
    "both eps": {"eps": 1e-3, "eps_root": 1e-6, "bias_correction": False},
    "smallest eps": {"eps": 1e-130, "bias_correction": False},
    "smallest eps_root": {"eps": 0.0, "eps_root": 1e-260, "bias_correction": False},
    "huge eps": {"eps": 1e100},
    "faint gradients": {"init_std": 1e-60, "eps": 1e-130},
    "gradients whose squares are 0": {"init_std": 1e-90, "eps": 1e-130, "bias_correction": False},
    "zero gradients": {"init_std": 0.0},
    "zero gradients with L2": {"init_std": 0.0, "optimizer": "adam"},
    "one filter, two coordinates": {"n_filters": 1, "patch_length": 2, "n_noise": 1},
    "huge lr": {"lr": 1e60, "weight_decay": 0.0, "n_epochs": 1, "bias_correction": False},
    "decay to nothing": {"lr": 0.5, "weight_decay": 1.9999},
    "the largest power": {"q": 20},
}


def exact_run(s, run, samples):
    """Weights (2 n_filters, patch_length) after the steps on `samples`, and the largest of each on the way."""
    mpf = mpmath.mpf
    n, d = 2 * s.n_filters, s.patch_length
    l2, decay = mpf(s.weight_decay), mpf(1)
    if s.optimizer == "adamw":
        l2, decay = mpf(0), 1 - mpf(s.lr) * l2
    noise = [[mpf(0)] * d for _ in range(s.n_samples)]
    for i, places in enumerate(run.train.places):
        for c, entry in zip(places, run.train.entries[i], strict=True):
            noise[i][c] += mpf(float(entry))
    w = [[mpf(float(x)) for x in row] for row in run.filters.reshape(n, d)]
    first, second = ([[mpf(0)] * d for _ in range(n)] for _ in range(2))
    size = [[abs(x) for x in row] for row in w]
    for t, batch in enumerate(samples, 1):
        gradient = [[l2 * x for x in row] for row in w]
        for i in batch:
            label = int(run.train.labels[i])
            patches = noise[i], [mpf(label if c == 0 else 0) for c in range(d)]
            active = [[max(mpmath.fdot(row, x), mpf(0)) for x in patches] for row in w]
            signs = [1] * s.n_filters + [-1] * s.n_filters
            margin = label * sum(
                sign * sum(a**s.q for a in pair) for sign, pair in zip(signs, active, strict=True)
            )
            doubt = 1 / (1 + mpmath.exp(margin))
            for f in range(n):
                for a, x in zip(active[f], patches, strict=True):
                    slope = -doubt * label * signs[f] * s.q * a ** (s.q - 1) / len(batch)
                    for c in range(d):
                        gradient[f][c] += slope * x[c]
        beta1, beta2 = mpf(s.beta1), mpf(s.beta2)
        bias1, bias2 = (1 - beta1**t, 1 - beta2**t) if s.bias_correction else (1, 1)
        for f in range(n):
            for c in range(d):
                g = gradient[f][c]
                first[f][c] = beta1 * first[f][c] + (1 - beta1) * g
                second[f][c] = beta2 * second[f][c] + (1 - beta2) * g**2
                root = mpmath.sqrt(second[f][c] / bias2 + mpf(s.eps_root)) + mpf(s.eps)
                w[f][c] = decay * w[f][c] - mpf(s.lr) * first[f][c] / bias1 / root
                size[f][c] = max(size[f][c], abs(w[f][c]))
    return w, size


@pytest.mark.parametrize("edge", EDGES)
def test_runs_match_50_digits(edge):
    s = replace(SMALL, **EDGES[edge])
    run = Run(s)
    samples = np.random.default_rng(1).permuted(np.tile(np.arange(s.n_samples), (s.n_epochs, 1)), axis=1)
    samples = samples.reshape(-1, s.batch_size).astype(np.int32)
    exact, size = exact_run(s, run, samples.tolist())
    run.advance(len(samples), samples)
    got = run.filters.reshape(len(exact), -1)
    moved = False
    for f, row in enumerate(exact):
        for c, true in enumerate(row):
            assert math.isfinite(got[f, c])
            error = abs(mpmath.mpf(float(got[f, c])) - true)
            assert error <= MAX_RELATIVE_ERROR["runs on the feature-noise network"] * size[f][c], (f, c)
            moved |= true != 0
    assert moved == (s.init_std > 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 1e-131}, "eps is 1e-131, allowed: 0 or >= 1e-130"),
        ({"eps_root": 5e-324}, "eps_root is 5e-324, allowed: 0 or >= 1e-260"),
        ({"eps": 0.0}, "eps and eps_root are both 0"),
    ],
)
def test_refuses_an_eps_below_the_squares_of_float64(change, message):
    with pytest.raises(InputError, match=message):
        Run(replace(SMALL, **change))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_has_diverged_gets_nothing_right():
    run = Run(replace(SMALL, lr=1e200, n_test=10))
    run.advance(20)
    measured = run.measure()
    assert measured.train_error == measured.test_error == 1
    assert math.isnan(measured.loss)
