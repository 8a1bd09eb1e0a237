"""Figures and numbers are reduced from the studies' tables, without a value of their own."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import article_numbers, plot_c_total, plot_expectation, plot_perplexity, style, tables
from sim import expectation
from sim.records import InputError


def run_rows(perplexities, status="ok", **settings):
    base = {
        "corpus": "pydoc",
        "lr": 0.001,
        "batch_size": 8,
        "beta1": 0.9,
        "beta2": 0.99,
        "seed": 0,
    } | settings
    return [
        base | {"epoch": float(i + 1), "valid_perplexity": value, "status": status}
        for i, value in enumerate(perplexities)
    ]


def test_minima_take_the_lowest_of_each_seed_and_count_the_diverged():
    rows = (
        run_rows([9, 5, 7]) + run_rows([8, 6, 3], seed=1) + run_rows([4.0, np.nan], status="diverged", seed=2)
    )
    (row,) = plot_perplexity.minima(pd.DataFrame(rows))
    assert (row["mean"], row["low"], row["high"]) == (4.0, 3, 5)
    assert (row["n_seeds"], row["n_diverged"], row["epoch"]) == (3, 1, 2.5)


def test_all_diverged_is_missing_and_not_zero():
    (row,) = plot_perplexity.minima(pd.DataFrame(run_rows([np.nan], status="diverged")))
    assert np.isnan(row["mean"])


def test_of_perplexity_measures_the_gain_over_the_longest_memory():
    rows = plot_perplexity.minima(pd.DataFrame(run_rows([8.0], beta2=0.9) + run_rows([10.0], beta2=0.999)))
    (cell,) = article_numbers.of_perplexity(pd.DataFrame(rows))["cells"]
    assert (cell["best_beta2"], cell["baseline_beta2"]) == (0.9, 0.999)
    assert cell["gain_percent"] == pytest.approx(20)


def test_noise_effects_are_c1_plus_c2_and_companions_for_the_formula(tmp_path):
    """What is drawn as predicted is Prop. 3.3 less FB; measured and exact meet it where memory is short."""
    path = tmp_path / "e.csv"
    flags = ["--n-samples", "200", "--n-params", "3", "--batch-size", "1", "--beta1", "0.3", "--beta2", "0.8"]
    flags += ["--noise", "0.05"]
    expectation.main([*flags, "--n-permutations", "40000", "--format", "csv", "--out", str(path)])
    (row,) = plot_expectation.noise_effects(tables.read([path]))
    assert row["exact"] == pytest.approx(row["predicted"], rel=0.05)
    assert abs(row["measured"] - row["exact"]) < 4 * row["stderr"]
    assert row["stderr"] < 0.5 * abs(row["exact"])


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_plot_same_data_same_bytes(tmp_path, suffix):
    paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for path in paths:
        plot_c_total.main(["--out", str(path)])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_save_rejects_unknown_suffix(tmp_path):
    import matplotlib.pyplot as plt

    style.apply()
    with pytest.raises(InputError, match=r"\.svg"):
        style.save(plt.figure(), tmp_path / "x.bmp")
    plt.close("all")


def test_perplexity_figure_and_summary_from_tables(tmp_path):
    rows = [
        r
        for beta2 in (0.9, 0.99)
        for seed in (0, 1)
        for r in run_rows([5 + beta2 + seed], beta2=beta2, seed=seed)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    plot_perplexity.main(
        [
            "--tables",
            str(tmp_path / "t.csv"),
            "--out",
            str(tmp_path / "f.svg"),
            "--summary",
            str(tmp_path / "s.csv"),
        ]
    )
    assert list(pd.read_csv(tmp_path / "s.csv")["mean"]) == [6.4, 6.49]
    assert (tmp_path / "f.svg").read_text().startswith("<?xml")


def test_tables_name_the_file_and_the_column(tmp_path, fails):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    for name, word in (("t.csv", "corpus"), ("empty.csv", "not a CSV"), ("none.csv", "No such file")):
        complaint = fails(plot_perplexity.main, "--tables", tmp_path / name, "--out", tmp_path / "f.svg")
        assert name in complaint
        assert word in complaint
    assert not (tmp_path / "f.svg").exists()


def test_of_runs_rejects_what_is_not_json(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match=r"x\.json"):
        article_numbers.of_runs([str(tmp_path / "x.json")])
    (tmp_path / "y.json").write_text(json.dumps({}))
