import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from common.files import locked
from tests.kills import kill_in_the_middle
from train import run
from train.language import corpora, loop
from train.language.corpora import Corpus
from train.language.settings import Settings
from train.language.trainer import Trainer
from train.runtime import checkpoints, downloads

CPU = torch.device("cpu")
TINY = Settings(
    n_layer=1, d_model=8, d_head=4, d_inner=8, tgt_len=8, batch_size=16, n_epochs=3, patience=0, lr=1e-2
)  # fmt: skip
FLAGS = [
    *("--n-layer", "1", "--d-model", "8", "--d-head", "4", "--d-inner", "8", "--tgt-len", "8"),
    *("--max-train-windows", "100", "--no-progress"),
]
COLUMNS = (
    "corpus,max_train_windows,batch_size,lr,beta1,beta2,eps,eps_root,weight_decay,shuffle,seed,epoch,step,n_tokens,"
    "train_loss,valid_loss,valid_perplexity,best_valid_perplexity,status"
)


@pytest.fixture(scope="module")
def corpus():
    """Words that follow a rule three times in four: 60 windows of 8 to train on."""
    rng = np.random.default_rng(7)
    tokens = [0]
    for _ in range(800):
        tokens.append(int((3 * tokens[-1] + 1) % 11 if rng.random() < 0.75 else rng.integers(11)))
    text = np.array(tokens)
    return Corpus("toy", tuple("abcdefghijk"), text[:481], text[481:641], text[641:], "of the toy corpus")


def train(settings, corpus, device, *args, **kwargs):
    return loop.train(Trainer(settings, corpus, device), settings, *args, **kwargs)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_learns_and_records(tmp_path, capsys):
    out = tmp_path / "folder" / "metrics.csv"
    course = ["--n-epochs", "4", "--lr", "0.01", "--evaluations-per-epoch", "2", "--patience", "0"]
    run.main([*FLAGS, "--out", str(out), *course])
    rows, made = read(out), json.loads(out.with_suffix(".json").read_text())
    assert out.read_text().split("\n")[0] == COLUMNS
    assert [int(row["step"]) for row in rows] == [6, 12, 18, 24, 30, 36, 42, 48]
    assert [float(row["epoch"]) for row in rows] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    assert int(rows[-1]["n_tokens"]) == 48 * 8 * 8
    losses = [float(row["valid_loss"]) for row in rows]
    assert losses[-1] < losses[0] - 1
    for row, loss in zip(rows, losses, strict=True):
        assert float(row["valid_perplexity"]) == math.exp(loss)
    best = np.minimum.accumulate([float(row["valid_perplexity"]) for row in rows])
    assert [float(row["best_valid_perplexity"]) for row in rows] == best.tolist()
    assert made["min_valid_perplexity"] == best[-1]
    assert 1 < made["test_perplexity"] < made["corpus"]["n_types"]
    assert made["status"] == "ok"
    assert made["ended_by"] == "n_epochs"
    assert (made["n_windows"], made["n_batches"], made["n_dropped_windows"]) == (100, 12, 4)
    assert made["settings"]["n_layer"] == 1
    assert len(made["made_with"]["sources_sha256"]) == 64
    assert made["corpus"]["sha256"] == corpora.load("pydoc").sha256
    assert made["tokens_per_second"] > 0
    assert sorted(os.listdir(out.parent)) == ["metrics.csv", "metrics.json"]
    assert capsys.readouterr().err == "each epoch drops 4 of 100 windows (batch size 8)\n"


def test_csv_comes_last(tmp_path, monkeypatch):
    def fail(path, rows):
        assert json.loads(path.with_suffix(".json").read_text())["status"] == "ok"
        raise OSError("no space left")

    monkeypatch.setattr(run, "write_csv", fail)
    with pytest.raises(OSError, match="no space"):
        run.main([*FLAGS, "--out", str(tmp_path / "a.csv"), "--n-epochs", "1"])
    assert os.listdir(tmp_path) == ["a.json"]


def test_same_seed_same_bytes(tmp_path):
    def result(name, *flags):
        run.main([*FLAGS, "--out", str(tmp_path / name), "--n-epochs", "1", *flags])
        return (tmp_path / name).read_bytes()

    first = result("a.csv")
    assert result("b.csv") == first
    assert result("c.csv", "--seed", "1") != first


