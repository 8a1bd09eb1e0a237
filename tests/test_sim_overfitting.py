"""`python -m sim.overfitting` and the study: a plain twin, the same bytes everywhere, kills, refusals, the records."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from sim import overfitting, overfitting_study
from sim.small_networks import runs, study, tasks, training
from sim.small_networks.settings import Settings
from tests import smaller_processor
from tests.naive_small_networks import train_digits

ROOT = Path(__file__).parent.parent
SMALL = ("--n-samples", "64", "--max-epochs", "40", "--lr", "0.01", "--batch-size", "16", "0")
FLAGS = (*SMALL, "--beta2", "0.9", "0.999", "--seed", "0", "1")


def call(flags, **environment):
    command = [sys.executable, "-m", "sim.overfitting", *flags]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("batch_size", [1, 16, 64])
def test_run_matches_naive(batch_size):
    s = Settings(
        n_samples=64, batch_size=batch_size, lr=0.01, beta2=0.99, label_noise=0.2, seed=3, max_epochs=60
    )
    row, naive = training.train(s, np.float64), train_digits(s)
    assert row.pop("status") == naive.pop("status")
    assert row == pytest.approx(naive, rel=1e-7)


def test_float32_is_float64_to_rounding_over_a_short_run():
    s = Settings(n_samples=256, batch_size=16, lr=3e-3, max_epochs=6)
    one, two = np.zeros(25), np.zeros(25)
    training.train(s, np.float32, one)
    training.train(s, np.float64, two)
    np.testing.assert_allclose(one, two, rtol=1e-4)
    assert two[-1] < 0.6 * two[0]


def test_same_flags_same_bytes_for_any_number_of_threads(tmp_path):
    tables = [tmp_path / f"{n}.csv" for n in (1, 2)]
    for n, table in zip((1, 2), tables, strict=True):
        overfitting.main([*FLAGS, "--n-threads", str(n), "--out", str(table)])
    assert tables[0].read_bytes() == tables[1].read_bytes()
    assert len(tables[0].read_text().splitlines()) == 9
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".runs"] == []


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.skipif(not smaller_processor.PLAYS, reason="another kind of processor")
def test_same_bytes_on_a_smaller_processor():
    """Sums have one order and every operation is rounded as the standard says, so the width of registers is unseen."""
    for task in ("digits", "words", "regression", "cnn"):
        flags = [
            "--task",
            task,
            "--n-samples",
            "128",
            "--max-epochs",
            "3",
            "--batch-size",
            "4",
            "0",
            "--lr",
            "0.003",
        ]
        assert call(flags) == call(flags, **smaller_processor.ENVIRONMENT)


def test_killed_command_goes_on_and_ends_in_the_same_bytes(tmp_path):
    whole, table = tmp_path / "whole.csv", tmp_path / "killed.csv"
    flags = [
        "--n-samples",
        "1024",
        "--max-epochs",
        "60",
        "--batch-size",
        "64",
        "256",
        "--lr",
        "1e-3",
        "3e-3",
    ]
    flags += ["--beta2", "0.9", "0.99", "0.999", "--seed", "0", "1", "2", "--n-threads", "1"]
    command = [sys.executable, "-m", "sim.overfitting", *flags, "--out"]
    journal = runs.journal_of(table)
    with subprocess.Popen([*command, table], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 300
        while not (journal.exists() and journal.read_text().count("\n") >= 3):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = journal.read_text()
    assert not table.exists()
    assert kept.count("\n") < 36
    journal.write_text(kept + kept.splitlines()[0][:40])  # a line that was being written
    seen = []
    settings = [json.loads(line)[0] for line in kept.splitlines() if line.endswith("]")]
    trained = runs.row_of

    def row_of(s):
        seen.append(str(s))
        return trained(s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "row_of", row_of)
        overfitting.main([*flags, "--out", str(table)])
    overfitting.main([*flags, "--out", str(whole)])
    assert table.read_bytes() == whole.read_bytes()
    assert not set(seen) & set(settings[:3])
    assert len(seen) < 36
    assert not journal.exists()


def test_damaged_journal_is_refused(tmp_path):
    table = tmp_path / "t.csv"
    runs.journal_of(table).write_text("no list\nof runs\n")
    with pytest.raises(InputError, match="is not a list of finished runs"):
        runs.run_all([Settings(n_samples=64)], table)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--task", "digits", "--batch-size", "3"],
            "batch_size is 3, allowed: a divisor of n_samples = 1024",
        ),
        (
            ["--task", "digits", "--batch-size", "2048"],
            "batch_size is 2048, allowed: a divisor of n_samples = 1024",
        ),
        (["--n-samples", "1025", "--batch-size", "0"], "n_samples is 1025, allowed for digits: 1 to 1024"),
        (
            ["--task", "words", "--n-samples", "100", "--batch-size", "0"],
            "allowed for words: multiples of 64 to ",
        ),
        (["--task", "words", "--label-noise", "0.1"], "--label-noise is 0.1, allowed only"),
        (["--embedding", "frozen"], "--embedding is frozen, allowed only"),
        (["--optimizer", "rmsprop", "--beta1", "0.5"], "--beta1 is 0.5, allowed only"),
        (
            ["--optimizer", "invariant-adamw", "--batch-size", "16", "--micro-batch-size", "32"],
            "micro_batch_size is 32, allowed: a divisor of batch_size = 16",
        ),
        (["--beta2", "0.9", "0.9"], "--beta2 is 0.9 0.9, allowed: each value once"),
    ],
)
def test_rejects_what_has_no_meaning(flags, message, tmp_path, capsys):
    table = tmp_path / "t.csv"
    with pytest.raises(InputError) as error:
        overfitting.main([*flags, "--out", str(table)])
    assert message in str(error.value)
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    "bad", ["--beta2=1", "--beta1=-0.1", "--lr=0", "--lr=nan", "--label-noise=1.5", "--patience=0"]
)
def test_rejects_numbers_outside_their_range(bad, capsys):
    with pytest.raises(SystemExit) as error:
        overfitting.main([bad])
    assert error.value.code == 2
    assert "allowed" in capsys.readouterr().err


def test_study_rejects_what_a_variant_lacks(tmp_path):
    for flags in (["--batch-sizes", "2"], ["--curves", "map"]):
        with pytest.raises(InputError, match="allowed for digits"):
            overfitting_study.main([*flags, "--out", str(tmp_path / "t.csv")])


def test_unfinished_and_diverged_runs_say_so():
    short = Settings(n_samples=256, batch_size=64, lr=1e-4, max_epochs=5)
    assert training.train(short)["status"] == "unfinished"
    wild = training.train(
        Settings(task="words", n_samples=256, batch_size=1, lr=1.0, beta2=0.5, max_epochs=40)
    )
    assert wild["status"] == "diverged"
    assert wild["test_loss"] is None
    assert wild["sharpness"] is None


def test_wrong_labels_are_of_training_alone():
    clean, wrong = (tasks.make_task(Settings(label_noise=p).resolved()) for p in (0.0, 0.3))
    changed = clean.train.targets != wrong.train.targets
    assert 0.25 < changed.mean() < 0.35
    np.testing.assert_array_equal(clean.train.features, wrong.train.features)
    for part in ("valid", "test"):
        np.testing.assert_array_equal(getattr(clean, part).targets, getattr(wrong, part).targets)


@pytest.mark.parametrize("task", ["characters", "words"])
def test_stretches_of_text_are_disjoint(task):
    """Training, validation and test never share a position of the text."""
    s = Settings(task=task, n_samples=1024).resolved()
    tokens, _ = tasks._characters() if task == "characters" else tasks._words()
    n_context = 8 if task == "characters" else 3
    length = tasks.BLOCK + n_context
    drawn = tasks.rng_of(s, "samples").permutation(tokens.size // length)[: 3 * 16]
    assert len(set(drawn.tolist())) == 48
    made = tasks.make_task(s)
    first = drawn[0] * length
    np.testing.assert_array_equal(made.train.words[:n_context], tokens[first : first + n_context])
    assert made.train.targets[0] == tokens[first + n_context]


@pytest.mark.parametrize("variant", study.VARIANTS)
def test_study_has_every_run_once(variant):
    found = study.settings_of(variant, range(2))
    assert len({str(s) for s in found}) == len(found)
    assert {s.seed for s in found} == {0, 1}
    for s in found:
        s.resolved()


RECORDED_TEXT = "52b20a97b47d"
"""Digest of the text of Python 3.11 that the records were made of."""
RECORDS = sorted((ROOT / "records/overfitting").glob("*.csv.gz"))


def first_record(variant):
    return next((path for path in RECORDS if path.name.startswith(f"{variant}-seeds-")), None)


@pytest.mark.parametrize("variant", study.VARIANTS)
def test_recorded_run_is_trained_again_to_the_digit(variant):
    """The cheapest recorded run of each kind, and one more; text is Python's own and differs between its versions."""
    path = first_record(variant)
    assert path is not None, "a variant without a record: bash records/overfitting/measure.sh"
    if (
        study.VARIANTS[variant].settings["task"] in ("characters", "words")
        and tasks.text_digest() != RECORDED_TEXT
    ):
        pytest.skip("another version of Python's text than the recorded one")
    with gzip.open(path, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    rows.sort(key=lambda row: float(row["n_epochs"]) / int(row["batch_size"]) ** 0.3)
    known = {
        (s.optimizer, str(s.batch_size), str(s.lr), str(s.beta1), str(s.beta2), str(s.seed)): s
        for s in (s.resolved() for s in study.settings_of(variant, range(20)))
    }
    for row in (rows[0], rows[len(rows) // 20]):
        beta1 = row["beta1"] or str(Settings().beta1)  # RMSprop has none
        s = known[row["optimizer"], row["batch_size"], row["lr"], beta1, row["beta2"], row["seed"]]
        again = {name: "" if value is None else str(value) for name, value in runs.row_of(s).items()}
        assert again == {name: value for name, value in row.items() if name != "variant"}


@pytest.mark.slow
def test_float32_changes_no_verdict():
    """Seed by seed chaos parts the two; over seeds, bests and gains are the same verdicts. Records are of float32."""
    import pandas as pd

    from analysis.inputs import tables
    from analysis.reductions.overfitting.verdicts import judge

    variant, sizes, lrs, betas, n_seeds = "digits-wrong-30", [1, 4], (1e-3, 3e-3), (0.769, 0.957, 0.999), 10
    recorded = tables.read([path for path in RECORDS if path.name.startswith(f"{variant}-seeds-")])
    asked = recorded["batch_size"].isin(sizes) & recorded["lr"].isin(lrs) & recorded["beta2"].isin(betas)
    single = recorded[asked & (recorded["beta1"] == 0.9) & (recorded["seed"] < n_seeds)]
    found = study.settings_of(variant, range(n_seeds), sizes, ["beta2"])
    found = [s for s in found if s.lr in lrs and s.beta2 in betas]
    assert len(single) == len(found)
    double = [vars(s.resolved()) | training.train(s, np.float64) | {"variant": variant} for s in found]
    single_said, double_said = (
        [
            (row["metric"], row["batch_size"], row["verdict"])
            for row in judge(rows)["gains"]
            if row["baseline"] == 0.999
        ]
        for rows in (single, pd.DataFrame(double))
    )
    assert single_said == double_said
    assert ("min_valid_loss", 1, "holds") in single_said


def test_resolved_is_idempotent():
    s = Settings(batch_size=0).resolved()
    assert s == replace(s).resolved()
    assert s.batch_size == 1024
