"""Every public function of the formula sheet, and the rule of thumb, refuse every argument without meaning."""

import inspect
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adam_minibatch_noise import theory
from adam_minibatch_noise.advice import regimes as advice
from adam_minibatch_noise.errors import InputError

NAN, INF = math.nan, math.inf
BETA = [-1e-300, -1.0, 1.0, 1.5, INF, -INF, NAN]
NONNEGATIVE = [-5e-324, -1.0, INF, -INF, NAN]
POSITIVE = [0.0, *NONNEGATIVE]
COUNT = [0.0, 0.999, -3.0, INF, -INF, NAN]
NONNEGATIVE_OR_INFINITE = [-5e-324, -INF, NAN]
POSITIVE_OR_INFINITE = [0.0, *NONNEGATIVE_OR_INFINITE]
COUNT_OR_INFINITE = [0.0, 0.999, -3.0, -INF, NAN]
FINITE = [INF, -INF, NAN]
SHARE = [-1e-300, 1.0000001, INF, NAN]

MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])
MOMENTS = theory.Moments(np.array([1.0, -2.0]), MATRIX, MATRIX, 0.1 * MATRIX)
BETAS = {"beta1": (0.9, BETA), "beta2": (0.99, BETA)}

CASES = {
    "batch_variance_factor": {"n_samples": (1400, COUNT_OR_INFINITE), "batch_size": (20, COUNT)},
    "noise_to_signal": {
        "n_samples": (1400, COUNT_OR_INFINITE),
        "batch_size": (20, COUNT),
        "noise_scale": (300, NONNEGATIVE),
    },
    "critical_batch_size": {
        "n_samples": (1400, COUNT),
        "noise_scale": (300, POSITIVE_OR_INFINITE),
        "lam": (0.5, NONNEGATIVE),
    },
    "sgd_momentum_modified_loss": {
        "loss": (1.0, FINITE),
        "gradient_square": (2.0, NONNEGATIVE),
        "covariance_trace": (3.0, NONNEGATIVE),
        "lr": (0.1, POSITIVE),
        "beta": (0.9, BETA),
        "batch_size": (4, COUNT),
    },
    "one_minus_power": {"beta": (0.9, BETA), "n": (3, COUNT_OR_INFINITE)},
    **dict.fromkeys(["forward_bias", "c1", "c2", "c3", "c4", "c5"], BETAS),
    "c_total": {**BETAS, "lam": (0.5, NONNEGATIVE)},
    "invariant_c_total": {
        **BETAS,
        "lam_batch": (0.5, [*NONNEGATIVE, 2.5]),
        "lam_micro": (2.0, [*NONNEGATIVE, 0.4]),
    },
    "scaling_rule": {
        "rule": ("invariant", ["linear", "", None, NAN]),
        "kappa": (4, POSITIVE),
        "lr": (1e-3, POSITIVE),
        **BETAS,
    },
    "limit_constants": {name: (good, [*bad, [0.9, 0.8]]) for name, (good, bad) in BETAS.items()},
    "expected_corr_terms": {
        "moments": (
            MOMENTS,
            [
                theory.Moments(np.array([1.0, 0.0]), MATRIX, MATRIX, MATRIX),
                theory.Moments(np.array([1.0, NAN]), MATRIX, MATRIX, MATRIX),
                theory.Moments(np.array([1.0, 2.0, 3.0]), MATRIX, MATRIX, MATRIX),
                theory.Moments(np.array([1.0, 2.0]), MATRIX * INF, MATRIX, MATRIX),
                theory.Moments(np.array([1.0, 2.0]), MATRIX, MATRIX[0], MATRIX),
                theory.Moments(np.array([1.0, 2.0]), MATRIX, MATRIX, MATRIX * NAN),
            ],
        ),
        "constants": (theory.Constants(1, 2, 3, 4, 5, 6), []),
        "variance_factor": (0.2, [*SHARE, [0.1, 0.2]]),
    },
    "rule_of_thumb": {"lam": (0.7, [*NONNEGATIVE_OR_INFINITE, [0.1, 2.0]])},
    "gradient_noise_scale": {
        "covariance_trace": (3.0, NONNEGATIVE),
        "gradient_square": (2.0, NONNEGATIVE),
    },
    "two_batch_estimates": {
        "square_small": (3.0, NONNEGATIVE),
        "square_big": (2.0, NONNEGATIVE),
        "batch_size_small": (2, [*COUNT, 8, 9]),
        "batch_size_big": (8, [*COUNT, 2, 1, 1401]),
        "n_samples": (1400, [*COUNT_OR_INFINITE, 7]),
    },
}
NAMED_BY = {
    ("expected_corr_terms", "moments"): ["gradient", "hessian", "covariance", "cross"],
    ("invariant_c_total", "lam_batch"): ["lam_batch"],
    ("two_batch_estimates", "batch_size_big"): ["batch_size_big", "batch_size is 1401"],
}
"""Words of a refusal, where the name of the argument is not all that it may be about."""
ARRAYS = {name for name in CASES if name not in ("limit_constants", "expected_corr_terms", "rule_of_thumb")}


