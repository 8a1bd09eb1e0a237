import csv
import json
import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.sample_gradients import gradient_noise
from adam_minibatch_noise.noise_scale.two_batch import sq_norm
from adam_minibatch_noise.theory import batch_variance_factor
from train import noise_scale
from train.language import corpora
from train.language.noise_measurements import draw_measurements
from train.language.per_sample import window_moments
from train.language.settings import Settings
from train.language.snapshots import Snapshot, load_snapshot, save_snapshot
from train.language.transformer_xl import TransformerXL

SETTINGS = Settings(
    n_layer=1, d_model=8, d_head=4, d_inner=8, tgt_len=8, dropout=0.3, max_train_windows=48, batch_size=16, seed=3
)  # fmt: skip
BATCHES = ["--small-size", 4, "--big-size", 16, "--n-draws", 30]
FLAGS = [*BATCHES, "--no-progress"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Thousands of tiny operations: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def problem():
    """A tiny model, far from its start, and 40 windows."""
    torch.manual_seed(3)
    model = TransformerXL(
        n_token=7, n_layer=1, n_head=2, d_model=8, d_head=4, d_inner=12, dropout=0.2
    ).double()
    with torch.no_grad():
        for param in model.parameters():
            param += 0.3 * torch.randn_like(param)
    text = torch.from_numpy(np.random.default_rng(1).integers(0, 7, 241))
    return model, text[:-1].view(40, 6), text[1:].view(40, 6)


def save(path, state, settings=SETTINGS, sha256=None, epoch=0.0):
    sha256 = sha256 or corpora.load("pydoc").sha256
    save_snapshot(path, Snapshot(settings, sha256, epoch, int(3 * epoch), 70 - epoch, state))


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    """Two snapshots of one run: the start, and parameters elsewhere."""
    folder, corpus = tmp_path_factory.mktemp("snapshots"), corpora.load("pydoc")
    torch.manual_seed(0)
    model = TransformerXL(n_token=len(corpus.vocabulary), **SETTINGS.model())
    for epoch in (0.0, 2.0):
        save(folder / f"epoch{epoch:.0f}.pt", model.state_dict(), epoch=epoch)
        with torch.no_grad():
            for param in model.parameters():
                param += 0.1 * torch.randn_like(param)
    return [folder / f"epoch{epoch}.pt" for epoch in (0, 2)]


def call(tmp_path, snapshots, *flags, form="csv"):
    out = tmp_path / f"noise_scale.{form}"
    batches = [] if "exact" in flags else BATCHES  # the exact method draws none
    argv = ["--snapshots", *snapshots, *batches, "--no-progress", *flags, "--format", form, "--out", out]
    noise_scale.main([str(word) for word in argv])
    return out


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_mean_square_of_a_batch_gradient_matches_enumeration(problem, size):
    """All batches of `size` out of 6 windows, by the training loss: E|G_b|² = |g|² + v(b) tr(Sigma), rtol 1e-12."""
    model, inputs, targets = problem
    model.eval()
    squares = []
    for batch in map(list, combinations(range(6), size)):
        loss = model(inputs[batch], targets[batch])[0] / (size * 6)
        squares.append(float(sq_norm(torch.autograd.grad(loss, list(model.parameters())))))
    noise = gradient_noise(window_moments(model, inputs[:6], targets[:6]))
    expected = noise.grad_sq_norm + batch_variance_factor(6, size) * noise.tr_sigma
    assert np.mean(squares) == pytest.approx(float(expected), rel=1e-12)


def test_interval_of_drawn_batches_covers_the_exact_value(problem):
    """Two seeds at 99.9%; the rate itself is tested in test_train_two_batch."""
    exact = gradient_noise(window_moments(*problem))
    for seed in range(2):
        got = draw_measurements(*problem, 5, 20, n_draws=40, seed=seed, level=0.999)
        assert got.low < exact.b_simple < got.high < 2 * got.low
        assert got.n_measurements == 40
        assert got.grad_sq_norm == pytest.approx(exact.grad_sq_norm, rel=0.15)
        assert got.tr_sigma == pytest.approx(exact.tr_sigma, rel=0.05)


def test_draws_have_no_dropout_and_leave_the_model_as_it_was(problem):
    """The full batch, drawn, is exact: its gradient does not depend on the draw."""
    problem[0].train()
    done = []
    got = draw_measurements(*problem, 20, 40, n_draws=2, seed=0, progress=done.append)
    exact = gradient_noise(window_moments(*problem))
    assert got.grad_sq_norm == pytest.approx(exact.grad_sq_norm, rel=1e-12)
    assert done == [20] * 4
    assert problem[0].training


def test_rejects_a_big_batch_that_small_ones_do_not_fill(problem):
    with pytest.raises(InputError, match="--small-size is 3, allowed: a divisor of --big-size 16"):
        draw_measurements(*problem, 3, 16, 1, 0)


def test_one_row_a_snapshot(tmp_path, snapshots):
    rows = read(call(tmp_path, snapshots))
    assert [float(row["epoch"]) for row in rows] == [0, 2]
    assert [(row["step"], row["valid_perplexity"]) for row in rows] == [("0", "70.0"), ("6", "68.0")]
    for row in rows:
        assert [row[name] for name in ("corpus", "batch_size", "beta1", "beta2", "seed")] == [
            *("pydoc", "16", "0.9", "0.999", "3")
        ]
        assert row["n_samples"] == "48"
        b_simple = float(row["b_simple"])
        assert b_simple == pytest.approx(float(row["tr_sigma"]) / float(row["grad_sq_norm"]))
        assert float(row["b_simple_low"]) < b_simple < float(row["b_simple_high"])
        quantiles = [float(row[f"component_q{level}"]) for level in ("05", "25", "50", "75", "95")]
        assert 0 < quantiles[0] < quantiles[2] < quantiles[4]
    assert rows[0]["b_simple"] != rows[1]["b_simple"]


def test_same_seed_same_bytes_and_chunks_do_not_matter(tmp_path, snapshots):
    first, again, other = (
        call(tmp_path, snapshots[1:], *flags).read_bytes() for flags in ([], [], ["--seed", 1])
    )
    assert first == again
    assert first != other
    (whole,), (cut,) = (read(call(tmp_path, snapshots[1:], "--chunk", n)) for n in (48, 5))
    assert float(whole["b_simple"]) == pytest.approx(float(cut["b_simple"]), rel=1e-5)


def test_each_method_alone_leaves_the_columns_of_the_other_empty(tmp_path, snapshots):
    exact, drawn, both = (
        json.loads(call(tmp_path, snapshots[1:], "--method", method, form="json").read_text())[0]
        for method in ("exact", "two-batch", "both")
    )
    assert exact["b_simple_low"] is None
    assert exact["n_measurements"] == 0
    assert drawn["b_simple"] is None
    assert drawn["component_q50"] is None
    for name in ("b_simple", "grad_l1", "component_q95"):
        assert exact[name] == both[name]
    for name in ("b_simple_estimate", "b_simple_high", "level", "n_measurements"):
        assert drawn[name] == both[name]


def test_flags_of_a_method_that_is_not_used_are_refused(snapshots, fails):
    start = ["--snapshots", snapshots[0], "--no-progress"]
    complaint = fails(noise_scale.main, *start, "--method", "exact", "--n-draws", 40)
    assert "--n-draws is 40, allowed only with --method two-batch or both" in complaint
    complaint = fails(noise_scale.main, *start, "--method", "two-batch", "--chunk", 0)
    assert "--chunk is 0, allowed only with --method exact or both" in complaint


def test_fewer_windows_are_another_data_set(tmp_path, snapshots):
    row = read(call(tmp_path, snapshots[1:], "--max-windows", 20))[0]
    assert row["n_samples"] == "20"
    assert row["b_simple"] != read(call(tmp_path, snapshots[1:]))[0]["b_simple"]


def test_table_shows_the_snapshots(snapshots, capsys):
    noise_scale.main(["--snapshots", str(snapshots[0]), "--method", "exact", "--no-progress"])
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:3] == ["batch_size", "lr", "beta2"]
    assert len(out) == 3


