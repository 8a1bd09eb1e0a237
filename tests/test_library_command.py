"""`python -m adam_minibatch_noise advise`: its forms, without rich too, and one line for bad input."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from adam_minibatch_noise import __main__ as command
from adam_minibatch_noise.advice import advise
from adam_minibatch_noise.advice.field_rules import FIELD_RULES

ROOT = Path(__file__).parent.parent
LINE = "advise --n-samples 2000 --batch-size 100 --noise-scale 200 420 --n-epochs 5 --reference-batch-size 50"
FLAGS = LINE.split()
KEYS = {"lam", "critical_batch_size", "c_total", "recommended", "rules", "regime", "text"}


def test_json_holds_what_advise_returns(capsys):
    assert command.main([*FLAGS, "--format", "json", "--beta1", "0.95", "--lr", "0.01"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = advise(2000, 100, (200.0, 420.0), (0.95, 0.999), 0.01, n_epochs=5, reference_batch_size=50)
    assert found == json.loads(json.dumps(expected.to_dict()))
    assert set(found) >= KEYS


@pytest.mark.parametrize("with_rich", [True, False])
def test_the_table_shows_numbers_rules_and_advice(capsys, monkeypatch, with_rich):
    if not with_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    assert command.main(FLAGS) == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in ("noise to signal of a batch", "290 [200, 420] samples", "these epochs", "0.9, 0.998"):
        assert words in out, words
    for rule in FIELD_RULES.values():
        assert rule.title.split()[0] in out
    assert "Measure the noise scale at the batch size you mean to use" in out
    assert "kinds of data" in out
    assert ("━" in out) == with_rich


def test_the_table_counts_the_kinds_of_data_and_does_not_list_them():
    verdicts = {"holds": ["digits (costs 2 %)", "words"], "open": [], "opposite": ["characters"]}
    assert command.counted(verdicts) == "holds on 2, opposite on 1 of 3 kinds of data"
    assert command.counted({"holds": [], "open": [], "opposite": []}) == "not yet measured"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--noise-scale", "0"], "noise_scale is 0.0, allowed: a finite number > 0"),
        (["--noise-scale", "420", "200"], "noise_scale is an interval from 420 to 200"),
        (["--noise-scale", "1", "2", "3"], "allowed: a number, or two ends of an interval"),
        (["--noise-scale", "many"], "argument --noise-scale: 'many' is no number"),
        (["--batch-size", "3000"], "batch_size is 3000, allowed: at most n_samples = 2000"),
        (["--beta2", "1"], "beta2 is 1.0, allowed: >= 0 and < 1"),
        (["--n-epochs", "0.001"], "n_epochs is 0.001, allowed: at least one step"),
        (["--batch", "3"], "unrecognized arguments: --batch 3"),
        (["--format", "xml"], "argument --format: invalid choice: 'xml'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, changed, message):
    try:
        status = command.main([*FLAGS, *changed])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_without_a_command_it_says_which_there_are(capsys):
    with pytest.raises(SystemExit) as end:
        command.main([])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: the following arguments are required: advise\n"


def test_it_runs_as_a_module_and_is_installed_as_a_script():
    done = subprocess.run(
        [sys.executable, "-m", "adam_minibatch_noise", *FLAGS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Batch size 100" in done.stdout
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"adam-noise": "adam_minibatch_noise.__main__:main"}


@pytest.mark.parametrize("form", ["table", "json"])
def test_a_reader_that_goes_away_is_no_error(form):
    line = f"{sys.executable} -m adam_minibatch_noise {' '.join(FLAGS)} --format {form}"
    script = f'{line} | true; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
