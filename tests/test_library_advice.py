"""Advice on betas: its numbers against the formulas, every rule against its formula, and what it refuses."""

import itertools
import json
import math

import numpy as np
import pytest

from adam_minibatch_noise.advice import advise, evidence, rule_of_thumb, sweeps
from adam_minibatch_noise.advice.field_rules import FIELD_RULES
from adam_minibatch_noise.advice.sweeps import BETA1_GRID, BETA2_GRID, Schedule, best, parts
from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion import exact_c_total
from adam_minibatch_noise.expansion.turning_points import turning_points
from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate
from adam_minibatch_noise.theory import c_total, noise_to_signal

N, B, SCALE = 2000, 100, 300.0
ARGUMENTS = {"n_samples": N, "batch_size": B, "noise_scale": SCALE, "n_epochs": 5}


def rules(**changes):
    return {rule["name"]: rule for rule in advise(**ARGUMENTS | changes).rules}


def test_rule_of_thumb_names_three_regimes():
    assert [rule_of_thumb(lam).regime for lam in (0.1, 0.5, 1.0, 1.1)] == [
        "signal", "between", "between", "noise",
    ]  # fmt: skip
    assert (rule_of_thumb(5).beta1, rule_of_thumb(5).beta2) == (0.9, 0.999)


def test_numbers_match_the_formula_sheet():
    found = advise(**ARGUMENTS)
    lam = float(noise_to_signal(N, B, SCALE))
    assert (found.lam.value, found.lam.low, found.lam.high) == pytest.approx((lam, lam, lam))
    assert found.c_total["limit"].value == pytest.approx(float(c_total(0.9, 0.999, lam)))
    assert found.c_total["exact"].value == pytest.approx(exact_c_total(0.9, 0.999, lam, 20, 5))
    for beta, turn in (("beta2", 0.5), ("beta1", 1.0)):
        size = found.critical_batch_size[beta]["limit"].value
        assert float(noise_to_signal(N, size, SCALE)) == pytest.approx(turn)


def test_turns_match_a_search_over_every_batch_size():
    found = advise(**ARGUMENTS).critical_batch_size
    for swept, fixed in (("beta2", 0.9), ("beta1", 0.999)):
        (row,) = turning_points(swept, fixed, N, [SCALE], [5], 1)
        for kind, name in (("limit", "limit_at_betas"), ("exact", "exact")):
            assert found[swept][name] == (row[f"turns_after_{kind}"], row[f"turned_at_{kind}"])


def test_turns_of_many_samples_are_those_of_fewer_in_proportion(monkeypatch):
    monkeypatch.setattr(sweeps, "REDUCED", 30_000)  # as for more than 100,000 samples, in less time
    small, large = (
        advise(30_000 * k, 600 * k, 900.0 * k, n_epochs=3).critical_batch_size["beta2"]["exact"]
        for k in (1, 3)
    )
    np.testing.assert_allclose(np.divide(large, 3), small, rtol=1e-3)


def test_best_betas_match_a_search_over_the_grid():
    found = advise(**ARGUMENTS).recommended
    lam = float(noise_to_signal(N, B, SCALE))
    by_beta2 = [exact_c_total(0.9, beta2, lam, 20, 5) for beta2 in BETA2_GRID]
    by_beta1 = [exact_c_total(beta1, 0.999, lam, 20, 5) for beta1 in BETA1_GRID]
    assert found["beta2_at_beta1"]["best"] == BETA2_GRID[int(np.argmax(by_beta2))]
    assert found["beta1_at_beta2"]["best"] == BETA1_GRID[int(np.argmax(by_beta1))]
    assert {each["basis"] for each in found.values()} == {"exact"}


def test_range_of_the_best_beta_holds_every_noise_scale_of_the_interval():
    """Against 400 of them: also where the best one is neither at an end nor at the estimate."""
    for beta1, (low, high) in itertools.product(
        (0.9, 0.97, 0.99), ((5.0, 2000.0), (240.0, 300.0), (50.0, 120.0))
    ):
        found = advise(**ARGUMENTS | {"noise_scale": (low, high), "betas": (beta1, 0.999)})
        grid, pair = np.array(BETA2_GRID), np.full(len(BETA2_GRID), beta1)
        forward, noise = parts(pair, grid, Schedule(N, B, 100), exact=True)
        every = [
            BETA2_GRID[int(np.argmax(forward + noise * float(noise_to_signal(N, B, scale))))]
            for scale in np.geomspace(low, high, 400)
        ]
        said = found.recommended["beta2_at_beta1"]
        assert said["low"] <= min(every) <= max(every) <= said["high"]
        assert {said["low"], said["high"]} <= {*every, min(every), max(every)}
        assert said["low"] <= said["best"] <= said["high"]


def test_best_finds_one_that_is_best_in_the_middle_only():
    forward, noise = np.array([0.0, -1.0, -4.0]), np.array([0.0, 2.0, 4.0])
    assert best((0.1, 0.2, 0.3), forward, noise, (1.0, 0.4, 1.6)) == (0.2, 0.1, 0.3)
    assert best((0.3, 0.9, 0.3), forward, noise, (0.4, 0.4, 1.6)) == (0.3, 0.3, 0.9)
    assert best((0.1, 0.2, 0.3), forward, noise, (0.4, 0.4, math.inf)) == (0.1, 0.1, 0.3)