def test_a_run_that_diverged_gives_nan_not_a_crash(tmp_path, snapshots):
    state = load_snapshot(snapshots[0], torch.device("cpu")).state
    state["output.bias"][:] = math.nan
    save(tmp_path / "nan.pt", state)
    row = read(call(tmp_path, [tmp_path / "nan.pt"]))[0]
    assert {row[name] for name in ("b_simple", "component_q50", "b_simple_estimate", "b_simple_low")} == {
        "nan"
    }


def test_rejects_snapshots_it_cannot_use(fails, tmp_path, snapshots):
    corpus = corpora.load("pydoc")
    out, bad = tmp_path / "noise_scale.csv", tmp_path / "bad.pt"

    def complaint(*flags):
        return fails(noise_scale.main, "--snapshots", snapshots[0], bad, "--out", out, *FLAGS, *flags)

    assert "bad.pt: No such file" in complaint()
    bad.write_bytes(snapshots[0].read_bytes()[:-5])
    assert "bad.pt: the checkpoint is damaged" in complaint()
    save(bad, {}, sha256="7" * 64)
    assert f"of sha256 777777777777..., this one is of {corpus.sha256[:12]}" in complaint()
    save(bad, {}, replace(SETTINGS, mem_len=8, shuffle=False))
    assert "bad.pt: mem_len of the snapshot is 8, allowed: 0" in complaint()
    assert not out.exists()


def test_rejects_flags_it_cannot_use(fails, tmp_path, snapshots):
    def complaint(*flags):
        return fails(noise_scale.main, "--snapshots", snapshots[0], "--no-progress", *flags)

    assert "--level: is '1', allowed" in complaint("--level", 1)
    assert "allowed: 1 <= small < big <= 48" in complaint("--small-size", 10, "--big-size", 50)
    assert "invalid choice: 'guess'" in complaint("--method", "guess")
