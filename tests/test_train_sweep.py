import csv
import json
import os
import shlex
from pathlib import Path

import pytest
import torch

from common.config import flags
from common.files import locked
from train import run, sweep
from train.language import corpora

FLAGS = [
    *("--n-layer", "1", "--d-model", "8", "--d-head", "4", "--d-inner", "8", "--tgt-len", "8"),
    *(
        "--max-train-windows",
        "100",
        "--batch-size",
        "8",
        "--lr",
        "0.01",
        "--dropout",
        "0.2",
        "--patience",
        "0",
    ),
    "--no-progress",
]
RECORDS = Path(__file__).parent.parent / "records/train/small_sweep"
SWEPT = ["--beta2", "0.9", "0.99", "--seed", "0", "1"]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".csv"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert sweep.main([*FLAGS, *SWEPT, "--n-epochs", "6", "--out", str(folder / "panel.csv")]) == 0
    return folder


def test_each_run_is_that_of_train_run_bit_for_bit(undisturbed, tmp_path):
    rows, evaluations = read(undisturbed / "panel.csv"), read(undisturbed / "panel_evaluations.csv")
    assert [(row["seed"], row["beta2"]) for row in rows] == [
        ("0", "0.9"),
        ("0", "0.99"),
        ("1", "0.9"),
        ("1", "0.99"),
    ]
    assert len({row["min_valid_perplexity"] for row in rows}) == 4
    for row in rows:
        out = tmp_path / "one.csv"
        run.main(
            [*FLAGS, "--n-epochs", "6", "--beta2", row["beta2"], "--seed", row["seed"], "--out", str(out)]
        )
        of_run = [e for e in evaluations if (e["seed"], e["beta2"]) == (row["seed"], row["beta2"])]
        assert read(out) == of_run
        made = json.loads(out.with_suffix(".json").read_text())
        assert float(row["min_valid_perplexity"]) == made["min_valid_perplexity"]
        assert float(row["test_perplexity"]) == made["test_perplexity"]
        assert (row["status"], int(row["n_dropped_windows"])) == ("ok", 4)


def test_says_how_the_runs_were_made_and_leaves_no_work_behind(undisturbed):
    assert sorted(os.listdir(undisturbed)) == ["panel.csv", "panel.json", "panel_evaluations.csv"]
    made = json.loads((undisturbed / "panel.json").read_text())
    assert (made["n_runs"], made["n_missing"]) == (4, 0)
    assert made["settings"]["batch_size"] == 8
    assert "beta2" not in made["settings"]
    assert [entry["beta2"] for entry in made["runs"]] == [0.9, 0.99, 0.9, 0.99]
    assert all(entry["tokens_per_second"] > 0 for entry in made["runs"])
    assert len(made["corpus"]["sha256"]) == 64