def test_every_rule_says_what_its_formula_says():
    found = rules(batch_size=256, reference_batch_size=64, lr=2e-3, betas=(0.9, 0.99))
    said = {name: (rule["lr"], rule["beta1"], rule["beta2"]) for name, rule in found.items()}
    assert said == {
        "c_total": pytest.approx((2e-3, 0.9, said["c_total"][2])),
        "constant_memory": pytest.approx((2e-3, 0.9, 0.99**4)),
        "marin_clip": pytest.approx((2e-3, 0.9062, 0.999**8)),
        "equal_betas": (2e-3, 0.9, 0.9),
        "square_root": pytest.approx((4e-3, 0.6, 0.96)),
        "batch_invariant": pytest.approx((8e-3, 0.6, 0.96)),
        "default": (2e-3, 0.9, 0.999),
    }
    assert rules(batch_size=1)["marin_clip"]["beta2"] == 0.9999
    assert rules(batch_size=N)["marin_clip"]["beta2"] == 0.95


def test_rules_beyond_their_range_say_so_and_name_the_end():
    found = rules(batch_size=641, reference_batch_size=64)
    for name in ("square_root", "batch_invariant"):
        assert found[name]["beta1"] is None
        assert found[name]["note"] == "batch too large for it: at most 640 from 64"
        assert rules(batch_size=640, reference_batch_size=64)[name]["beta1"] == pytest.approx(0, abs=1e-12)
    for name, rule in rules().items():
        assert (rule["beta2"] is None) == FIELD_RULES[name].needs_reference


def test_c_total_of_a_rule_is_that_of_adam_at_its_betas():
    found = rules(reference_batch_size=50)
    lam = float(noise_to_signal(N, B, SCALE))
    for name, rule in found.items():
        if name == "batch_invariant":
            assert rule["c_total"] is None
        else:
            assert rule["c_total"] == pytest.approx(exact_c_total(rule["beta1"], rule["beta2"], lam, 20, 5))


def test_an_estimate_an_interval_and_a_number_are_taken():
    estimate = NoiseEstimate(30, 1.0, 300.0, 300.0, 200.0, 420.0, 0.95)
    for noise_scale, expected in (
        (estimate, (300.0, 200.0, 420.0)),
        ((200.0, 450.0), (300.0, 200.0, 450.0)),
        (300, (300.0, 300.0, 300.0)),
        ((200.0, math.inf), (200.0, 200.0, math.inf)),
        (NoiseEstimate(30, -1.0, 300.0, math.inf, 200.0, math.inf, 0.95), (200.0, 200.0, math.inf)),
        (NoiseEstimate(30, 1.0, -3.0, 0.0, 0.0, 20.0, 0.95), (0.0, 0.0, 20.0)),
    ):
        found = advise(**ARGUMENTS | {"noise_scale": noise_scale})
        scale = found.noise_scale
        assert (scale.value, scale.low, scale.high) == pytest.approx(expected)
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert json.loads(text)["noise_scale"]["low"] == pytest.approx(expected[1])
    assert "at least 200 samples" in advise(**ARGUMENTS | {"noise_scale": (200.0, math.inf)}).text


@pytest.mark.parametrize(
    ("scale", "regime"),
    [(3000.0, "noise"), (75.0, "between"), (10.0, "signal"), ((10.0, 3000.0), "undecided")],
)
def test_regime_is_undecided_where_the_interval_has_several(scale, regime):
    assert advise(**ARGUMENTS | {"noise_scale": scale}).regime == regime


def test_full_batch_has_no_noise():
    found = advise(**ARGUMENTS | {"batch_size": N})
    assert found.lam.value == 0
    assert found.regime == "signal"
    assert found.c_total["limit"].value == pytest.approx(9 - 999)


def test_one_pass_over_endless_data():
    found = advise(math.inf, B, SCALE, n_steps=400)
    assert found.lam.value == pytest.approx(SCALE / B)
    assert found.c_total["exact"].value == pytest.approx(exact_c_total(0.9, 0.999, SCALE / B, 400, 1, 0.0))
    assert found.critical_batch_size["beta2"]["limit"].value == 600
    assert found.n_epochs is None


def test_without_a_length_or_with_too_long_epochs_only_the_limit_is_given():
    for changes in ({"n_epochs": None}, {"n_samples": 10**9, "n_epochs": 1}):
        found = advise(**ARGUMENTS | changes)
        assert found.c_total["exact"] is None
        assert found.recommended["beta2_at_beta1"]["basis"] == "limit"
        assert "in the limit of long training" in found.text


