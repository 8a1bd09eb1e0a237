import subprocess
import sys
import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.fieller import fieller_interval
from adam_minibatch_noise.noise_scale.two_batch import TwoBatchEstimator, sq_norm

LEVEL = 0.95
N_REPEATS = 2000
TOLERANCE = 0.02
"""Accepted error of the coverage, fixed before any run: four standard errors of 2000 repeats at 95%."""


def population(rng, n_samples=24, n_params=30, noise=2.0):
    """Per-sample gradients with unequal scatter; B_simple is about 4."""
    scale = noise * rng.gamma(2.0, 0.5, n_params)
    return 1 + scale * rng.standard_normal((n_samples, n_params))


def exact(gradients):
    g = gradients.mean(0)
    return g @ g, ((gradients - g) ** 2).sum() / len(gradients)


def batches(rng, gradients, big_size, small_size, n):
    """Squared norms of n big batches drawn without replacement, and of their first `small_size` samples."""
    drawn = rng.permuted(np.tile(np.arange(len(gradients)), (n, 1)), axis=1)[:, :big_size]
    means = (gradients[drawn[:, :size]].mean(1) for size in (small_size, big_size))
    return [(mean**2).sum(1) for mean in means]


def estimate(n_samples, sizes, squares, **window):
    estimator = TwoBatchEstimator(n_samples, *sizes, **window)
    for pair in zip(*squares, strict=True):
        estimator.add(*pair)
    return estimator.result(LEVEL)


def test_mean_over_all_batches_matches_enumeration(rng):
    """The mean over every batch of 2 and of 5 out of 7 gives |g|² and tr(Sigma) back: rtol 1e-12."""
    gradients = population(rng, n_samples=7)
    squares = [
        np.mean([(gradients[list(batch)].mean(0) ** 2).sum() for batch in combinations(range(7), size)])
        for size in (2, 5)
    ]
    got = estimate(7, (2, 5), [[square] * 3 for square in squares], window=3)
    g_sq, trace = exact(gradients)
    np.testing.assert_allclose(
        [got.grad_sq_norm, got.tr_sigma, got.b_simple], [g_sq, trace, trace / g_sq], rtol=1e-12
    )


def test_interval_covers_at_its_nominal_rate(rng):
    gradients = population(rng)
    g_sq, trace = exact(gradients)
    inside = 0
    for _ in range(N_REPEATS):
        got = estimate(24, (4, 12), batches(rng, gradients, 12, 4, 60), window=60)
        inside += got.low <= trace / g_sq <= got.high
    assert abs(inside / N_REPEATS - LEVEL) <= TOLERANCE


def test_interval_covers_at_its_nominal_rate_over_whole_epochs(rng):
    """As in training: the batches of an epoch share no sample, so measurements depend on each other."""
    gradients = population(rng)
    g_sq, trace = exact(gradients)
    inside, n_repeats = 0, N_REPEATS // 2
    for _ in range(n_repeats):
        order = rng.permuted(np.tile(np.arange(24), (30, 1)), axis=1)
        big = gradients[order.reshape(-1, 6)]  # 4 batches of 6 an epoch
        squares = [(big[:, :size].mean(1) ** 2).sum(1) for size in (2, 6)]
        got = estimate(24, (2, 6), squares, window=120)
        inside += got.low <= trace / g_sq <= got.high
    assert abs(inside / n_repeats - LEVEL) <= TOLERANCE * 2**0.5


def test_correction_for_drawing_without_replacement_matters(rng):
    """As if drawn with replacement (N infinite) the estimate is far outside its own interval."""
    gradients = population(rng)
    g_sq, trace = exact(gradients)
    squares = batches(rng, gradients, 12, 4, 4000)
    right, wrong = (estimate(n, (4, 12), squares, window=4000) for n in (24, 10**9))
    assert right.low < trace / g_sq < right.high
    assert not wrong.low < trace / g_sq < wrong.high
    assert abs(wrong.b_simple / right.b_simple - 1) > 0.2


def test_full_batch_has_no_noise_left(rng):
    gradients = population(rng)
    got = estimate(24, (12, 24), batches(rng, gradients, 24, 12, 50), window=50)
    assert got.grad_sq_norm == pytest.approx(exact(gradients)[0], rel=1e-12)


