"""What the formulas and kernels give at the edges, against exact rational and 50-digit arithmetic.

The relative error each reaches is written down in `tests.fifty_digits.MAX_RELATIVE_ERROR`; where nothing is defined
they refuse. The kernels of Corr have `test_numbers_kernels`.
"""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch

from adam_minibatch_noise import theory
from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.averaging import moving_average
from adam_minibatch_noise.expansion.constants import exact_c_total
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.second_order import second_order_terms
from adam_minibatch_noise.expansion.weight_sums import main_sums, weight_sums
from adam_minibatch_noise.optimizers.adam import Adam, bias_correction
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW
from sim.losses.landscapes import landscape_of
from sim.losses.problems import LeastSquares, Quadratics, make_least_squares
from sim.memory import memoryless
from sim.monte_carlo import trajectories
from tests.fifty_digits import accept, exact_weights
from train.language.cross_entropy import cross_entropy_sum

NEAR_ONE = [1 - 1e-12, math.nextafter(1, 0)]
BETAS = [0.0, 5e-324, 1e-12, 0.1, 1 / 3, 0.5, 0.9, 0.99, 0.999, 1 - 1e-6, *NEAR_ONE]
PAIRS = [(b, r) for b in BETAS for r in BETAS]
PAIRS += [(b, math.nextafter(b, to)) for b in BETAS[3:-1] for to in (0, 1)]


# -------------------------------------------------------------------------------------------- closed forms
def exact_constants(b, r):
    """The definitions as sums over lags, added up in closed form; each with the largest of its terms."""
    b, r = Fraction(b), Fraction(r)
    s2, smn = (1 - r) / (1 + r), (1 - b) * (1 - r) / (1 - b * r)
    lag_mn, lag_nn = (1 - b) * (1 - r) * b * r / (1 - b * r) ** 2, (r / (1 + r)) ** 2
    mu, nu = b / (1 - b), r / (1 - r)
    first = [-mu / 2, mu * 3 / 2 * s2, nu * 3 / 2, -nu * 15 / 2 * s2, nu * 3 * smn, -lag_mn, 3 * lag_nn]
    third = [-2 * lag_mn, -nu, 3 * lag_nn]
    forward = mu - nu
    second = forward * (Fraction(-1, 2) + Fraction(3, 2) * s2 - smn)
    # sum_a (mu_a - nu_a)(r^a - b^a)
    inner = (1 - b) / (1 - b * r) - (1 - b) / (1 - b * b) - (1 - r) / (1 - r * r) + (1 - r) / (1 - b * r)
    fifth = r * (r - b) * (2 * r - 3 * b - 1) / ((1 + b) * (1 + r) ** 2 * (1 - b * r))
    return {
        "forward_bias": (forward, forward),
        "c1": (sum(first), max(map(abs, first))),
        # A_F falls through 0 on a curve, where only its terms set a scale
        "c2": (second, max(abs(second), abs(forward) * s2 / 100)),
        "c3": (sum(third), max(map(abs, third))),
        "c4": (inner, inner),
        "c5": (fifth, max(abs(fifth), abs(r * (r - b)) / 100)),
    }


@pytest.mark.parametrize("name", ["forward_bias", "c1", "c2", "c3", "c4", "c5"])
def test_constants_match_exact_rationals_at_the_edges(name):
    for b, r in PAIRS:
        exact, scale = exact_constants(b, r)[name]
        with np.errstate(under="ignore"):
            accept(name, float(getattr(theory, name)(b, r)), exact, scale)


@pytest.mark.parametrize("lam", [0.0, 5e-324, 0.5, 1.0, 1e6])
def test_c_total_matches_exact_rationals_at_the_edges(lam):
    for b, r in PAIRS:
        parts = exact_constants(b, r)
        exact = parts["forward_bias"][0] + (parts["c1"][0] + parts["c2"][0]) * Fraction(lam)
        scale = abs(parts["forward_bias"][0]) + (parts["c1"][1] + abs(parts["c2"][0])) * Fraction(lam)
        accept("c_total", float(theory.c_total(b, r, lam)), exact, scale)


def test_without_memory_every_constant_is_zero():
    assert theory.limit_constants(0.0, 0.0) == theory.Constants(0, 0, 0, 0, 0, 0)


