"""Corr, its kernels and what they are made of, at the edges, against 50-digit arithmetic from the definitions.

The relative error each reaches is written down in `tests.fifty_digits.MAX_RELATIVE_ERROR`; where nothing is defined
they refuse.
"""

import mpmath
import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion.one_order import rule_corr
from adam_minibatch_noise.expansion.registry import make_rule
from sim.losses import cnn
from sim.losses.landscapes import cnn_landscape
from sim.losses.problems import LeastSquares, Quadratics
from sim.memory import memoryless
from sim.monte_carlo import corr, corr_cnn, parallel_mean
from sim.monte_carlo.control_variate import linear_part
from sim.monte_carlo.sampling import draw_permutations, ordered_partitions
from tests.fifty_digits import (  # fmt: skip
    accept,
    batch_means,
    corr_and_size,
    exact_corr,
    exact_network,
    fraction,
    mpf_array,
)

# ------------------------------------------------------------------------------------ Corr along one order
CASES = {
    "one batch": (1, 1, 0.9, 0.999, 0.0),
    "one parameter": (4, 1, 0.9, 0.999, 0.0),
    "no memory": (4, 3, 0.0, 0.0, 0.0),
    "no first memory": (4, 3, 0.0, 0.9, 0.0),
    "no second memory": (4, 3, 0.9, 0.0, 0.0),
    "equal betas": (4, 3, 0.9, 0.9, 1e-8),
    "denormal betas": (4, 3, 5e-324, 5e-324, 0.0),
    "betas near 1": (4, 3, 1 - 1e-12, 1 - 1e-6, 0.0),
    "both near 1": (4, 3, 1 - 1e-12, 1 - 1e-12, 0.0),
    "first near 1": (4, 3, 1 - 1e-9, 0.5, 0.0),
    "second near 1": (4, 3, 0.5, 1 - 1e-9, 0.0),
    "large floor": (4, 3, 0.9, 0.999, 1e300),
}


@pytest.mark.parametrize("case", CASES)
def test_corr_matches_50_digits(case, rng):
    m, d, beta1, beta2, eps_root = CASES[case]
    gradients = 1 + 0.5 * rng.standard_normal((m, d))  # of either sign: some components are mostly noise
    half = rng.standard_normal((m, d, d))
    hessians = half + half.transpose(0, 2, 1)
    exact = exact_corr(gradients, hessians, beta1, beta2, eps_root)
    scale = max(map(abs, exact))
    adam = make_rule("adam", {"beta1": beta1, "beta2": beta2, "eps_root": eps_root})
    with np.errstate(over="ignore"):  # of third derivatives, which Corr does not need
        accept("rule_corr", rule_corr(adam, gradients, hessians), exact, scale)
    orders = np.arange(m, dtype=np.int32)[None]
    found = corr.adam_quadratics(gradients, hessians, 1, beta1, beta2, eps_root)(orders)
    accept("Corr kernels", found[0], exact, scale)
    _, found = memoryless.main_and_corr(gradients, hessians, adam, np.arange(m)[:, None])
    accept("memoryless Corr", found, exact, scale)


@pytest.mark.parametrize("case", CASES)
def test_control_variate_matches_50_digits(case, rng):
    """The part of Corr linear in the noise is its derivative where there is none."""
    m, d, beta1, beta2, eps_root = CASES[case]
    gradients, half = 1 + 0.5 * rng.standard_normal((m, d)), rng.standard_normal((m, d, d))
    problem = Quadratics(gradients, half + half.transpose(0, 2, 1))
    arrays = [[[mpmath.mpf(x) for x in row.flat] for row in array] for array in (gradients, problem.hessians)]
    means = [[sum(column) / m for column in zip(*array, strict=True)] for array in arrays]

    def corr(size):
        g, h = (
            [[mean + size * (x - mean) for x, mean in zip(row, of, strict=True)] for row in array]
            for array, of in zip(arrays, means, strict=True)
        )
        h = [[row[i : i + d] for i in range(0, d * d, d)] for row in h]
        return exact_corr(g, h, beta1, beta2, eps_root, mpmath.mpf)

    size = mpmath.mpf(10) ** -15
    exact = [(up - down) / (2 * size) for up, down in zip(corr(size), corr(-size), strict=True)]
    found = linear_part(problem, 1, beta1, beta2, eps_root)(np.arange(m)[None])
    scale = max(map(abs, [*exact, *corr(0)]))  # of Corr itself where there is no noise, m = 1
    accept("control variate", found[0], *(list(map(fraction, y)) for y in (exact, [scale] * d)))