@pytest.mark.parametrize(("n_batches", "n_epochs"), [(20, 10**6), (7, 10**5)])
def test_epochs_that_are_forgotten_are_left_out(n_batches, n_epochs):
    schedule = Schedule(n_batches * B, B, n_batches * n_epochs)
    taken = schedule.epochs(0.99)
    assert taken[0] * taken[1] < 4100
    assert exact_c_total(0.9, 0.99, 2.0, *taken) == pytest.approx(
        exact_c_total(0.9, 0.99, 2.0, n_batches, 5 * taken[1], taken[2]), rel=1e-10
    )


# ------------------------------------------------------------------------------------------- words
def recorded(monkeypatch, rules):
    monkeypatch.setattr(evidence, "_recorded", lambda: {"source": "a study", "rules": rules})


def test_what_was_not_measured_says_so():
    found = advise(**ARGUMENTS)
    if not evidence.evidence_on("c_total").measured:
        assert "not yet measured in our own study" in found.text
    for rule in found.rules:
        assert rule["evidence"] == "not yet measured" or any(rule["verdicts"].values())


def test_evidence_against_the_theory_is_what_the_text_says(monkeypatch):
    wrong = "digits with 30 % wrong labels at batch size 4"
    recorded(monkeypatch, {"c_total": {"opposite": [wrong], "holds": ["words"], "open": ["characters"]}})
    found = advise(**ARGUMENTS)
    assert f"it went the other way on {wrong}, where you should not follow the theory" in found.text
    assert "ranked the betas as the theory does on words" in found.text
    assert "did not decide on characters" in found.text
    (rule,) = (rule for rule in found.rules if rule["name"] == "c_total")
    assert rule["evidence"] == f"holds: words. open: characters. opposite: {wrong}"
    recorded(monkeypatch, {"c_total": {"opposite": [wrong]}})
    assert "Keep your present betas" in advise(**ARGUMENTS).text


def test_the_difference_to_rules_that_carry_settings_over_is_explained():
    text = advise(**ARGUMENTS | {"reference_batch_size": 50}).text
    assert "because they keep training as it was there, while the theory asks which minima are flat" in text
    assert "square-root rule: beta1 0.8, beta2 0.998, lr 0.00141" in text
    assert "change nothing" in advise(**ARGUMENTS | {"reference_batch_size": B}).text
    assert "need that size" in advise(**ARGUMENTS).text


def test_the_text_says_when_to_measure():
    found = advise(**ARGUMENTS)
    text = str(found)
    assert text == found.text
    assert (
        "Measure the noise scale at the batch size you mean to use and near the lowest validation loss"
        in text
    )


# ------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_scale": 0}, "noise_scale is 0.0, allowed: a finite number > 0"),
        ({"noise_scale": -3.0}, "noise_scale is -3.0"),
        ({"noise_scale": math.nan}, "noise_scale is nan"),
        ({"noise_scale": "much"}, "noise_scale is 'much'"),
        (
            {"noise_scale": (3.0, 2.0)},
            "noise_scale is an interval from 3 to 2, allowed: the smaller end first",
        ),
        ({"noise_scale": (math.nan, 2.0)}, "noise_scale is nan"),
        ({"noise_scale": (1.0, 2.0, 3.0)}, "noise_scale is .*, allowed: a number, or two ends"),
        ({"noise_scale": NoiseEstimate(0, *[math.nan] * 5, 0.95)}, "needed: more measurements"),
        ({"noise_scale": NoiseEstimate(1, 1.0, 1.0, 1.0, 0.0, math.inf, 0.95)}, "needed: more measurements"),
        ({"batch_size": N + 1}, "batch_size is 2001, allowed: at most n_samples = 2000"),
        ({"batch_size": 0}, "batch_size is 0, allowed: a whole number >= 1"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"batch_size": math.inf}, "batch_size is inf"),
        ({"n_samples": 0}, "n_samples is 0, allowed: a whole number >= 1, or infinite"),
        ({"n_samples": math.nan}, "n_samples is nan"),
        ({"betas": (1.0, 0.9)}, "beta1 is 1.0, allowed: >= 0 and < 1"),
        ({"betas": (0.9, -0.1)}, "beta2 is -0.1"),
        ({"betas": (0.9, math.nan)}, "beta2 is nan"),
        ({"betas": 0.9}, "betas is 0.9, allowed: two numbers"),
        ({"lr": 0.0}, "lr is 0.0, allowed: a finite number > 0"),
        ({"n_epochs": 0.04}, "n_epochs is 0.04, allowed: at least one step, 1/20 of an epoch"),
        ({"n_epochs": 0.0}, "n_epochs is 0.0"),
        ({"n_epochs": math.nan}, "n_epochs is nan"),
        ({"n_epochs": None, "n_steps": 0}, "n_steps is 0, allowed: a whole number >= 1"),
        ({"n_steps": 10}, "n_epochs and n_steps are both given"),
        ({"n_samples": math.inf}, "n_epochs is 5 with infinite n_samples, needed: n_steps"),
        ({"reference_batch_size": 0}, "reference_batch_size is 0"),
    ],
)
def test_rejects_what_has_no_meaning(changes, message):
    with pytest.raises(InputError, match=message):
        advise(**ARGUMENTS | changes)