def test_train_loss_is_the_mean_over_the_words_trained_on(corpus):
    """With a step size of nearly nothing it is the loss of the initial model on the training windows."""
    rows, outcome = train(replace(TINY, lr=1e-30, n_epochs=1, batch_size=60, dropout=0.0), corpus, CPU)
    assert outcome["n_dropped_windows"] == 0
    swapped = replace(corpus, valid=corpus.train)
    same, _ = train(replace(TINY, lr=1e-30, n_epochs=1, batch_size=60, dropout=0.0), swapped, CPU)
    assert rows[0]["train_loss"] == pytest.approx(same[0]["valid_loss"], rel=1e-6)
    assert rows[0]["train_loss"] != pytest.approx(rows[0]["valid_loss"], rel=1e-3)


def test_train_loss_starts_anew_after_each_evaluation(corpus):
    settings = replace(TINY, batch_size=15, n_epochs=4)  # 4 steps an epoch
    whole, _ = train(settings, corpus, CPU)
    halves, _ = train(replace(settings, evaluations_per_epoch=2), corpus, CPU)
    for row, first, second in zip(whole, halves[::2], halves[1::2], strict=True):
        assert row["train_loss"] == pytest.approx((first["train_loss"] + second["train_loss"]) / 2, rel=1e-12)
        assert row["valid_loss"] == second["valid_loss"]


def test_micro_batches_give_the_gradient_of_the_batch(corpus):
    settings = replace(TINY, dropout=0.0, n_epochs=2)
    whole, _ = train(settings, corpus, CPU)
    parts, _ = train(replace(settings, micro_batch_size=5), corpus, CPU)  # 5 + 5 + 5 + 1
    for one, other in zip(whole, parts, strict=True):
        assert one["valid_loss"] == pytest.approx(other["valid_loss"], rel=1e-5)
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)


def test_full_batch_is_every_window_in_any_order(corpus):
    settings = replace(TINY, dropout=0.0, batch_size=60, n_epochs=2)
    shuffled, _ = train(settings, corpus, CPU)
    fixed, _ = train(replace(settings, shuffle=False), corpus, CPU)
    assert shuffled[-1]["train_loss"] == pytest.approx(fixed[-1]["train_loss"], rel=1e-6)
    smaller, _ = train(replace(settings, batch_size=30), corpus, CPU)
    assert shuffled[-1]["step"] == 2
    assert smaller[-1]["step"] == 4


def test_patience_stops_after_the_minimum_and_the_test_split_is_read_there(corpus):
    settings = replace(TINY, lr=0.1, n_epochs=60, dropout=0.0, patience=3)
    rows, outcome = train(settings, corpus, CPU)
    losses = [row["valid_loss"] for row in rows]
    assert outcome["ended_by"] == "patience"
    assert len(losses) == np.argmin(losses) + 1 + 3
    assert outcome["step_of_min"] == rows[np.argmin(losses)]["step"]
    # The same run, stopped at its minimum, ends with the parameters that were kept.
    short, at_min = train(replace(settings, n_epochs=int(np.argmin(losses)) + 1, patience=0), corpus, CPU)
    assert short == rows[: len(short)]
    assert at_min["test_perplexity"] == outcome["test_perplexity"]


def test_diverged_run_is_recorded_and_ends_well(tmp_path):
    out = tmp_path / "metrics.csv"
    assert run.main([*FLAGS, "--out", str(out), "--lr", "1e30", "--n-epochs", "5"]) == 0
    rows, made = read(out), json.loads(out.with_suffix(".json").read_text())
    assert rows[-1]["status"] == made["status"] == made["ended_by"] == "diverged"
    assert [row["status"] for row in rows[:-1]] == ["ok"] * (len(rows) - 1)
    assert not math.isfinite(float(rows[-1]["valid_loss"]))


def test_memory_goes_from_step_to_step_and_ends_with_the_epoch(corpus, tmp_path, monkeypatch):
    settings = replace(TINY, shuffle=False, batch_size=10, dropout=0.2)
    plain, _ = train(settings, corpus, CPU)
    rows, _ = train(replace(settings, mem_len=6), corpus, CPU)
    assert rows[0]["train_loss"] != plain[0]["train_loss"]
    assert (
        interrupted(replace(settings, mem_len=6), corpus, tmp_path / "state", monkeypatch, n_steps=9) == rows
    )
    # One step an epoch, and no validation to speak of: there is nothing to remember.
    whole, short = replace(settings, batch_size=60), replace(corpus, valid=corpus.valid[:9])
    assert train(replace(whole, mem_len=6), short, CPU)[0] == train(whole, short, CPU)[0]