def test_resumes_from_the_state_of_the_current_run_alone(undisturbed, tmp_path, monkeypatch):
    """Stopped in the second run: the first is read, the second continues, the others are made."""
    from train.runtime import checkpoints

    out, save, n_saved = tmp_path / "panel.csv", checkpoints.save, 0

    class Killed(BaseException):
        pass

    def save_and_die(path, state):
        nonlocal n_saved
        save(path, state)
        n_saved += 1
        if n_saved == 72 + 30:  # 6 epochs of 12 steps, and 30 steps more
            raise Killed

    command = [*FLAGS, *SWEPT, "--n-epochs", "6", "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            sweep.main([*command, "--checkpoint-seconds", "0"])
    assert len(read(tmp_path / "panel.work" / "runs.csv")) == 1
    assert not out.exists()
    steps = count_steps(monkeypatch)
    assert sweep.main(command) == 0
    assert len(steps) == (72 - 30) + 2 * 72
    assert contents(tmp_path) == contents(undisturbed)


def count_steps(monkeypatch):
    from adam_minibatch_noise.optimizers.adam import Adam

    steps, step = [], Adam.step

    def counted(self, closure=None):
        steps.append(1)
        step(self, closure)

    monkeypatch.setattr(Adam, "step", counted)
    return steps


def test_diverged_run_is_recorded_and_the_sweep_goes_on(tmp_path, monkeypatch):
    from train.language.trainer import Trainer

    gradient = Trainer.gradient

    def poisoned(self, windows, memory=None, noise=None):
        nll, memory = gradient(self, windows, memory, noise)
        if self.settings.beta2 == 0.5:
            self.values.grad.fill_(torch.nan)
        return nll, memory

    monkeypatch.setattr(Trainer, "gradient", poisoned)
    out = tmp_path / "panel.csv"
    assert sweep.main([*FLAGS, "--beta2", "0.9", "0.5", "0.99", "--n-epochs", "2", "--out", str(out)]) == 0
    rows = read(out)
    assert [row["status"] for row in rows] == ["ok", "diverged", "ok"]
    assert [row["min_valid_perplexity"] == "" for row in rows] == [False, True, False]
    monkeypatch.undo()
    assert sweep.main([*FLAGS, "--beta2", "0.99", "--n-epochs", "2", "--out", str(tmp_path / "a.csv")]) == 0
    assert read(tmp_path / "a.csv")[0] == rows[2]


def test_out_of_time_writes_what_there_is_and_goes_on_later(undisturbed, tmp_path, capsys):
    out = tmp_path / "panel.csv"
    command = [*FLAGS, *SWEPT, "--n-epochs", "6", "--out", str(out)]
    assert sweep.main([*command, "--max-minutes", "1e-9"]) == 0
    assert "0 of 4 runs made" in capsys.readouterr().err
    assert not out.exists()
    shorter = [*FLAGS, "--n-epochs", "6", "--beta2", "0.9", "--out", str(out), "--work", str(tmp_path / "w")]
    assert sweep.main(shorter) == 0
    first = read(out)
    assert sweep.main(command) == 0
    assert contents(tmp_path) == contents(undisturbed)
    assert first == read(out)[:1]


def test_second_process_on_the_same_result_refuses(tmp_path, fails):
    out = tmp_path / "panel.csv"
    with locked(out):
        assert "panel.csv: another process is working on it" in fails(sweep.main, *FLAGS, "--out", out)
    assert sweep.main([*FLAGS, "--n-epochs", "1", "--out", str(out)]) == 0


def test_rejects_the_work_of_another_sweep(tmp_path, fails):
    work = tmp_path / "work"
    record = {"settings": {"corpus": "pydoc", "lr": 0.5}, "outcome": {}, "evaluations": []}
    work.mkdir()
    (work / "seed-0_beta1-0.9_beta2-0.9.json").write_text(json.dumps(record))
    message = fails(sweep.main, *FLAGS, "--beta2", "0.9", "--out", tmp_path / "b.csv", "--work", work)
    assert "is of another sweep (max_train_windows is None there, 100 here)" in message
    (work / "seed-0_beta1-0.9_beta2-0.9.json").write_text('{"settings": {}')
    message = fails(sweep.main, *FLAGS, "--beta2", "0.9", "--out", tmp_path / "b.csv", "--work", work)
    assert "is damaged" in message
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--beta2 0.9 0.9", "allowed: each value once"),
        ("--beta2 0.9 1", "argument --beta2: is '1', allowed: a finite number >= 0 and < 1"),
        ("--seed -1", "argument --seed: is '-1'"),
        ("--lr 0.1 0.2", "unrecognized arguments: 0.2"),
        ("--out panel.txt", "allowed: a name that ends in .csv"),
        ("--max-minutes -1", "argument --max-minutes: is '-1'"),
        ("--batch-size 101", "--batch-size is 101, allowed: 1 ... 100"),
    ],
)
def test_rejects_bad_input_in_one_line(flags, message, tmp_path, fails, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in fails(sweep.main, *FLAGS, "--out", "panel.csv", *flags.split())
    assert not list(tmp_path.rglob("*.csv"))


def test_removes_of_the_work_folder_its_own_files_only(tmp_path):
    """Whoever names a folder of theirs as --work finds in it what they had there."""
    work = tmp_path / "mine"
    (work / "deep").mkdir(parents=True)
    for name in ("letter.txt", "seed-7_beta1-0.9_beta2-0.9.json", "deep/picture"):
        (work / name).write_text("mine")
    shorter = [
        *FLAGS,
        "--n-epochs",
        "1",
        "--beta2",
        "0.9",
        "--out",
        str(tmp_path / "o.csv"),
        "--work",
        str(work),
    ]
    sweep.main(shorter)
    left = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    assert left == ["deep/picture", "letter.txt", "seed-7_beta1-0.9_beta2-0.9.json"]


def test_rejects_a_work_folder_that_holds_the_result_and_an_empty_name(tmp_path, fails):
    message = fails(sweep.main, *FLAGS, "--out", tmp_path / "runs.csv", "--work", tmp_path)
    assert "the folder of --out, allowed: another one" in message
    assert "is a folder, allowed: the name of a file" in fails(sweep.main, *FLAGS, "--out", "")
    assert not list(tmp_path.iterdir())


def test_learning_rate_beyond_single_precision_is_a_run_that_diverged(tmp_path):
    out = tmp_path / "panel.csv"
    flags = ["--max-train-windows", "16", "--n-epochs", "1", "--out", str(out)]
    assert sweep.main([*FLAGS, *flags, "--lr", "1e300"]) == 0
    (row,) = read(out)
    assert (row["status"], row["lr"]) == ("diverged", "1e+300")


@pytest.mark.parametrize(
    ("panel", "flags_of_run", "n_evaluations", "rtol"),
    [
        ("on_a_cpu/beta2_b128_lr0.002_seeds-0", {"beta2": 0.999, "seed": 0}, 2, 1e-5),
        ("beta2_b128_lr0.002_seeds-0", {"beta2": 0.999, "seed": 0}, 2, 1e-4),  # made on a GPU
        pytest.param(
            *(
                "beta1_b8_lr0.002_seeds-2",
                {"beta1": 0.5, "beta2": 0.999, "seed": 2},
                1,
                5e-3,
            ),  # likewise, 264 steps
            marks=pytest.mark.faults,
        ),
        pytest.param(
            *("beta1_b1024_lr0.006_seeds-2", {"beta1": 0.5, "beta2": 0.999, "seed": 2}, 1, 1e-4),
            marks=pytest.mark.faults,
        ),
        ("diagonal/diagonal_b128_lr0.001_seeds-0", {"beta1": 0.95, "beta2": 0.95, "seed": 0}, 2, 1e-4),
    ],
)
def test_recorded_run_begins_again_as_recorded(panel, flags_of_run, n_evaluations, rtol, tmp_path):
    """The first evaluations: to the digit on a processor like that of the record, elsewhere to rounding."""
    panel = RECORDS / panel
    settings = json.loads(Path(f"{panel}.json").read_text())["settings"]
    if settings.pop("corpus_sha256") != corpora.load("pydoc").sha256:
        pytest.skip("the records were trained on the text of another Python")
    run = {"beta1": 0.9} | flags_of_run
    out = tmp_path / "again.csv"
    made = {"n_epochs": 1, "n_threads": 1, "progress": False}
    assert sweep.main([*shlex.split(flags(settings | run | made)), "--out", str(out)]) == 0
    again, recorded = (read(Path(f"{path}_evaluations.csv")) for path in (out.with_suffix(""), panel))
    recorded = [row for row in recorded if all(float(row[name]) == value for name, value in run.items())]
    again, recorded = again[:n_evaluations], recorded[:n_evaluations]
    assert [row["step"] for row in again] == [row["step"] for row in recorded]
    for name in ("train_loss", "valid_loss"):
        values, expected = ([float(row[name]) for row in rows] for rows in (again, recorded))
        assert values == pytest.approx(expected, rel=rtol)