def test_equal_betas_leave_c1_and_c3_alone():
    for beta in BETAS:
        constants = theory.limit_constants(beta, beta)
        assert constants.FB == constants.C2 == constants.C4 == constants.C5 == 0


@pytest.mark.parametrize("beta", BETAS)
def test_bias_corrections_match_exact_rationals(beta):
    """0^0 is 1: with beta = 0 the newest step has all the weight; near 1 the weights are equal."""
    for t in (0, 1, 9):
        accept("ema_weights", moving_average(beta).at(t), exact_weights(beta, t))
        accept("ema_weights", bias_correction(beta, t + 1), 1 - Fraction(beta) ** (t + 1))


@pytest.mark.parametrize(("n_samples", "batch_size"), [(1, 1), (2, 1), (7, 7), (16317, 16317), (10**15, 1)])
def test_batch_factor_and_critical_size_match_exact_rationals(n_samples, batch_size):
    exact = (Fraction(n_samples, batch_size) - 1) / max(n_samples - 1, 1)
    accept("critical_batch_size", theory.batch_variance_factor(n_samples, batch_size), exact)
    for scale in (1e-290, 1.0, 1e300):
        exact = Fraction(n_samples) / (1 + (n_samples - 1) / Fraction(scale) / 2)
        accept("critical_batch_size", theory.critical_batch_size(n_samples, scale, 0.5), exact)
    assert theory.critical_batch_size(n_samples, 300, 0) == n_samples
    assert theory.critical_batch_size(n_samples, math.inf, 0.5) == n_samples
    assert theory.critical_batch_size(n_samples, 5e-324, 0.5) < 1e-300 or n_samples == 1


def test_two_batch_estimates_match_exact_rationals():
    for small, big, n in ((1, 2, math.inf), (32, 256, math.inf), (1, 3, 3), (2, 4, 16317), (1, 16317, 16317)):
        for g_small, g_big in ((1.0, 1.0), (1e-300, 1e-301), (1e300, 3.0), (0.0, 0.0), (2.0, 3.0)):
            v = [1 / Fraction(b) if n == math.inf else (Fraction(n, b) - 1) / (n - 1) for b in (small, big)]
            x, y = Fraction(g_small), Fraction(g_big)
            square, trace = theory.two_batch_estimates(g_small, g_big, small, big, n)
            # of a difference nothing but its terms sets a scale
            accept("two_batch_estimates", trace, (x - y) / (v[0] - v[1]), max(x, y) / (v[0] - v[1]))
            terms = [v[0] * y / (v[0] - v[1]), v[1] * x / (v[0] - v[1])]
            accept("two_batch_estimates", square, terms[0] - terms[1], max(terms))


# --------------------------------------------------------------------------------------- expansion in noise
def exact_weight_sums(beta1, beta2, n_batches, t):
    """Every sum of `WeightSums` from its definition."""
    betas = (beta1, beta2)
    w = [exact_weights(beta, t) for beta in betas]
    past = [[exact_weights(beta, s) for s in range(t)] for beta in betas]  # x^l

    def c(p, q):
        if p == q:
            return Fraction(int(n_batches > 1))
        return Fraction(-1, n_batches - 1) if p // n_batches == q // n_batches else Fraction(0)

    steps = range(t + 1)
    noise = [[sum(c(p, q) * y[q] for q in steps) for p in steps] for y in w]

    def inner(x, what):  # sum_k w_k sum_{l=k}^{t-1} what(k, l), with what linear in x^l
        return [[sum(v[k] * what(y, k, s) for s in range(t) for k in range(s + 1)) for y in past] for v in x]

    def products(x, y, s):
        return sum(x[s][p] * c(p, q) * y[s][q] for p in range(s + 1) for q in range(s + 1))

    return {
        "lag": [sum(x[k] * (t - k) for k in steps) for x in w],
        "product": [[sum(x[k] * y[k] for k in steps) for y in noise] for x in w],
        "lag_noise": [[sum(x[k] * (t - k) * y[k] for k in steps) for y in noise] for x in w],
        "inner_product": [
            [list(one) for one in zip(*each, strict=True)]
            for each in zip(*(inner(w, lambda x, _, s, y=y: products(x, y, s)) for y in past), strict=True)
        ],
        "inner_noise": inner(w, lambda y, k, s: sum(y[s][p] * c(p, k) for p in range(s + 1))),
        "inner_outer": [
            [list(one) for one in zip(*each, strict=True)]
            for each in zip(
                *(inner(w, lambda y, _, s, n=n: sum(y[s][p] * n[p] for p in range(s + 1))) for n in noise),
                strict=True,
            )
        ],
    }