@pytest.mark.parametrize("size", [1e-160, 1e-320, 1e200, 0.0])
def test_corr_from_squares_beyond_float64_is_refused(size):
    """Where g^2 under- or overflows no finite number may come out as if nothing had happened."""
    with pytest.raises(RuntimeWarning):  # `common.cli.run` ends a program on it
        rule_corr(make_rule("adam"), np.full((3, 2), size), np.ones((3, 2, 2)))


# ------------------------------------------------------------------------- Corr kernels at every scale of the data
BATCH = 3
BETAS = [(0.9, 0.999), (0.0, 0.0), (0.0, 0.9), (0.9, 0.0), (0.9, 0.9)]
SETTINGS = [
    # n_batches, n_params, beta1, beta2
    *((3, 2, *betas) for betas in BETAS),
    (1, 2, 0.9, 0.999),
    (3, 1, 0.9, 0.999),
    (1, 1, 0.0, 0.0),
    (3, 2, 1 - 1e-12, 1 - 1e-6),
]


def draw_gradients(kind, rng, m, d):
    """Means and noise of (m BATCH, d) numbers; the last parameter is all noise where there is any."""
    numbers = 1 + {"quiet": 0.3, "noisy": 3.0, "noise alone": 1.0}[kind] * rng.standard_normal((m * BATCH, d))
    if kind == "noise alone":
        numbers[:, -1] -= numbers[:, -1].mean() - 1e-9
    return numbers


def exact_sample_corr(gradients, hessians, order, beta1, beta2, eps_root, gradient_sizes=0, hessian_sizes=0):
    """Corr of an order of the samples and its size, from per-sample derivatives in 50 digits."""
    derivatives = [batch_means(values, order, BATCH) for values in (gradients, hessians)]
    pairs = (gradients, gradient_sizes), (hessians, hessian_sizes)
    sizes = [batch_means(abs(values) + of_values, order, BATCH) for values, of_values in pairs]
    return corr_and_size(*derivatives, beta1, beta2, eps_root, *sizes)


def check_orders(name, found, orders, *exact_arguments):
    """Compare kernels' values with 50 digits for every order."""
    for values, order in zip(found, orders, strict=True):
        exact, sizes = exact_sample_corr(*exact_arguments[:2], order, *exact_arguments[2:])
        accept(name, values, list(map(fraction, exact)), list(map(fraction, sizes)))


LEAST_SQUARES_SCALES = [
    # features, residuals, eps_root
    (1.0, 1.0, 0.0),
    (1.0, 1.0, 1e-8),
    (1.0, 1.0, 1e-320),
    (1.0, 1.0, 1e300),
    (1e-310, 1.0, 0.0),
    (1e-310, 1e-5, 0.0),
    (1e-160, 1.0, 0.0),
    (1e-100, 1e-60, 0.0),
    (1e-200, 1e-300, 0.0),
    (1e-10, 1e-300, 1e-300),
    (1e150, 1e-150, 0.0),
    (1e200, 1e100, 0.0),
    (1e-200, 1e200, 1e-320),
    (1e300, 1e308, 0.0),
]


@pytest.mark.parametrize("noise", ["quiet", "noisy", "noise alone"])
@pytest.mark.parametrize("scales", LEAST_SQUARES_SCALES)
def test_corr_of_least_squares_matches_50_digits_at_every_scale(scales, noise, rng):
    of_features, of_residuals, eps_root = scales
    for m, d, beta1, beta2 in SETTINGS if noise == "quiet" else SETTINGS[:3]:
        features = of_features * draw_gradients(noise, rng, m, d) / 16
        residuals = of_residuals * draw_gradients("quiet", rng, m, 1)[:, 0] / 16
        orders = draw_permutations(m * BATCH, 2, seed=1)
        found = corr.adam_least_squares(features, residuals, BATCH, beta1, beta2, eps_root)(orders)
        a, e = mpf_array(features), mpf_array(residuals)
        exact = a * e[:, None], a[:, :, None] * a[:, None, :]
        check_orders("Corr of least squares", found, orders, *exact, beta1, beta2, eps_root)