def test_memory_goes_from_micro_batch_to_micro_batch(corpus):
    """A full batch in streams of 5 windows: each micro-batch has the one before it in its memory."""
    settings = replace(TINY, shuffle=False, mem_len=6, batch_size=60, micro_batch_size=5, n_epochs=1)
    rows, _ = train(settings, corpus, CPU)
    plain, _ = train(replace(settings, mem_len=0), corpus, CPU)
    assert rows[0]["train_loss"] != plain[0]["train_loss"]


class Killed(BaseException):
    pass


def cut_off(settings, corpus, path, monkeypatch, n_steps):
    """Run, keeping the state after every step, and die right after `n_steps` of them."""
    save, n_saved = checkpoints.save, 0

    def save_and_die(path, state):
        nonlocal n_saved
        save(path, state)
        n_saved += 1
        if n_saved == n_steps:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            train(settings, corpus, CPU, path, checkpoint_seconds=0)


def interrupted(settings, corpus, path, monkeypatch, n_steps):
    """Rows of a run that is cut off after `n_steps` steps and resumed by another call."""
    cut_off(settings, corpus, path, monkeypatch, n_steps)
    torch.manual_seed(999)  # whatever the generator's state is, the one in the file counts
    return train(settings, corpus, CPU, path, checkpoint_seconds=0)[0]


@pytest.mark.parametrize("n_steps", [1, 2, 3, 5, 8])  # 3 steps an epoch, an evaluation each
def test_resumed_run_matches_uninterrupted_bit_for_bit(corpus, tmp_path, monkeypatch, n_steps):
    settings = replace(TINY, dropout=0.3, dropatt=0.2)
    assert (
        interrupted(settings, corpus, tmp_path / "state", monkeypatch, n_steps)
        == train(settings, corpus, CPU)[0]
    )


def test_second_process_on_the_same_result_refuses(tmp_path, fails):
    out = tmp_path / "a.csv"
    with locked(out):
        assert "a.csv: another process is working on it" in fails(run.main, *FLAGS, "--out", out)
    assert os.listdir(tmp_path) == []


def test_killed_and_started_again_gives_the_same_bytes(tmp_path):
    """kill -9 of the real process, at whatever step it is."""
    flags = [*FLAGS, "--n-epochs", "20", "--patience", "0", "--evaluations-per-epoch", "0.2"]
    reference, out, state = tmp_path / "reference.csv", tmp_path / "out.csv", tmp_path / "state"
    run.main([*flags, "--out", str(reference)])
    command = [sys.executable, "-m", "train.run", *flags, "--out", str(out), "--checkpoint", str(state)]
    kill_in_the_middle([*command, "--checkpoint-seconds", "0"], state, out)
    run.main([*flags, "--out", str(out), "--checkpoint", str(state)])
    assert out.read_bytes() == reference.read_bytes()
    assert not checkpoints.exists(state)  # over: nothing to go on from


def test_removed_checkpoint_leaves_nothing_that_killed_writers_left(tmp_path):
    for name in ("state", "state.previous", ".state.abc.part"):
        (tmp_path / name).write_text("x")
    checkpoints.remove(tmp_path / "state")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def state(corpus, tmp_path, monkeypatch):
    """The checkpoint of `TINY` after one step."""
    cut_off(TINY, corpus, tmp_path / "state", monkeypatch, n_steps=1)
    return tmp_path / "state"


