"""From verdicts of the study to what the advice says of each rule."""

import json

import pytest

from adam_minibatch_noise.advice import advise, evidence
from analysis import advice_evidence
from analysis.reductions.advice_evidence import summarize

ROWS = [
    {"rule": "default", "task": "words", "verdict": "open"},
    {
        "rule": "c_total",
        "task": "digits with wrong labels at batch size 4",
        "verdict": "opposite",
        "low": -0.4,
    },
    {"rule": "c_total", "task": "digits", "verdict": "holds"},
    {"rule": "c_total", "task": "characters", "verdict": "holds"},
]


def write(tmp_path, value):
    path = tmp_path / "verdicts.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_advice_says_what_the_verdicts_say(tmp_path, monkeypatch):
    out = tmp_path / "evidence.json"
    verdicts = write(tmp_path, {"rules": ROWS, "tuned": {}})
    advice_evidence.main(["--verdicts", str(verdicts), "--source", "a study", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found == {
        "source": "a study",
        "rules": {
            "c_total": {
                "holds": ["digits", "characters"],
                "opposite": ["digits with wrong labels at batch size 4"],
            },
            "default": {"open": ["words"]},
        },
    }
    monkeypatch.setattr(evidence, "_recorded", lambda: found)
    answer = advise(2000, 100, 300.0)
    said = {rule["name"]: rule["evidence"] for rule in answer.rules}
    assert (
        said["c_total"] == "holds on digits, characters; opposite on digits with wrong labels at batch size 4"
    )
    assert said["default"] == "open on words"
    assert said["equal_betas"] == "not yet measured"
    assert "went the other way on digits with wrong labels at batch size 4" in answer.text


def test_the_file_in_the_library_is_one_that_this_program_writes():
    recorded = evidence._recorded()
    rows = [
        {"rule": rule, "task": task, "verdict": verdict}
        for rule, found in recorded["rules"].items()
        for verdict, tasks in found.items()
        for task in tasks
    ]
    assert summarize(recorded["source"], rows) == recorded


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "is no JSON"),
        ([1], "has no list of objects called 'rules'"),
        ({"rules": {"rule": 1}}, "has no list of objects called 'rules'"),
        ({"rules": [ROWS[0] | {"rule": "best"}]}, "rule is 'best', allowed: c_total"),
        ({"rules": [ROWS[0] | {"verdict": "fine"}]}, "verdict is 'fine', allowed: holds, open, opposite"),
        ({"rules": [ROWS[0] | {"task": " "}]}, "task is ' ', allowed: words that may follow 'on'"),
        ({"rules": [ROWS[0] | {"rule": ["default"]}]}, "rule is ['default'], allowed: c_total"),
        ({"rules": [{"rule": "default", "verdict": "open"}]}, "task is None"),
        ({"rules": [ROWS[0], ROWS[0] | {"verdict": "holds"}]}, "two verdicts of rule default on words"),
    ],
)
def test_verdicts_that_cannot_be_used_are_refused(tmp_path, fails, value, message):
    out = tmp_path / "evidence.json"
    assert message in fails(advice_evidence.main, "--verdicts", write(tmp_path, value), "--out", out)
    assert not out.exists()
