"""Every closed form of the formula sheet against another route: brute-force sums, sympy, definitions."""

import itertools
import math

import numpy as np
import pytest
import sympy

from adam_minibatch_noise import theory

BETAS1 = [0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]
BETAS2 = [0.0, 0.2, 0.45, 0.6, 0.75, 0.85, 0.92, 0.97, 0.99, 0.999]
PAIRS = list(itertools.product(BETAS1, BETAS2))


def brute_force(b, r):
    """C1..C5 from their definitions as sums over lags, added up without rounding (theory: Prop. 3.3)."""
    n_lags = 2 if max(b, r) == 0 else math.ceil(math.log(1e-22) / math.log(max(b, r)))
    mu = [(1 - b) * b**a for a in range(n_lags)]
    nu = [(1 - r) * r**a for a in range(n_lags)]
    s2 = math.fsum(y * y for y in nu)
    smn = math.fsum(x * y for x, y in zip(mu, nu, strict=True))
    bias = b / (1 - b) - r / (1 - r)
    return {
        "FB": bias,
        "C1": b / (1 - b) * (-0.5 + 1.5 * s2)
        - r / (1 - r) * (-1.5 + 7.5 * s2 - 3 * smn)
        - math.fsum(a * nu[a] * (mu[a] - 3 * nu[a]) for a in range(n_lags)),
        "C2": bias * (-0.5 + 1.5 * s2 - smn),
        "C3": -2 * math.fsum(a * mu[a] * nu[a] for a in range(n_lags))
        - r / (1 - r)
        + 3 * math.fsum(a * nu[a] ** 2 for a in range(n_lags)),
        "C4": math.fsum((mu[a] - nu[a]) * (r**a - b**a) for a in range(n_lags)),
        "C5": c5_by_sums(b, r, n_lags),
    }


def c5_by_sums(b, r, n_lags):
    """C5: noise of g_j against noise of the updates, batch by batch, added up over lags in long doubles."""
    age = np.arange(n_lags, dtype=np.longdouble)
    beta = {"m": np.longdouble(b), "n": np.longdouble(r)}
    weight = {name: (1 - value) * value**age for name, value in beta.items()}

    def own(w, y):  # sum_a w_a sum_{c=1..a} y_{a-c}
        return np.sum(weight[w][1:] * np.cumsum(weight[y])[:-1])

    def outer(w, y, z):  # sum_a w_a sum_{c=1..a} sum_{a'>=c} y_{a'-c} z_{a'}
        seen = weight[z] * np.sum(weight[y] * beta[z] ** age)
        return np.sum(weight[w][1:] * np.cumsum(seen[1:]))

    value = 3 * (outer("n", "m", "n") - outer("n", "n", "n")) - (outer("m", "m", "n") - outer("m", "n", "n"))
    return float(value - (outer("n", "m", "m") - outer("n", "n", "m")) - (own("n", "m") - own("n", "n")))


@pytest.mark.parametrize(("b", "r"), PAIRS)
def test_constants_match_brute_force_sums(b, r):
    constants = vars(theory.limit_constants(b, r))
    for name, value in brute_force(b, r).items():
        assert constants[name] == pytest.approx(value, rel=1e-12, abs=1e-14), name


def test_constants_match_symbolic_derivation():
    b, r = sympy.symbols("b r", positive=True)
    # geometric sums, sum a x^a = x/(1-x)^2, of the definitions
    lag = lambda x: x / (1 - x) ** 2  # noqa: E731
    mu, nu = 1 - b, 1 - r
    s2, smn = nu**2 / (1 - r**2), mu * nu / (1 - b * r)
    lag_mn, lag_nn = mu * nu * lag(b * r), nu**2 * lag(r**2)
    bias = b / (1 - b) - r / (1 - r)
    derived = {
        "c1": b / (1 - b) * (-sympy.Rational(1, 2) + sympy.Rational(3, 2) * s2)
        - r / (1 - r) * (-sympy.Rational(3, 2) + sympy.Rational(15, 2) * s2 - 3 * smn)
        - (lag_mn - 3 * lag_nn),
        "c2": bias * (-sympy.Rational(1, 2) + sympy.Rational(3, 2) * s2 - smn),
        "c3": -2 * lag_mn - r / (1 - r) + 3 * lag_nn,
        # sum_a (mu_a - nu_a)(r^a - b^a)
        "c4": mu / (1 - b * r) - mu / (1 - b**2) - nu / (1 - r**2) + nu / (1 - b * r),
    }
    # C5 from the places where noise of g_j meets noise of the updates, batch by batch
    x = {"m": (mu, b), "n": (nu, r)}  # weight of lag 0, ratio

    def outer(
        w, y, z
    ):  # sum_a w_a sum_{c=1..a} sum_{a'>=c} y_{a'-c} z_{a'} = sum_{c>=1} (tail of w) z^c / (..)
        (w0, wr), (y0, yr), (z0, zr) = x[w], x[y], x[z]
        seen = y0 * z0 / (1 - yr * zr)  # times zr^c
        return w0 / (1 - wr) * seen * (wr * zr) / (1 - wr * zr)

    def own(w, y):  # sum_a w_a sum_{c=1..a} y_{a-c}
        (w0, wr), (y0, yr) = x[w], x[y]
        return y0 / (1 - yr) * (w0 * wr / (1 - wr) - w0 * wr * yr / (1 - wr * yr))

    derived["c5"] = (
        3 * (outer("n", "m", "n") - outer("n", "n", "n"))
        - (outer("m", "m", "n") - outer("m", "n", "n"))
        - (outer("n", "m", "m") - outer("n", "n", "m"))
        - (own("n", "m") - own("n", "n"))
    )
    sheet = (  # the closed form printed in the paper's appendix A.2
        (1 - b**2) / (b * (1 - b * r))
        + (1 - b) ** 2 / (b * (1 - b * r) ** 2)
        + 3 * (1 + b) / (2 * (1 - b) * (1 + r))
        - 2 / (b * (1 - b))
        - 2
        + 3 / (2 * (1 - r))
        + 3 / (1 + r) ** 2
    )
    assert sympy.simplify(derived["c1"] - sheet) == 0
    for name, expression in derived.items():
        values = sympy.lambdify((b, r), expression, "mpmath")
        for b_, r_ in PAIRS:
            if b_ > 0:
                got = float(getattr(theory, name)(b_, r_))
                assert got == pytest.approx(float(values(b_, r_)), rel=1e-11, abs=1e-13), (name, b_, r_)