QUADRATICS_SCALES = [
    # gradients, Hessians, eps_root
    (1e-310, 1e-310, 0.0),
    (1e-310, 1e-20, 0.0),
    (1e-160, 1.0, 0.0),
    (1e-153, 1e-10, 0.0),
    (1e-100, 1e-150, 0.0),
    (1e-5, 1e-310, 1e-300),
    (1e200, 1.0, 0.0),
    (1e153, 1e300, 0.0),
    (1e308, 1e308, 0.0),
    (1e-200, 1e-200, 1e-320),
    (1e-300, 1e308, 1.0),
]


@pytest.mark.parametrize("scales", QUADRATICS_SCALES)
def test_corr_of_quadratics_matches_50_digits_at_every_scale(scales, rng):
    """Components of Corr of unequal size too: the last is 1e100 times as large a gradient as the first."""
    of_gradients, of_hessians, eps_root = scales
    for m, d, beta1, beta2 in SETTINGS:
        gradients = of_gradients * (draw_gradients("quiet", rng, m, d) / 16)
        if 1e-200 < of_gradients < 1e200 and d > 1:
            gradients[:, -1] *= 1e100
        half = of_hessians * (rng.standard_normal((m * BATCH, d, d)) / 16)
        hessians = half + half.transpose(0, 2, 1)
        orders = draw_permutations(m * BATCH, 2, seed=1)
        found = corr.adam_quadratics(gradients, hessians, BATCH, beta1, beta2, eps_root)(orders)
        exact = mpf_array(gradients), mpf_array(hessians)
        check_orders("Corr of quadratics", found, orders, *exact, beta1, beta2, eps_root)


