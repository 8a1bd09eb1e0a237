"""From the study's verdicts to what the advice says of each rule."""

import copy
import json

import pytest

from adam_minibatch_noise.advice import advise, evidence
from adam_minibatch_noise.advice.field_rules import FIELD_RULES
from analysis import advice_evidence
from analysis.reductions.advice_evidence import STUDIED, summarize
from analysis.reductions.overfitting import rankings


def row(variant, rule, low, high, regret=1.25, curve="beta2"):
    return {
        "variant": variant, "curve": curve, "rule": rule, "rank_correlation": (low + high) / 2, "rank_low": low,
        "rank_high": high, "regret": regret, "regret_low": 0.0, "regret_high": 3.0,
    }  # fmt: skip


JUDGED = {
    "variants": [
        {"variant": "digits", "title": "digits"},
        {"variant": "digits-wrong-30", "title": "digits, 30 % wrong labels"},
        {"variant": "words", "title": "words"},
    ],
    "rules": [
        row("digits", "default .999", -0.2, 0.3),
        row("digits-wrong-30", "C_total, exact", -0.8, -0.1, 4.4),
        row("digits", "C_total, exact", 0.1, 0.8, 0.3),
        row("words", "C_total, exact", 0.2, 0.9, None),
        row("words", "C_total, limit", -0.9, -0.2),
        row("words", "C_total, exact", -0.9, -0.2, curve="beta1"),
        row("words", "longest memory", -0.9, -0.2),
    ],
}


def write(tmp_path, value):
    path = tmp_path / "verdicts.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_advice_says_what_the_verdicts_say(tmp_path, monkeypatch):
    out = tmp_path / "evidence.json"
    verdicts = write(tmp_path, {"here": {"variants": [], "rules": []}, "records": JUDGED})
    advice_evidence.main(["--verdicts", str(verdicts), "--out", str(out)])
    found = json.loads(out.read_text())
    assert found == {
        "source": "records/overfitting",
        "rules": {
            "c_total": {
                "holds": ["digits (costs 0.3 %)", "words"],
                "opposite": ["digits, 30 % wrong labels (costs 4.4 %)"],
            },
            "default": {"open": ["digits (costs 1.2 %)"]},
        },
    }
    monkeypatch.setattr(evidence, "_recorded", lambda: found)
    answer = advise(2000, 100, 300.0)
    said = {rule["name"]: rule["evidence"] for rule in answer.rules}
    assert said["c_total"].startswith(
        "holds: digits (costs 0.3 %); words. opposite: digits, 30 % wrong labels"
    )
    assert said["default"] == "open: digits (costs 1.2 %)"
    assert said["equal_betas"] == "not yet measured"
    assert "went the other way on digits, 30 % wrong labels (costs 4.4 %)" in answer.text
    assert "(Costs: how far the loss at the beta2 that the theory names lies above" in answer.text


def test_language_model_is_a_task_beside_the_others(tmp_path):
    out, text = (
        tmp_path / "evidence.json",
        {"rules": [row("transformer-xl", "default .999", 0.8, 0.95, 0.14)]},
    )
    verdicts = write(tmp_path, {"records": JUDGED, "text": text})
    advice_evidence.main(["--verdicts", str(verdicts), "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["rules"]["default"]["holds"] == ["small Transformer-XL (costs 0.1 %)"]
    assert found["source"] == "records/overfitting and records/train/small_sweep"


def test_without_records_the_runs_made_here_count(tmp_path):
    out = tmp_path / "evidence.json"
    verdicts = write(tmp_path, {"here": JUDGED, "records": {}})
    advice_evidence.main(["--verdicts", str(verdicts), "--out", str(out)])
    assert json.loads(out.read_text())["source"] == "a small study, made by the workflow"


def test_rules_of_the_study_and_of_the_advice_are_those_that_there_are():
    assert set(STUDIED) <= set(rankings.RULES["beta2"])
    assert set(STUDIED.values()) == set(FIELD_RULES) - {"batch_invariant"}


def test_the_file_in_the_library_names_rules_and_verdicts_that_there_are():
    recorded = evidence._recorded()
    assert set(recorded) == {"source", "rules"}
    assert set(recorded["rules"]) <= set(STUDIED.values())
    assert all(set(found) <= set(evidence.VERDICTS) for found in recorded["rules"].values())


def test_no_verdicts_are_no_evidence():
    assert summarize("a study", {"variants": [], "rules": []}) == {"source": None, "rules": {}}


def changed(**changes):
    value = copy.deepcopy(JUDGED)
    value["rules"][0] |= changes
    return {"records": value}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "is no JSON"),
        ([1], "holds no verdicts"),
        ({"records": JUDGED, "text": {"rules": 3}}, "the verdicts are not those of"),
        ({}, "the verdicts are not those of analysis.overfitting_verdicts: KeyError('variants')"),
        ({"records": [3]}, "the verdicts are not those"),
        ({"records": {"variants": [], "rules": JUDGED["rules"]}}, "the verdicts are not those"),
        (changed(rank_low="low"), "the verdicts are not those"),
        (changed(regret="much"), "the verdicts are not those"),
        (changed(rule="C_total, exact"), "two verdicts of rule 'C_total, exact' on digits, allowed: one"),
    ],
)
def test_verdicts_that_cannot_be_used_are_refused(tmp_path, fails, value, message):
    out = tmp_path / "evidence.json"
    assert message in fails(advice_evidence.main, "--verdicts", write(tmp_path, value), "--out", out)
    assert not out.exists()