@pytest.mark.parametrize(
    "betas",
    [(b, r) for b in (0.0, 0.9, 1 - 1e-12) for r in (0.0, 0.9, 0.999, 1 - 1e-6, 1 - 1e-12)],
)
@pytest.mark.parametrize(("n_batches", "t"), [(1, 0), (1, 4), (2, 0), (4, 3), (4, 7)])
def test_weight_sums_match_exact_rationals(betas, n_batches, t):
    """Relative to the number of steps that each sum runs over: a sum of weights alone is of size 1."""
    weights = make_rule("adam", {"beta1": betas[0], "beta2": betas[1]}).weights
    found, exact = weight_sums(weights, n_batches, t), exact_weight_sums(*betas, n_batches, t)
    for name, values in exact.items():
        each = getattr(found, name)
        accept("time sums", each if name == "product" else each[..., 0], np.array(values, object), t + 1)
    assert [
        np.array_equal(getattr(found, name), main)
        for name, main in zip(
            ("lag", "product", "lag_noise", "inner_product"), main_sums(weights, n_batches, t), strict=True
        )
    ] == [True] * 4


def test_full_batch_has_no_noise_term():
    """m = 1: the batch is the sample set, every noise sum is 0 and C_total is its noiseless part."""
    problem = make_least_squares(6, 2, 0.3, 0)
    rule = make_rule("adam")
    zeroth, second = second_order_terms(rule, problem.moments(), weight_sums(rule.weights, 1, 6), 0.0)
    assert np.isfinite(zeroth).all()
    assert all((term == 0).all() for term in second.values())
    assert exact_c_total(0.9, 0.999, 0.0, 1) == pytest.approx(0, abs=1e-12)


def test_expansion_refuses_a_gradient_component_of_zero():
    moments = Quadratics(np.array([[1.0, 1.0], [-1.0, 1.0]]), np.ones((2, 2, 2))).moments()
    with pytest.raises(InputError, match="component 0 of the gradient is 0"):
        second_order_terms(make_rule("adam"), moments, weight_sums(make_rule("adam").weights, 2, 1), 1.0)


# ------------------------------------------------------------------------------------------------ trajectories
def exact_adam(gradient, theta, n_steps, lr, beta1, beta2, eps_root, eps=0):
    """Adam on a scalar with gradient(theta, t), 50 digits; bias corrections by weights that sum to 1."""
    mp, seen, out = mpmath.mpf, [], []
    theta = mp(theta)
    for t in range(n_steps):
        seen.append(gradient(theta, t))
        mu, nu = ([mp(x.numerator) / x.denominator for x in exact_weights(b, t)] for b in (beta1, beta2))
        first = sum(w * g for w, g in zip(mu, seen, strict=True))
        root = mpmath.sqrt(sum(w * g**2 for w, g in zip(nu, seen, strict=True)) + mp(eps_root)) + eps
        theta -= mp(lr) * (first / root if root else 0)
        out.append(Fraction(str(theta)))
    return out


OPTIMIZER_CASES = [(b1, b2) for b1 in (0.0, 0.9, 1 - 1e-12) for b2 in (0.0, 0.9, 0.999, 1 - 1e-12)]


@pytest.mark.parametrize(("beta1", "beta2"), OPTIMIZER_CASES)
def test_adam_of_train_matches_50_digits(beta1, beta2):
    """Gradients from 1e-100 to 1e100, and eps = 0."""
    gradients = [1.0, -0.5, 3.0, 1e-8, -2.0]
    for unit in (1.0, 1e-100, 1e100):
        exact = exact_adam(
            lambda _, t, unit=unit: mpmath.mpf(gradients[t] * unit), 0.5, 5, 0.125, beta1, beta2, 0
        )
        for name, make in (
            ("Adam of train, float64", lambda p: Adam([p], 0.125, (beta1, beta2))),
            (
                "invariant Adam of train, float64",
                lambda p: BatchSizeInvariantAdamW(
                    [p], lr=0.125, betas=(beta1, beta2), eps=0.0, weight_decay=0.0
                ),
            ),
        ):
            param = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
            optimizer = make(param)
            for g, true in zip(gradients, exact, strict=True):
                param.grad = torch.tensor([g * unit], dtype=torch.float64)
                if isinstance(optimizer, BatchSizeInvariantAdamW):
                    optimizer.accumulate()
                optimizer.step()
                accept(name, param.item(), true, max(1, abs(true)))