REFUSED = {
    "zero": ([0.0, 0.0, 0.0], 0.9, 1.0, "gradient component 0 of the first batch is 0 and eps_root is 0"),
    "zero at first": (
        [0.0, 1.0, 1.0],
        0.9,
        1.0,
        "gradient component 0 of the first batch is 0 and eps_root is 0",
    ),
    "zero without memory": (
        [1.0, 0.0, 1.0],
        0.0,
        1.0,
        "gradient component 0 of batch 1 is 0 and eps_root is 0",
    ),
    "faint at first": (
        [1e-160, 1.0, 1.0],
        0.9,
        1.0,
        "component 0 of the first batch is 1e-160 and eps_root is 0",
    ),
    "faint last": (
        [1.0, 1.0, -1e-162],
        0.0,
        1.0,
        "gradient component 0 of batch 2 is 1e-162 and eps_root is 0",
    ),
    "forgotten": ([1e160, 1.0, 1.0], 0.0, 1.0, "gradient component 0 of batch 1 is 1 and eps_root is 0"),
    "Corr too large": ([1e-310, 1e-310, 1e-310], 0.5, 1.0, "Corr_n is not a finite number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_corr_of_gradients_without_digits_is_refused(case):
    """Squares of a component that fall below 1e-308 of its largest would be counted wrong: 0 / 0 or worse."""
    numbers, beta2, of_hessians, message = REFUSED[case]
    rows, orders = np.array(numbers)[:, None], np.arange(3, dtype=np.int32)[None]
    arguments = 1, 0.9, beta2, 0.0
    with pytest.raises(InputError, match=message):
        corr.adam_quadratics(rows, of_hessians * np.ones((3, 1, 1)), *arguments)(orders)
    with pytest.raises(InputError, match=message):
        corr.adam_least_squares(np.ones((3, 1)), rows[:, 0], *arguments)(orders)


@pytest.mark.parametrize("tiny", [0.0, 1e-140, 1e-160, 1e-310])
def test_faint_gradients_with_a_floor_have_a_defined_corr(tiny):
    numbers, orders = np.array([[tiny], [1.0], [0.5]]), np.arange(3, dtype=np.int32)[None]
    hessians = np.ones((3, 1, 1))
    for eps_root in (1e-300, 1e-280, 1e-8) if tiny != 1e-140 else (0.0, 1e-300, 1e-8):
        found = corr.adam_quadratics(numbers, hessians, 1, 0.9, 0.99, eps_root)(orders)
        exact = exact_corr(numbers, hessians, 0.9, 0.99, eps_root)
        accept("Corr of quadratics", found[0], exact)


def test_zero_gradients_with_a_floor_have_zero_corr():
    features, orders = np.ones((4, 2)), np.arange(4, dtype=np.int32)[None]
    for eps_root in (1e-320, 1e-300, 1e-8, 1e300):
        for one in (1.0, 1e-310, 1e300):
            found = corr.adam_least_squares(one * features, np.zeros(4), 2, 0.9, 0.99, eps_root)(orders)
            np.testing.assert_array_equal(found, np.zeros((1, 2)))
        zeros = np.zeros((4, 2)), np.ones((4, 2, 2))
        found = corr.adam_quadratics(*zeros, 2, 0.9, 0.99, eps_root)(orders)
        np.testing.assert_array_equal(found, np.zeros((1, 2)))


# -------------------------------------------------------------------------------------------------------- E[Corr]
def exact_moments(values):
    """Mean, standard error and the largest value of each component, from 50 digits."""
    values = np.array(values, object)
    n = len(values)
    mean = values.sum(axis=0) / n
    stderr = [mpmath.sqrt(x / (n - 1) / n) for x in ((values - mean) ** 2).sum(axis=0)]
    return [list(map(fraction, x)) for x in (mean, stderr, abs(values).max(axis=0))]


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e-160, 1.0), (1e-310, 1e-5), (1e250, 1e10), (1e-250, 1e10)])
@pytest.mark.parametrize(("beta1", "beta2"), BETAS)
def test_expected_corr_matches_50_digits(scales, beta1, beta2, rng):
    """By enumeration, and by the same random orders; a standard error of 0 would say that the mean is exact."""
    features = scales[0] * draw_gradients("quiet", rng, 2, 2)
    residuals = scales[1] * draw_gradients("quiet", rng, 2, 1)[:, 0]
    a, e = mpf_array(features), mpf_array(residuals)
    exact = a * e[:, None], a[:, :, None] * a[:, None, :]
    of_orders = corr.adam_least_squares(features, residuals, BATCH, beta1, beta2, 0.0)
    for orders in (ordered_partitions(6, BATCH), draw_permutations(6, 30, seed=5)):
        pairs = [exact_sample_corr(*exact, order, beta1, beta2, 0.0) for order in orders]
        mean, stderr, _ = exact_moments([corr for corr, _ in pairs])
        sizes = exact_moments([size for _, size in pairs])[2]
        found = of_orders(orders)
        accept("E[Corr]", found.mean(axis=0), mean, sizes)
    found, found_stderr = parallel_mean.mean_and_stderr(of_orders, 6, 30, seed=5)
    accept("E[Corr]", found, mean, sizes)
    accept("standard error", found_stderr, stderr, sizes)
    with np.errstate(over="ignore", invalid="ignore"):  # in the covariance, which is not used
        problem_at_0 = LeastSquares(features, -residuals, np.zeros(2))
        if scales[0] > 1e200:
            with pytest.raises(InputError, match="not a finite number"):
                linear_part(problem_at_0, BATCH, beta1, beta2)
            return
        control = linear_part(problem_at_0, BATCH, beta1, beta2)
    less = corr.subtract_control(of_orders, control)
    found, less_stderr = parallel_mean.mean_and_stderr(less, 6, 30, seed=5)
    subtracted = list(map(fraction, mpf_array(control(orders)).sum(axis=0) / 30))
    accept("control variate", found, [x - y for x, y in zip(mean, subtracted, strict=True)], sizes)
    assert beta1 == beta2 == 0 or (less_stderr > 0).all()


