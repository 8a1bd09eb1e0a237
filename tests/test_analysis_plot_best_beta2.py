"""Measured bests beside what both theories expect at the measured noise scale."""

import json

import numpy as np
import pandas as pd
import pytest

from adam_minibatch_noise import theory
from adam_minibatch_noise.expansion import turning_points
from adam_minibatch_noise.expansion.constants import exact_c_total
from analysis import best_betas, plot_best_beta2
from analysis.reductions import best_beta2, noise_scales
from tests.sweep_runs import curve, write


def snapshots(path, **settings):
    """Write a table of the noise scale along a run that is best at epoch 4."""
    run = dict.fromkeys(noise_scales.RUN, 0) | {"n_samples": 1000, "b_simple_estimate": 77.0} | settings
    epochs = [(1, 90, 10.0), (2, 60, 30.0), (4, 50, 40.0), (6, 55, 50.0), (8, 70, np.nan)]
    rows = [run | {"epoch": e, "valid_perplexity": p, "b_simple": b} for e, p, b in epochs]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def best(tmp_path):
    rows = [*curve({0.9: [6, 6], 0.999: [5, 5.5]}), *curve({0.9: [5, 5], 0.999: [6, 7]}, batch_size=64)]
    flags = [
        "--tables",
        str(write(tmp_path / "t.csv", rows)),
        "--batch-size",
        "8",
        "64",
        "256",
        "--lr",
        "0.001",
    ]
    best_betas.main([*flags, "--beta2", "0.9", "0.999", "--out", str(tmp_path / "best.csv")])
    return tmp_path / "best.csv"


def test_noise_scale_counts_near_the_least_perplexity(tmp_path):
    one = noise_scales.read([snapshots(tmp_path / "1.csv")])
    assert noise_scales.near_minimum(one) == noise_scales.NoiseScale(30, 40, 50)
    both = noise_scales.read([snapshots(tmp_path / "1.csv"), snapshots(tmp_path / "2.csv", seed=1)])
    assert noise_scales.near_minimum(both).middle == 40
    assert one["noise_scale"].tolist() == [10, 30, 40, 50, 77]  # the estimate, where there is nothing exact


def test_critical_batch_sizes_match_both_theories():
    noise = noise_scales.NoiseScale(30, 40, 50)
    critical = best_beta2.critical_batch_sizes(noise, 1000, 2, 0.9, 4)
    assert critical["limit"] == [float(theory.critical_batch_size(1000, b, 0.5)) for b in (30, 40, 50)]
    for b_simple, size in zip((30, 40, 50), critical["exact"], strict=True):
        falls = [exact_falls(b_simple, b) for b in (size - 1, size, size + 1)]
        assert falls == [False, True, True]


def exact_falls(noise_scale, batch_size):
    """Whether C_total after 2 epochs falls along the grid, beta by beta."""
    n_batches, v, correlation = turning_points.epoch_geometry(1000, batch_size)
    betas = [
        0.9,
        0.9 + 1e-5,
        *(beta for beta in turning_points.GRID if 0.9 < beta < 0.999),
        0.999 - 1e-7,
        0.999,
    ]
    values = [exact_c_total(0.9, beta, v * noise_scale, n_batches, 2, correlation) for beta in betas]
    return bool((np.diff(values) < 0).all())


def test_expected_best_is_the_largest_c_total():
    """Around the turn, where limit and exact part: 74 and 76 windows a batch."""
    betas, sizes = 1 - np.geomspace(0.231, 0.001, 45), [8, 74, 76, 300]
    found = best_beta2.expected_best(40, sizes, betas, 1000, 2, 0.9)
    for i, size in enumerate(sizes):
        n_batches, v, correlation = turning_points.epoch_geometry(1000, size)
        limit = [float(theory.c_total(0.9, beta, 40 * v)) for beta in betas]
        exact = [exact_c_total(0.9, beta, 40 * v, n_batches, 2, correlation) for beta in betas]
        assert (found["limit"][i], found["exact"][i]) == (betas[np.argmax(limit)], betas[np.argmax(exact)])
    assert found["limit"].tolist() == pytest.approx([0.999, 0.999, 0.769, 0.769])
    assert found["exact"].tolist() == pytest.approx([0.999, 0.9805, 0.9407, 0.769], abs=1e-4)


def test_draws_the_same_bytes_twice_and_sums_up(best, tmp_path):
    noise = ["--noise-scale", str(snapshots(tmp_path / "n.csv"))]
    for name in ("1.svg", "2.svg"):
        plot_best_beta2.main(
            [
                "--best",
                str(best),
                *noise,
                "--out",
                str(tmp_path / name),
                "--summary",
                str(tmp_path / "s.json"),
            ]
        )
    text = (tmp_path / "1.svg").read_text()
    assert text == (tmp_path / "2.svg").read_text()
    assert "exact, epoch 2" in text
    assert [text.count(f"<!-- {label} -->") for label in ("0.9", "0.99", "0.999", "64")] == [1, 1, 1, 1]
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["noise_scale"] == {"low": 30, "middle": 40, "high": 50}
    assert (summary["n_samples"], summary["n_epochs"]) == (1000, 2)


def test_without_noise_scale_or_runs_it_draws_what_there_is(best, tmp_path):
    plot_best_beta2.main(
        ["--best", str(best), "--out", str(tmp_path / "1.svg"), "--summary", str(tmp_path / "s.json")]
    )
    assert "not yet measured" in (tmp_path / "1.svg").read_text()
    assert json.loads((tmp_path / "s.json").read_text()) == {}


def test_rejects_the_curve_of_beta1(best, tmp_path, fails):
    path = tmp_path / "beta1.csv"
    pd.read_csv(best).assign(swept="beta1").to_csv(path, index=False)
    complaint = fails(plot_best_beta2.main, "--best", path, "--out", tmp_path / "x.svg")
    assert "sweeps beta1, allowed: beta2" in complaint