def test_c_total_at_equal_betas_and_unit_ratio_is_c1():
    beta = np.linspace(0.5, 0.99, 11)
    np.testing.assert_allclose(theory.c_total(beta, beta, 1.0), theory.c1(beta, beta), rtol=1e-13)
    assert np.all(np.diff(theory.c1(beta, beta)) > 0)  # Lemma 3.7


@pytest.mark.parametrize(("lam", "sign"), [(0.51, 1), (0.49, -1)])
def test_c_total_is_monotone_in_beta2_on_either_side_of_the_threshold(lam, sign):
    beta2 = np.linspace(0.9, 0.9999, 4001)  # Lemma 3.4: increasing above 0.5082, decreasing below 0.494
    assert np.all(sign * np.diff(theory.c_total(0.9, beta2, lam)) > 0)


def test_batch_variance_factor_matches_enumeration(rng):
    values = rng.standard_normal(6)
    values -= values.mean()
    for batch_size in (1, 2, 3, 6):
        batches = [np.mean(batch) ** 2 for batch in itertools.combinations(values, batch_size)]
        v = theory.batch_variance_factor(6, batch_size)
        assert np.mean(batches) == pytest.approx(v * np.mean(values**2), rel=1e-12, abs=1e-30)
    assert theory.batch_variance_factor(1, 1) == 0


def test_critical_batch_size_inverts_noise_to_signal():
    batch_size = theory.critical_batch_size(16317, 300.0, np.array([0.5, 1.0]))
    np.testing.assert_allclose(theory.noise_to_signal(16317, batch_size, 300.0), [0.5, 1.0], rtol=1e-12)


@pytest.mark.parametrize("n_samples", [12, np.inf])
def test_two_batch_estimates_are_unbiased(rng, n_samples):
    gradients = rng.standard_normal((12, 3)) + 0.5
    mean = gradients.mean(axis=0)
    trace = np.mean(np.sum((gradients - mean) ** 2, axis=1))
    draw = itertools.combinations if n_samples == 12 else itertools.combinations_with_replacement
    squares = {}
    for size in (1, 2):
        if n_samples == 12:
            batches = [np.mean(batch, axis=0) for batch in draw(gradients, size)]
        else:
            batches = [np.mean(batch, axis=0) for batch in itertools.product(gradients, repeat=size)]
        squares[size] = np.mean([batch @ batch for batch in batches])
    got = theory.two_batch_estimates(squares[1], squares[2], 1, 2, n_samples)
    np.testing.assert_allclose(got, (mean @ mean, trace), rtol=1e-12)
    scale = theory.gradient_noise_scale(got[1], got[0])
    assert scale == pytest.approx(trace / (mean @ mean), rel=1e-12)


def test_sgd_momentum_modified_loss_has_the_limit_gradient_of_corr(rng):
    """The two terms of order lr are what the exact expectation tends to (finite differences in theta)."""
    from adam_minibatch_noise.expansion.expectation import expected_corr
    from adam_minibatch_noise.expansion.registry import make_rule
    from sim.losses.problems import Quadratics, make_quadratics

    problem, beta, batch_size = make_quadratics(400, 3, 0.5, 0), 0.6, 1

    def loss(theta):
        moved = Quadratics(problem.gradients + problem.hessians @ theta, problem.hessians).moments()
        trace = np.trace(moved.covariance)
        return theory.sgd_momentum_modified_loss(
            0.0, moved.gradient @ moved.gradient, trace, 1.0, beta, batch_size
        )

    step = 1e-5 * np.eye(3)
    slope = np.array([(loss(e) - loss(-e)) / 2e-5 for e in step]) / (1 - beta)
    exact = expected_corr(make_rule("sgd-momentum", {"beta1": beta}), problem.moments(), 400, batch_size)
    np.testing.assert_allclose(exact.zeroth + exact.second_order, slope, rtol=2e-2)  # what is left is O(1/m)