@pytest.mark.parametrize("noise_free", [False, True])
def test_control_variate_of_least_squares_matches_50_digits_at_every_scale(noise_free, rng):
    """Corr is of degree 1 in Hessians and -1 in gradients, and so is its linear part."""
    rows, e = draw_gradients("quiet", rng, 2, 2), draw_gradients("quiet", rng, 2, 1)[:, 0]
    if noise_free:
        rows, e = np.ones_like(rows), np.ones_like(e)
    orders = draw_permutations(6, 3, seed=5)
    units = linear_part(LeastSquares(rows, -e, np.zeros(2)), BATCH, 0.9, 0.99)(orders)
    assert (units == 0).all() == noise_free
    for x, y in ((-480, 0), (-300, -300), (300, 600), (0, -540), (0, 1000)):  # powers of 2
        with np.errstate(over="ignore", invalid="ignore"):  # in the covariance, which is not used
            problem = LeastSquares(np.ldexp(rows, x), -np.ldexp(e, y), np.zeros(2))
            found = linear_part(problem, BATCH, 0.9, 0.99)(orders)
        accept("control variate", found, np.ldexp(units, x - y), np.ldexp(abs(units), x - y))


def test_control_variate_of_a_zero_gradient_is_refused():
    problem = LeastSquares(np.array([[1.0, 1.0], [1.0, -1.0]]), np.ones(2), np.zeros(2))
    with pytest.raises(InputError, match="gradient component 1 is 0 and eps_root is 0"):
        linear_part(problem, 1, 0.9, 0.99)
    found = linear_part(problem, 1, 0.9, 0.99, 1e-300)(np.array([[0, 1]]))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("unit", [5e-324, 1e-310, 1e-200, 1.0, 1e200, 1e300])
def test_mean_and_standard_error_match_50_digits_at_every_scale(unit):
    """Squares of the deviations may be beyond float64, the standard error is not."""
    n = 2 * parallel_mean.BLOCK + 9

    def values(orders):
        return (
            np.ldexp(orders[:, :3].astype(float), np.array([0, -40, 3])) * unit
            + np.array([0.0, 1.0, 0.0]) * unit
        )

    exact = exact_moments([list(mpf_array(row)) for row in values(draw_permutations(8, n, 2))])
    mean, stderr = parallel_mean.mean_and_stderr(values, 8, n, 2)
    accept("E[Corr]", mean, exact[0], exact[2])
    accept("standard error", stderr, exact[1], exact[2])


# -------------------------------------------------------------------------------------- the two-layer network
NETWORK_CASES = {
    # patch length, n_filters, scale of weights, of patches, q
    "one parameter a class": (1, 1, 1.0, 1.0, 3),
    "ordinary": (3, 2, 1.0, 1.0, 3),
    "a filter at rest": (1, 2, 1.0, 1.0, 3),
    "fourth power": (2, 2, 1.0, 1.0, 4),
    "seventh power": (2, 1, 0.7, 1.0, 7),
    "zero weights": (2, 1, 0.0, 1.0, 3),
    "zero patches": (2, 1, 1.0, 0.0, 3),
    "denormal weights": (2, 2, 1e-310, 1.0, 3),
    "denormal patches": (2, 2, 1.0, 1e-310, 3),
    "tiny": (2, 1, 1e-70, 1e-60, 3),
    "faint": (2, 1, 1e-70, 1e-10, 3),
    "large patches": (2, 2, 1e-140, 1e140, 3),
    "large weights": (2, 2, 1e140, 1e-140, 3),
    "denormal weights, large patches": (2, 1, 1e-150, 1e150, 4),
    "margins of some 20": (2, 2, 2.7, 1.0, 3),
    "margins of some 400": (2, 2, 7.0, 1.0, 3),
    "margins of some 1e6": (2, 2, 100.0, 1.0, 3),
    "huge margins": (2, 1, 1e60, 1e20, 3),
}


def draw_network(case, rng, n_samples=4):
    length, n_filters, of_weights, of_patches, q = NETWORK_CASES[case]
    weights = of_weights * (0.5 + rng.random((2, n_filters, length)))
    patches = of_patches * (0.2 + rng.random((n_samples, 2, length)))
    weights[:, -1, 0] *= -1 if case == "a filter at rest" else -0.1 if length > 1 else 1
    # of large margins of either sign: one class the stronger, samples of both
    weights[0] *= 1.25
    labels = np.where(np.arange(n_samples) % 2, -1.0, 1.0)
    return weights, cnn.CnnData(patches, labels, np.zeros(n_samples, int)), q