FUNCTIONS = {
    name: value
    for module in (theory, advice)
    for name, value in inspect.getmembers(module, inspect.isfunction)
    if not name.startswith("_") and value.__module__ == module.__name__
}


def call(name, changes):
    return FUNCTIONS[name](**{key: good for key, (good, _) in CASES[name].items()} | changes)


def test_every_public_function_is_here_with_every_argument():
    public = {name: list(inspect.signature(value).parameters) for name, value in FUNCTIONS.items()}
    assert {name: list(arguments) for name, arguments in CASES.items()} == public


@pytest.mark.parametrize("name", CASES)
def test_what_has_a_meaning_is_taken(name):
    found = call(name, {})
    for value in found.values() if isinstance(found, dict) else [found]:
        if not isinstance(value, advice.RuleOfThumb | theory.Constants):
            assert np.isfinite(np.asarray(value, float)).all()


def named(value):
    return "moments" if isinstance(value, theory.Moments) else str(value).replace("\n", "")


@pytest.mark.parametrize(
    ("name", "argument", "bad"),
    [
        pytest.param(name, argument, bad, id=f"{name}-{argument}-{named(bad)}")
        for name, arguments in CASES.items()
        for argument, (_, values) in arguments.items()
        for bad in [*values, *([] if argument in ("rule", "moments", "constants") else ["many", None, 1j])]
    ],
)
def test_what_has_no_meaning_is_refused(name, argument, bad):
    with pytest.raises(InputError, match="allowed: ") as caught:
        call(name, {argument: bad})
    assert re.search("|".join(NAMED_BY.get((name, argument), [argument])), str(caught.value))
    if isinstance(bad, float) and not 0 < abs(bad) < INF:  # no number that only its neighbour makes wrong
        assert str(bad) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (name, argument)
        for name in sorted(ARRAYS)
        for argument, (_, bad) in CASES[name].items()
        if len(bad) > 2
    ],
)
@given(data=st.data())
def test_one_bad_entry_of_an_array_is_found(name, argument, data):
    """Anywhere among good ones, which are taken without it."""
    good, bad = CASES[name][argument]
    if argument == "rule":
        return
    array = np.full(data.draw(st.sampled_from([(1,), (4,), (2, 3)])), float(good))
    found = call(name, {argument: array})
    assert all(np.isfinite(value).all() for value in (found if isinstance(found, tuple) else [found]))
    array.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from(bad))
    with pytest.raises(InputError, match="allowed: "):
        call(name, {argument: array})


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_rule_of_thumb_answers_for_every_ratio_and_no_other_number(lam):
    if lam >= 0:
        expected = "noise" if lam > 1 else "signal" if lam < 0.5 else "between"
        assert advice.rule_of_thumb(lam).regime == expected
    else:
        with pytest.raises(InputError, match=r"lam is .*, allowed: a number >= 0"):
            advice.rule_of_thumb(lam)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.floats(0, 1e9))
def test_noise_to_signal_is_never_negative(n_samples, batch_size, noise_scale):
    if batch_size <= n_samples:
        assert theory.noise_to_signal(n_samples, batch_size, noise_scale) >= 0
    else:
        with pytest.raises(InputError, match=r"batch_size is .*, allowed: at most n_samples"):
            theory.noise_to_signal(n_samples, batch_size, noise_scale)


def test_ends_of_the_ranges_are_inside():
    """The values that a limit takes are answers: no batch noise, no signal, drawing with replacement."""
    assert theory.batch_variance_factor(np.array([INF, 8.0]), 4).tolist() == [0.25, 1 / 7]
    assert theory.batch_variance_factor(INF, 4) == pytest.approx(theory.batch_variance_factor(1e15, 4))
    assert theory.noise_to_signal(8, 8, 1e300) == 0
    assert theory.gradient_noise_scale(1.0, 0.0) == INF
    assert theory.gradient_noise_scale(0.0, 1.0) == 0
    assert theory.one_minus_power(0.0, INF) == theory.one_minus_power(0.5, INF) == 1
    assert advice.rule_of_thumb(INF).regime == "noise"
    mixed = theory.two_batch_estimates(3.0, 2.0, 1, 2, np.array([INF, 16.0]))
    for i, n_samples in enumerate((INF, 16)):
        assert [value[i] for value in mixed] == list(theory.two_batch_estimates(3.0, 2.0, 1, 2, n_samples))


def test_ratio_of_nothing_to_nothing_is_refused():
    with pytest.raises(InputError, match="both 0"):
        theory.gradient_noise_scale([1.0, 0.0], [1.0, 0.0])


def test_the_formula_sheet_needs_numpy_only():
    code = (
        "import sys; import adam_minibatch_noise.theory, adam_minibatch_noise.advice; "
        "print(*sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {name for name in done.stdout.split() if not name.startswith("_")}
    assert others <= {"numpy", "adam_minibatch_noise"}