def test_forgets_what_is_older_than_the_window(rng):
    squares = rng.random((2, 50))
    got, fresh = (estimate(30, (2, 10), x, window=21) for x in (squares, squares[:, -21:]))
    assert got == fresh
    assert got.n_measurements == 20  # ten blocks of two; the oldest is left over
    assert estimate(30, (2, 10), squares[:, -20:], window=20).grad_sq_norm == got.grad_sq_norm


def test_goes_on_from_its_state(rng, tmp_path):
    squares = rng.random((30, 2))
    whole, first = (TwoBatchEstimator(40, 2, 10, window=12) for _ in range(2))
    for pair in squares:
        whole.add(*pair)
    for pair in squares[:25]:
        first.add(*pair)
    state = first.state_dict()
    for _ in range(12):
        first.add(9.0, 9.0)  # of no effect on the state that was taken
    torch.save(state, tmp_path / "state.pt")
    second = TwoBatchEstimator(40, 2, 10, window=12)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for pair in squares[25:]:
        second.add(*pair)
    assert second.result() == whole.result()
    with pytest.raises(InputError, match="small_size of the estimator is 2, allowed: 5"):
        TwoBatchEstimator(40, 5, 10, window=12).load_state_dict(whole.state_dict())
    with pytest.raises(InputError, match="window of the estimator is 12, allowed: 9"):
        TwoBatchEstimator(40, 2, 10, window=9).load_state_dict(whole.state_dict())


def test_few_measurements_say_little():
    nothing = TwoBatchEstimator(10, 1, 2).result()
    assert nothing.n_measurements == 0
    assert np.isnan([nothing.b_simple, nothing.low, nothing.high]).all()
    one = estimate(10, (1, 2), [[3.0], [2.0]])
    assert one.b_simple > 0
    assert (one.low, one.high) == (0, np.inf)
    assert estimate(10, (1, 2), [[3.0] * 5, [0.5] * 5]).b_simple == np.inf  # |g|² comes out negative
    assert estimate(10, (1, 2), [[2.0] * 5, [3.0] * 5]).b_simple == 0  # tr(Sigma) does


@pytest.mark.parametrize("sizes", [(0, 2), (2, 2), (3, 2), (2, 11), (np.nan, 2), (2, np.nan), (2, np.inf)])
def test_rejects_sizes_out_of_order(sizes):
    with pytest.raises(InputError, match=r"allowed: 1 <= small < big <= 10"):
        TwoBatchEstimator(10, *sizes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"small_size": 1.5}, "small_size is 1.5, allowed: a whole number >= 1"),
        ({"big_size": 2.5}, "big_size is 2.5"),
        ({"n_samples": 10.5}, "n_samples is 10.5"),
        ({"n_samples": np.inf}, "n_samples is inf"),
        ({"window": 0}, "window is 0, allowed: a whole number >= 1"),
        ({"window": np.nan}, "window is nan"),
    ],
)
def test_rejects_what_is_no_count(changes, message):
    with pytest.raises(InputError, match=message):
        TwoBatchEstimator(**{"n_samples": 10, "small_size": 1, "big_size": 2} | changes)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, np.nan])
def test_rejects_what_is_no_level(level):
    for asks in (
        TwoBatchEstimator(10, 1, 2).result,  # also before the first measurement
        lambda level: fieller_interval([1.0, 2.0], [1.0, 3.0], level),
    ):
        with pytest.raises(InputError, match=r"level is .*, allowed: > 0 and < 1"):
            asks(level)


@pytest.mark.parametrize("pair", [(-1.0, 2.0), (2.0, -1e-300)])
def test_rejects_a_negative_squared_norm_and_forgets_nothing(pair):
    estimator, twin = (TwoBatchEstimator(10, 1, 2) for _ in range(2))
    for each in (estimator, twin):
        each.add(3.0, 2.0)
    with pytest.raises(InputError, match=r"squared norms are .*, allowed: numbers >= 0"):
        estimator.add(*pair)
    for each in (estimator, twin):
        each.add(3.5, 2.0)
    assert estimator.result() == twin.result()


