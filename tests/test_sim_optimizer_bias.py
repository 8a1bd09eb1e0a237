"""C_total of other optimisers at their usual settings: the program's numbers, and the plain statements made of them."""

import csv
import io
import json

import numpy as np
import pytest

from adam_minibatch_noise.expansion.constants import limit_c_total, rule_c_total, step_size
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.expansion.turning_points import epoch_geometry
from adam_minibatch_noise.theory import c_total, invariant_c_total
from analysis.reductions.optimizer_bias import _curve
from sim import optimizer_bias
from sim.memory.optimizer_bias_study import CASES

SMALL = [
    "--n-samples",
    "1000",
    "--batch-sizes",
    "20",
    "100",
    "300",
    "5000",
    "--noise-scale",
    "40",
    "--n-epochs",
    "3",
]


def rows_of(capsys, *more):
    optimizer_bias.main([*SMALL, "--micro-batch-size", "20", *more, "--format", "json"])
    return json.loads(capsys.readouterr().out)["rows"]


def test_rows_are_the_library_s(capsys):
    rows = rows_of(capsys)
    assert len(rows) == 4 * len(CASES)
    for row in rows:
        name, settings = CASES[row["case"]]
        rule = make_rule(name, settings)
        m, v, correlation = epoch_geometry(1000, row["batch_size"])
        micro = 40 * epoch_geometry(1000, 20)[1] if name == "invariant-adam" else None
        exact = float(rule_c_total(rule, 40 * v, m, 3, correlation, micro))
        unit = step_size(rule) ** 2
        assert (row["n_batches"], row["lam"]) == (m, 40 * v)
        assert row["c_total_exact"] == pytest.approx(exact / unit, rel=1e-13)
        assert row["c_total_limit"] == pytest.approx(
            float(limit_c_total(rule, 40 * v, micro)) / unit, rel=1e-13
        )
        assert (row["micro_batch_size"], row["optimizer"]) == (20 if micro else None, name)
        if name == "adam":
            sheet = float(c_total(row["beta1"], row["beta2"], row["lam"]))
            assert row["c_total_limit"] == pytest.approx(sheet, rel=1e-11)
        if name == "invariant-adam":
            sheet = float(invariant_c_total(row["beta1"], row["beta2"], row["lam"], micro))
            assert row["c_total_limit"] == pytest.approx(sheet, rel=1e-11)


def test_a_batch_below_the_micro_batch_is_its_own(capsys):
    rows = {(row["case"], row["batch_size"]): row for row in rows_of(capsys, "--micro-batch-size", "150")}
    for size in (20, 100):
        one, adam = rows["invariant-adam", size], rows["adam", size]
        assert one["c_total_exact"] == pytest.approx(adam["c_total_exact"], rel=1e-11)
    assert rows["invariant-adam", 300]["c_total_exact"] > rows["adam", 300]["c_total_exact"]


def limit(name, lam, **settings):
    rule = make_rule(name, settings)
    return float(limit_c_total(rule, lam)) / step_size(rule) ** 2


def test_plain_statements_in_the_limit():
    """What the article says of the limit of many steps, at usual settings, for every lambda from 0 to 5."""
    lams = np.linspace(0, 5, 101)
    adam = np.array([limit("adam", lam) for lam in lams])
    nadam = np.array([limit("nadam", lam) for lam in lams])
    np.testing.assert_allclose(nadam, adam, atol=1e-3 * np.ptp(adam))  # look-ahead changes nothing
    rmsprop = np.array([limit("rmsprop", lam) for lam in lams])
    assert (rmsprop < 0).any()  # no first moment, and not always anti-regularised
    assert (rmsprop > 0).any()
    one = np.array([limit("adam-p", lam, power=1.0) for lam in lams])
    assert (one < 0).all()  # an average of |g|: always, and nearly the same
    np.testing.assert_allclose(one, one[0], rtol=0.01)
    slow = np.array([limit("ademamix", lam) for lam in lams])
    assert np.sign(slow[[0, -1]]).tolist() == [1, -1]  # a slow average turns the sign round
    assert np.sign(adam[[0, -1]]).tolist() == [-1, 1]
    short = np.array([limit("adam", lam, beta2=0.95) for lam in lams])
    assert np.ptp(short) < np.ptp(rmsprop) < np.ptp(adam)
    invariant = [float(limit_c_total(make_rule("invariant-adam"), lam, 5.0)) for lam in lams]
    assert np.ptp(invariant) < 1e-3 * max(invariant)  # squaring before averaging takes the batch size out


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0, 4.0, 6.0])
def test_for_a_long_second_memory_the_power_sets_the_turn_at_one_over_twice_its_power_less_one(power):
    """At p = 2 the rule of thumb, lambda = 1/2."""
    still, noisy = (limit("adam-p", lam, power=power, beta1=0.0, beta2=1 - 1e-7) for lam in (0.0, 1.0))
    assert -still / (noisy - still) == pytest.approx(1 / (2 * (power - 1)), rel=1e-5)


def test_a_curve_is_described_by_its_ends_and_its_zero():
    found = _curve(np.array([1.0, 2.0, 4.0]), np.array([3.0, 1.0, -1.0]))
    assert found == {"smallest_batch": 3.0, "full_batch": -1.0, "change": 4 / 3, "turn": 3.0}
    assert _curve(np.array([1.0, 2.0]), np.array([3.0, 1.5]))["turn"] is None


def test_forms(capsys):
    optimizer_bias.main([*SMALL, "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["case"] for row in rows] == [case for case in CASES for _ in range(4)]
    optimizer_bias.main(SMALL)
    assert "from lambda = 0.172 on the noise is outside the range" in capsys.readouterr().out


def test_rejects_bad_flags(fails):
    assert "--noise-scale" in fails(optimizer_bias.main, "--noise-scale", "0")