def test_reference_of_the_network_is_the_derivative_of_its_loss(rng):
    """The formulas in 50 digits beside differences, in 50 digits, of the loss as it is defined."""
    weights, data, q = draw_network("fourth power", rng)
    w, step = mpf_array(weights), mpmath.mpf(10) ** -15

    def loss(w, patches, label):
        scores = [sum(max((f * x).sum(), 0) ** q for f in filters for x in patches) for filters in w]
        return mpmath.log(sum(map(mpmath.exp, scores))) - scores[0 if label > 0 else 1]

    def moved(*places):
        shift = np.full(w.size, mpmath.mpf(0))
        for place, sign in places:
            shift[place] += sign * step
        return loss(w + shift.reshape(w.shape), mpf_array(data.patches[0]), data.labels[0])

    exact = exact_network(weights, data.patches[0], data.labels[0], q)
    assert abs(exact["loss"][0] - moved()) < 1e-40
    for i in range(w.size):
        slope = (moved((i, 1)) - moved((i, -1))) / (2 * step)
        assert abs(slope - exact["gradient"][0][i]) < 1e-25
        for j in range(w.size):
            ends = [moved((i, x), (j, y)) * x * y for x in (1, -1) for y in (1, -1)]
            assert abs(sum(ends) / (4 * step**2) - exact["hessian"][0][i, j]) < 1e-17


@pytest.mark.parametrize("case", NETWORK_CASES)
def test_derivatives_of_the_network_match_50_digits(case, rng):
    weights, data, q = draw_network(case, rng)
    exact = [exact_network(weights, *sample, q) for sample in zip(data.patches, data.labels, strict=True)]
    vector = rng.standard_normal(weights.shape)
    v = mpf_array(vector).ravel()

    def check(name, found, what, change=lambda x: x, of_size=lambda x: x):
        for one, of_sample in zip(found, exact, strict=True):
            value, size = of_sample[what]
            true, scale = (mpf_array(np.atleast_1d(x)) for x in (change(value), of_size(size)))
            accept(name, np.atleast_1d(one).ravel(), *(list(map(fraction, x.ravel())) for x in (true, scale)))

    check("margins and losses of the network", cnn.margins(weights, data, q), "margin")
    check("margins and losses of the network", cnn.losses(weights, data, q), "loss")
    name = "derivatives of the network"
    gradients, hessians = cnn.gradients_and_hessians(weights, data, q)
    check(name, gradients, "gradient")
    check(name, hessians, "hessian")
    check(name, cnn.gradients(weights, data, q), "gradient")
    products = cnn.hessian_vector_products(weights, vector, data, q)
    check(name, products, "hessian", lambda h: h @ v, lambda size: size @ abs(v))
    slopes = cnn_landscape(weights, data, q)
    for r, of_sample in enumerate(exact):
        gradient = np.zeros(weights.size)
        loss = slopes.gradient(slopes.start, slopes.arrays, r, gradient)
        accept("margins and losses of the network", loss, *map(fraction, of_sample["loss"]))
        accept(name, gradient, *(list(map(fraction, x)) for x in of_sample["gradient"]))


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("margin", [20.0, 30.0, 36.0, 40.0, 200.0, 700.0])
def test_products_across_filters_keep_their_digits_at_any_margin(margin, sign):
    """There p (1 - p) grad margin grad margin^T is all there is: not 0 where p rounds to 1."""
    weights = np.cbrt(np.array([[[margin + 8]], [[8.0]]]))
    data = cnn.CnnData(np.array([[[1.0], [0.0]]]), np.array([sign]), np.zeros(1, int))
    exact = exact_network(weights, data.patches[0], sign, 3)["hessian"]
    _, hessians = cnn.gradients_and_hessians(weights, data)
    products = cnn.hessian_vector_products(weights, np.array([[[1.0]], [[0.0]]]), data)
    true, size = fraction(exact[0][0, 1]), fraction(exact[1][0, 1])
    accept(
        "derivatives of the network", [hessians[0, 0, 1], products[0, 1, 0, 0]], [true, true], [size, size]
    )
    assert hessians[0, 0, 1] < 0