def test_checkpoint_rejects_a_flipped_byte_and_a_cut(corpus, state):
    path, whole = state, state.read_bytes()
    header = len(checkpoints.MAGIC) + 65
    places = [*range(0, header, 7), header - 1, header, len(whole) // 2, len(whole) - 1]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=r"the checkpoint is damaged .* delete it to start over"):
            train(TINY, corpus, CPU, path)
    for length in (0, 10, header, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged"):
            train(TINY, corpus, CPU, path)


def test_checkpoint_rejects_other_settings_and_another_corpus(corpus, state):
    with pytest.raises(InputError, match=r"of another run \(beta2 is 0\.999 there, 0\.9 here\)"):
        train(replace(TINY, beta2=0.9), corpus, CPU, state)
    with pytest.raises(InputError, match="corpus_sha256 is 'of the toy corpus' there, 'other' here"):
        train(TINY, replace(corpus, sha256="other"), CPU, state)


def test_bfloat16_products_train_nearly_as_well(corpus):
    exact, _ = train(replace(TINY, n_epochs=6), corpus, CPU)
    rough, _ = train(replace(TINY, n_epochs=6, dtype="bfloat16"), corpus, CPU)
    assert rough[-1]["valid_loss"] != exact[-1]["valid_loss"]
    assert rough[-1]["valid_loss"] == pytest.approx(exact[-1]["valid_loss"], rel=0.02)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--beta1 1", "argument --beta1: is '1', allowed: a finite number >= 0 and < 1"),
        ("--beta2 1.5", "argument --beta2: is '1.5'"),
        ("--beta2 nan", "argument --beta2: is 'nan'"),
        ("--lr nan", "argument --lr: is 'nan', allowed: a finite number > 0"),
        ("--lr 0", "argument --lr: is '0'"),
        ("--eps -1", "argument --eps: is '-1'"),
        ("--dropout 1", "argument --dropout: is '1'"),
        ("--batch-size 0", "argument --batch-size: is '0', allowed: a whole number >= 1"),
        ("--batch-size 101", "--batch-size is 101, allowed: 1 ... 100, the number of training windows"),
        ("--n-epochs 1.5", "argument --n-epochs: is '1.5'"),
        ("--corpus ptb", "argument --corpus: invalid choice: 'ptb'"),
        ("--mem-len 4", "--mem-len is 4, allowed: 0 unless --no-shuffle"),
        (
            "--mem-len 4 --no-shuffle --micro-batch-size 3",
            "--micro-batch-size is 3, allowed with --mem-len: a divisor",
        ),
        ("--d-model 7", "d_model is 7, allowed: an even number"),
        ("--tgt-len 100000", "--tgt-len is 100000, allowed: less than the length"),
        ("--corpus wikitext-2 --data-dir {tmp}/none", "train.txt: no such file"),
        ("--corpus wikitext-2 --data-dir {tmp}", "train.txt: its sha256 is"),
        ("--checkpoint {tmp}/damaged", "damaged: the checkpoint is damaged"),
        ("--out {tmp}/metrics.json", "metrics.json', allowed: a name that ends in .csv"),
        ("--out {tmp}/damaged/metrics.csv", "damaged"),
        ("--checkpoint {tmp}/damaged/state", "damaged"),
        ("--batch", "unrecognized arguments: --batch"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(flags, message, tmp_path, fails):
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "train.txt").write_text("short")
    (tmp_path / "damaged").write_bytes(b"not a checkpoint")
    before = sorted(tmp_path.rglob("*"))
    out = [] if "--out" in flags else ["--out", tmp_path / "metrics.csv"]
    assert message in fails(run.main, *FLAGS, *out, *flags.format(tmp=tmp_path).split())
    assert sorted(tmp_path.rglob("*")) == before


def test_no_network_is_one_line(tmp_path, fails, monkeypatch):
    def unplugged(url):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(downloads, "open_url", unplugged)
    out, cache = tmp_path / "metrics.csv", tmp_path / "cache"
    message = fails(run.main, "--corpus", "wikitext-2", "--cache-dir", cache, "--out", out)
    assert "download failed (Network is unreachable)" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_one_line(tmp_path, fails):
    assert "--device is 'cuda'" in fails(run.main, "--out", tmp_path / "metrics.csv", "--device", "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_matches_cpu(corpus):
    settings = replace(TINY, dropout=0.0)
    there, _ = train(settings, corpus, torch.device("cuda"))
    here, _ = train(settings, corpus, CPU)
    for row, other in zip(there, here, strict=True):
        assert row["valid_loss"] == pytest.approx(other["valid_loss"], rel=1e-4)


def test_help_lists_every_setting_without_loading_torch():
    code = "import sys; from train import run; sys.stdout.isatty(); run.run(run.main, ['--help'])"
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    for name in Settings.__dataclass_fields__:
        assert "--" + name.replace("_", "-") in shown.stdout
    assert "torch" not in shown.stderr
    assert "numpy" not in shown.stderr