def test_numbers_keep_their_digits():
    estimator, twin = (TwoBatchEstimator(10, 1, 2) for _ in range(2))
    for small in (0.3, 0.1 + 1e-12):
        estimator.add(small, 1e-60)
        twin.add(torch.tensor(small, dtype=torch.float64), torch.tensor([1e-60], dtype=torch.float64))
    assert estimator.result() == twin.result()
    assert estimator.result().tr_sigma != 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_visible_until_the_window_has_passed(bad):
    estimator = TwoBatchEstimator(10, 1, 2, window=3)
    estimator.add(bad, 2.0)
    for _ in range(2):
        estimator.add(3.0, 2.0)
        got = estimator.result()
        assert np.isnan([got.grad_sq_norm, got.tr_sigma, got.b_simple, got.low, got.high]).all()
    estimator.add(3.0, 2.0)
    assert np.isfinite(estimator.result().b_simple)


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0], [1.0]), ([[1.0, 2.0]], [[1.0, 2.0]]), (1.0, 1.0)])
def test_fieller_interval_rejects_what_is_no_list_of_pairs(x, y):
    with pytest.raises(InputError, match=r"shapes .*, allowed: \(n,\) both"):
        fieller_interval(x, y)


WITHOUT_SCIPY = """
import importlib.util, sys
sys.modules["scipy"] = None  # as if it were not there
from adam_minibatch_noise.noise_scale.two_batch import TwoBatchEstimator
from adam_minibatch_noise.noise_scale.fieller import fieller_interval
for asks in (lambda: TwoBatchEstimator(10, 1, 2), lambda: fieller_interval([1.0, 2.0], [1.0, 3.0])):
    try:
        asks()
    except ImportError as error:
        print(error)
"""


def test_without_scipy_the_estimator_says_at_once_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_SCIPY], capture_output=True, text=True, check=True)
    line = (
        "the interval of a noise scale needs SciPy: pip install 'adam-minibatch-noise[torch]', or scipy alone"
    )
    assert done.stdout.splitlines() == [line, line]


def test_the_extra_for_torch_brings_scipy():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert any(line.startswith("scipy") for line in project["optional-dependencies"]["torch"])


def test_sq_norm_of_nothing_is_refused_and_low_precision_keeps_its_digits():
    with pytest.raises(InputError, match="no tensor"):
        sq_norm([])
    x = torch.full((3000,), 1.0078125, dtype=torch.bfloat16)  # the next after 1
    assert float(sq_norm([x])) == pytest.approx(3000 * 1.0078125**2, rel=1e-6)
    assert float(sq_norm([torch.full((2,), 3 + 4j)])) == pytest.approx(50)


def test_sq_norm_matches_numpy_over_millions_of_components(rng):
    arrays = [rng.standard_normal((4000, 511)).astype(np.float32), np.ones(3, np.float32)]
    expected = sum((array.astype(float) ** 2).sum() for array in arrays)
    assert float(sq_norm(map(torch.from_numpy, arrays))) == pytest.approx(expected, rel=1e-6)


def test_fieller_interval_is_what_a_t_test_does_not_reject(rng):
    x, y = rng.normal([[5], [2]], 1, (2, 9))
    low, high = fieller_interval(x, y, LEVEL)

    def t(ratio):
        rest = x - ratio * y
        return abs(rest.mean()) / (rest.std(ddof=1) / 3)

    for end in (low, high):
        assert t(end) == pytest.approx(2.306004, rel=1e-6)  # of 8 degrees of freedom
    assert t((low + high) / 2) < 2.306


def test_fieller_interval_is_unbounded_where_the_denominator_may_be_zero(rng):
    x, y = rng.normal([[50], [0.1]], 1, (2, 9))
    low, high = fieller_interval(x, y, LEVEL)
    assert high == np.inf
    assert 0 < low < 1000
    rest = x - low * y
    assert abs(rest.mean()) / (rest.std(ddof=1) / 3) == pytest.approx(2.306004, rel=1e-6)
    assert fieller_interval(x - 50, y, LEVEL) == (0, np.inf)
    assert fieller_interval(x, y - 100, LEVEL) == (0, np.inf)