@pytest.mark.parametrize(
    ("of_weights", "of_patches"), [(1e100, 1e10), (1e155, 1.0), (1e-200, 1e200), (1e200, 1e200)]
)
def test_derivatives_of_the_network_beyond_float64_are_refused(of_weights, of_patches):
    data = cnn.CnnData(of_patches * np.ones((2, 2, 2)), np.array([1.0, -1.0]), np.zeros(2, int))
    weights, message = (
        of_weights * np.array([[[1.0, 2.0]], [[3.0, 1.0]]]),
        "is not a finite number, allowed: weights",
    )
    functions = [lambda: cnn.gradients_and_hessians(weights, data)]
    functions += [lambda: cnn.hessian_vector_products(weights, np.ones_like(weights), data)]
    if of_weights > 1:
        functions += [lambda f=f: f(weights, data) for f in (cnn.margins, cnn.losses, cnn.gradients)]
    for function in functions:
        with pytest.raises(InputError, match=message):
            function()


CNN_SETTINGS = [
    # case, m, beta1, beta2, eps_root
    ("ordinary", 2, 0.9, 0.999, 0.0),
    *(("fourth power", 3, *betas, 0.0) for betas in BETAS),
    ("one parameter a class", 3, 0.9, 0.99, 0.0),
    ("one parameter a class", 1, 0.9, 0.99, 0.0),
    ("fourth power", 2, 1 - 1e-12, 1 - 1e-6, 0.0),
    ("fourth power", 2, 0.9, 0.99, 1e-320),
    ("fourth power", 2, 0.9, 0.99, 1e300),
    ("zero weights", 2, 0.9, 0.99, 1e-8),
    ("zero patches", 2, 0.9, 0.99, 1e-300),
    ("denormal weights", 2, 0.9, 0.99, 1e-8),
    ("denormal patches", 2, 0.9, 0.99, 1e-300),
    ("large patches", 2, 0.9, 0.99, 0.0),
    ("large weights", 2, 0.9, 0.99, 0.0),
    ("margins of some 20", 2, 0.9, 0.99, 0.0),
    ("margins of some 20", 2, 0.9, 0.9, 1e-8),
    ("margins of some 400", 2, 0.9, 0.99, 1e-300),
    ("margins of some 1e6", 2, 0.9, 0.99, 1e-8),
    ("a filter at rest", 2, 0.9, 0.99, 1e-300),
]


@pytest.mark.parametrize(("case", "m", "beta1", "beta2", "eps_root"), CNN_SETTINGS)
def test_corr_of_the_network_matches_50_digits(case, m, beta1, beta2, eps_root, rng):
    weights, data, q = draw_network(case, rng, m * BATCH)
    exact = [exact_network(weights, *sample, q) for sample in zip(data.patches, data.labels, strict=True)]
    arrays = [
        np.array([of[what][i] for of in exact], object) for i in (0, 1) for what in ("gradient", "hessian")
    ]
    orders = draw_permutations(m * BATCH, 2, seed=1)
    settings = BATCH, beta1, beta2, eps_root
    found = corr_cnn.adam_cnn(weights, data, *settings, q=q)(orders)
    corr = [exact_sample_corr(*arrays[:2], order, *settings[1:], *arrays[2:]) for order in orders]
    for values, (true, sizes) in zip(found, corr, strict=True):
        accept("Corr of the network", values, list(map(fraction, true)), list(map(fraction, sizes)))
    if eps_root == 0:
        mean, stderr = parallel_mean.mean_and_stderr(
            corr_cnn.adam_cnn(weights, data, *settings, q=q), data.n_samples, 2, seed=1
        )
        exact_mean, exact_stderr, _ = exact_moments([true for true, _ in corr])
        sizes = exact_moments([size for _, size in corr])[2]
        accept("Corr of the network", mean, exact_mean, sizes)
        accept("Corr of the network", stderr, exact_stderr, sizes)


@pytest.mark.parametrize(
    "case", ["a filter at rest", "zero weights", "zero patches", "denormal weights", "faint", "tiny"]
)
def test_corr_of_a_network_without_digits_is_refused(case, rng):
    """A gradient of the network below 2e-308 has lost digits, which Adam without a floor would take for real."""
    weights, data, q = draw_network(case, rng)
    for eps_root in (0.0, 1e-320) if case == "tiny" else (0.0,):
        orders = draw_permutations(4, 2, 1)
        with pytest.raises(InputError, match=rf"gradient component . .* and eps_root is {eps_root:g}:"):
            corr_cnn.adam_cnn(weights, data, 2, 0.9, 0.99, eps_root, q=q)(orders)