def test_adam_of_train_leaves_zero_gradients_where_they_are():
    for make in (
        lambda p: Adam([p], 0.1),
        lambda p: Adam([p], 0.1, eps=1e-8),
        lambda p: Adam([p], 0.1, eps_root=1e-8),
    ):
        param = torch.nn.Parameter(torch.tensor([0.5, 0.25], dtype=torch.float64))
        optimizer = make(param)
        for _ in range(3):
            param.grad = torch.tensor([0.0, 1.0], dtype=torch.float64)
            optimizer.step()
        assert param[0].item() == 0.5
        assert param[1].item() == pytest.approx(0.25 - 0.3)


@pytest.mark.parametrize(("beta1", "beta2"), [(0.0, 0.0), (0.9, 0.9), (0.9, 0.999), (1 - 1e-12, 1 - 1e-6)])
def test_runs_of_one_parameter_and_full_batch_match_50_digits(beta1, beta2):
    """d = 1, m = 1, and a learning rate that is far too large."""
    features, targets = np.array([[1.5], [1.5]]), np.array([0.25, 0.75])
    for lr in (1e-3, 1e3):

        def gradient(theta, _):
            return mpmath.mpf(1.5) * (mpmath.mpf(1.5) * theta - mpmath.mpf(0.5))

        exact = exact_adam(gradient, 1.0, 4, lr, beta1, beta2, 1e-12)
        runs = trajectories.adam_runs(
            features, targets, np.ones(1), batch_size=2, beta1=beta1, beta2=beta2, eps_root=1e-12, lr=lr, n_epochs=4,
            n_runs=1, seed=0,
        )  # fmt: skip
        accept("adam_runs", np.ravel(runs)[-1], exact[-1], lr)


@pytest.mark.parametrize(
    ("beta1", "beta2"), [(0.0, 0.0), (0.0, 0.9), (0.9, 0.9), (0.9, 0.999), (1 - 1e-12, 1 - 1e-12)]
)
def test_memory_matches_50_digits(beta1, beta2):
    """One sample, one parameter: the algorithm with memory on a parabola."""
    landscape = landscape_of(LeastSquares(np.array([[1.5]]), np.array([0.5]), np.array([1.0])))
    exact = exact_adam(
        lambda theta, _: mpmath.mpf(1.5) * (mpmath.mpf(1.5) * theta - mpmath.mpf(0.5)), float(landscape.start[0]),
        5, 1e-3, beta1, beta2, 1e-6,
    )  # fmt: skip
    adam = make_rule("adam", {"beta1": beta1, "beta2": beta2, "eps_root": 1e-6})
    found = memoryless.with_memory(landscape, adam, np.zeros((5, 1), int), 1e-3)
    accept("memory", found[1:, 0], exact, 1)


# -------------------------------------------------------------------------------------------- cross entropy
@pytest.mark.parametrize("size", [0.0, 5e-324, 1.0, 1e3, 1e300])
def test_cross_entropy_matches_50_digits(size):
    hidden = torch.tensor([[1.0, -1.0], [0.5, 0.25]], dtype=torch.float64)
    weight = size * torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    bias, targets = torch.tensor([0.0, 0.125, -0.5], dtype=torch.float64), torch.tensor([0, 2])
    exact = mpmath.mpf(0)
    for h, target in zip(hidden.tolist(), targets.tolist(), strict=True):
        logits = [
            sum(mpmath.mpf(x) * mpmath.mpf(w) for x, w in zip(h, row, strict=True)) + b
            for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
        ]
        highest = max(logits)
        exact += highest + mpmath.log(sum(mpmath.exp(x - highest) for x in logits)) - logits[target]
    found = cross_entropy_sum(hidden, weight, bias, targets)
    accept(
        "cross entropy, float64",
        found.item(),
        Fraction(str(exact)),
        Fraction(str(max(exact, mpmath.mpf(size), 1))),
    )
