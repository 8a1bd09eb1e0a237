"""The rules of the study on the runs of the small Transformer-XL, on made-up runs with a known answer."""

import json

import numpy as np
import pandas as pd
import pytest

from adam_minibatch_noise.errors import InputError
from analysis import overfitting_verdicts, plot_overfitting
from analysis.reductions.overfitting import text_model
from train import small_study

SIZES, LRS = tuple(small_study.LENGTH), text_model.LRS
LOG_BEST = {8: 3.0, 128: 2.0, 1024: 1.0, 4217: 0.64}
"""log10 of the best memory that `falling` puts in: it falls with the batch size."""


def falling(size, lr, beta1, beta2):
    return 3.8 + 0.1 * (-np.log10(1 - beta2) - LOG_BEST[size]) ** 2 + 0.05 * abs(np.log10(lr / 2e-3))


def table(loss, n_seeds=4, sizes=SIZES, lrs=LRS, dropout=0.0, ended=lambda *run: "patience", curve="beta2"):
    rng, rows = np.random.default_rng(0), []
    beta1s, beta2s = small_study.CURVES[curve]
    pairs = [(a, b) for a in beta1s for b in beta2s] or [(b, b) for b in beta2s]
    for seed in range(n_seeds):
        for size in sizes:
            for lr in lrs:
                for beta1, beta2 in pairs:
                    value = loss(size, lr, beta1, beta2) + 0.01 * seed + 1e-4 * rng.normal()
                    rows.append(
                        {"dropout": dropout, "n_windows": 4217, "batch_size": size, "lr": lr, "beta1": beta1,
                         "beta2": beta2, "seed": seed, "status": "ok", "ended_by": ended(size, lr, beta2, seed),
                         "epoch_of_min": 4.0, "min_valid_perplexity": np.exp(value),
                         "test_perplexity": np.exp(value + 0.4), "gradient_l1": value, "gradient_squared": 0.1,
                         "sharpness": -value, "trace_covariance": 40.0}
                    )  # fmt: skip
    return pd.DataFrame(rows)


def test_rules_find_what_was_put_in():
    made = text_model.judge(table(falling))
    assert {row["lr"]: row["verdict"] for row in made["slopes"]} == {
        **dict.fromkeys(LRS, "holds"),
        "tuned": "holds",
    }
    bests = {row["batch_size"]: row["best"] for row in made["bests"] if row["lr"] == "tuned"}
    assert bests == pytest.approx({8: 0.999, 128: 0.99, 1024: 0.9, 4217: 0.769}, abs=1e-9)
    over_default = {
        row["batch_size"]: row
        for row in made["gains"]
        if (row["baseline"], row["metric"]) == (0.999, "min_valid_loss")
    }
    wanted = 100 * (1 - np.exp(falling(4217, 2e-3, 0.9, 0.769) - falling(4217, 2e-3, 0.9, 0.999)))
    assert over_default[4217]["gain"] == pytest.approx(wanted, abs=0.05)
    assert over_default[4217]["verdict"] == "holds"
    assert over_default[8]["gain"] == pytest.approx(0, abs=0.05)
    links = {row["link"]: row["rank_correlation"] for row in made["links"]}
    assert links["low |g|_1 and low loss"] == pytest.approx(1)
    assert links["low sharpness and low loss"] == pytest.approx(-1)
    assert [row["noise_scale"] for row in made["noise"]] == pytest.approx([400] * 4)
    assert {row["rule"] for row in made["rules"]} >= {"C_total, exact", "longest memory"}


def test_curve_of_beta1_takes_the_default_from_the_other_curve():
    flat = table(lambda size, lr, beta1, beta2: 3.8 + 0.1 * abs(beta1 - 0.9), curve="beta1")
    default = table(lambda *run: 3.8)
    made = text_model.judge(pd.concat([flat, default]))
    bests = [row["best"] for row in made["bests"] if (row["curve"], row["lr"]) == ("beta1", "tuned")]
    assert bests == pytest.approx([0.9] * 4)


def test_diagonal_is_judged_beside_the_default():
    """0.05 above the other pairs at (.999, .999), 0.05 below them at (.95, .95)."""

    def loss(size, lr, beta1, beta2):
        return 3.8 + 0.05 * (beta1 == 0.999) - 0.05 * (beta1 == 0.95) + 0.01 * (beta2 == 0.769)

    runs = pd.concat([table(loss), table(loss, curve="diagonal")])
    made = text_model.judge(runs)
    assert made["slopes"] == text_model.judge(table(loss))["slopes"]
    found = {(row["lr"], row["batch_size"], row["quantity"]): row for row in made["thumb"]}
    for lr, size in ((0.002, 8), ("tuned", 4217)):
        best = found[lr, size, "best of the diagonal over the default"]
        assert (best["value"], best["verdict"]) == (
            pytest.approx(100 * (1 - np.exp(-0.05)), abs=0.1),
            "holds",
        )
        highest = found[lr, size, "highest of the diagonal over the default"]
        assert (highest["value"], highest["verdict"]) == (
            pytest.approx(100 * (1 - np.exp(0.05)), abs=0.1),
            "opposite",
        )
    assert {(row["beta1"], row["beta2"]) for row in made["map_cells"]} >= {(0.9, 0.769), (0.95, 0.95)}
    assert not text_model.judge(table(loss))["thumb"]


def test_learning_rate_with_one_beta_of_a_curve_does_not_count():
    """The default is best by far at a learning rate at which no other beta1 was tried."""
    some = table(lambda size, lr, beta1, beta2: 3.8 + 0.1 * abs(beta1 - 0.5), lrs=(0.002,), curve="beta1")
    made = text_model.judge(pd.concat([some, table(lambda size, lr, *betas: 3.9 - (lr == 0.001))]))
    bests = {(row["curve"], row["lr"], row["best"]) for row in made["bests"] if row["curve"] == "beta1"}
    assert bests == {("beta1", 0.002, 0.5), ("beta1", "tuned", 0.5)}


def test_best_of_all_at_the_last_learning_rate_asks_for_more():
    """Along beta1 the highest learning rate is the best one at 8 windows; along beta2 it is never at an end."""

    def loss(size, lr, beta1, beta2):
        at_top = size == 8 and beta1 != 0.9
        return 3.8 + 0.05 * abs(np.log10(lr / (6e-3 if at_top else 2e-3))) + 0.1 * abs(beta1 - 0.5)

    runs = pd.concat([table(loss), table(loss, curve="beta1"), table(loss, curve="diagonal")])
    found = {(row["curve"], row["batch_size"]): row for row in text_model.judge(runs)["tops"]}
    assert len(found) == 3 * len(SIZES)
    assert {key for key, row in found.items() if row["at_end"]} == {("beta1", 8), ("diagonal", 8)}
    top = found["beta1", 8]
    assert (top["lr"], top["beta1"], top["beta2"]) == (0.006, 0.5, 0.999)
    assert (found["diagonal", 128]["lr"], found["diagonal", 128]["beta1"]) == (0.002, 0.769)


@pytest.mark.parametrize("status", ["diverged", "unfinished"])
def test_best_of_all_is_no_cell_with_a_run_that_went_wrong(status):
    runs = table(lambda size, lr, beta1, beta2: 3.8 - (lr == 0.006) - (beta2 == 0.9))
    wrong = (runs["beta2"] == 0.9) & (runs["lr"] == 0.006) & (runs["seed"] == 3)
    runs.loc[wrong, "status" if status == "diverged" else "ended_by"] = {"unfinished": "n_epochs"}.get(
        status, status
    )
    if status == "diverged":
        runs.loc[wrong, ["min_valid_perplexity", "test_perplexity"]] = np.nan
    tops = text_model.judge(runs)["tops"]
    assert all((row["lr"], row["beta2"], row["at_end"]) != (0.006, 0.9, True) for row in tops)
    assert len(tops) == len(SIZES)


def test_too_few_seeds_and_unfinished_cells_give_no_verdict_but_are_listed():
    made = text_model.judge(table(falling, n_seeds=2))
    assert not made["slopes"]
    assert len(made["cells"]) == len(SIZES) * len(LRS) * len(small_study.BETA2)
    late = text_model.judge(
        table(falling, ended=lambda size, *run: "n_epochs" if size == 4217 else "patience")
    )
    assert {row["n_unfinished"] for row in late["cells"] if row["batch_size"] == 4217} == {4}
    assert {row["verdict"] for row in late["slopes"]} == {"open"}  # three batch sizes are left
    corners = text_model.judge(table(falling, sizes=(8, 4217)))
    assert {row["verdict"] for row in corners["slopes"]} == {"open"}
    assert [row["batch_size"] for row in corners["noise"]] == [8, 4217]


def test_dropout_is_compared_in_its_own_cell():
    def kinder(size, lr, beta1, beta2):
        return 3.7 - 0.02 * (beta2 == 0.9)

    runs = pd.concat([table(falling), table(kinder, sizes=(128,), lrs=(0.002,), dropout=0.1)])
    made = text_model.judge(runs)
    assert made["slopes"] == text_model.judge(table(falling))["slopes"]
    found = {(row["dropout"], row["metric"], row["beta2"]): row for row in made["dropout"]}
    assert len(found) == 2 * 2 * len(small_study.BETA2)
    assert found[0.1, "test_loss", 0.9]["gain"] == pytest.approx(100 * (1 - np.exp(-0.02)), abs=0.02)
    assert found[0.1, "test_loss", 0.9]["verdict"] == "holds"
    wanted = 100 * (1 - np.exp(falling(128, 2e-3, 0.9, 0.769) - falling(128, 2e-3, 0.9, 0.999)))
    assert found[0.0, "min_valid_loss", 0.769]["gain"] == pytest.approx(wanted, abs=0.05)
    assert found[0.0, "min_valid_loss", 0.999]["gain"] == 0


def test_program_adds_a_part_and_refuses_a_table_without_the_measurements(tmp_path):
    study, text, out = tmp_path / "s.csv", tmp_path / "t.csv", tmp_path / "v.json"
    columns = [*overfitting_verdicts.COLUMNS]
    row = dict.fromkeys(columns, 1.0) | {"variant": "digits", "task": "digits", "status": "ok"}
    pd.DataFrame([row]).to_csv(study, index=False)
    table(falling, n_seeds=2).to_csv(text, index=False)
    flags = ["--tables", str(study), "--out", str(out)]
    overfitting_verdicts.main([*flags, "--text", str(text)])
    assert len(json.loads(out.read_text())["text"]["cells"]) == 60
    out.unlink()
    table(falling, n_seeds=2).drop(columns="sharpness").to_csv(text, index=False)
    with pytest.raises(InputError, match="'sharpness' is missing"):
        overfitting_verdicts.main([*flags, "--text", str(text)])
    assert not out.exists()


@pytest.mark.parametrize("sizes", [SIZES, (8, 128)])
def test_figure_has_a_panel_a_batch_size_and_rings_its_best(sizes):
    """Pairs off the curve of beta2, and those of one beta at a learning rate, are not drawn."""
    runs = pd.concat([table(falling, sizes=sizes), table(falling, sizes=sizes, curve="diagonal")])
    cells = pd.DataFrame(text_model.judge(runs)["cells"])
    figure = plot_overfitting.draw_text({"cells": cells})
    titles = [f"batch size {size}" + " (all)" * (size == 4217) for size in sorted(sizes)]
    assert [axis.get_title() for axis in figure.axes] == titles
    for axis, size in zip(figure.axes, sorted(sizes), strict=True):
        curves = {line.get_label(): line for line in axis.lines if line.get_label() in map(str, LRS)}
        assert {len(line.get_xdata()) for line in curves.values()} == {len(small_study.BETA2)}
        (ring,) = (line for line in axis.lines if line.get_markersize() == 11)
        assert 1 - 1 / ring.get_xdata()[0] == pytest.approx(1 - 10 ** -LOG_BEST[size], abs=2e-3)
        assert min(curves["0.002"].get_ydata()) == 0


def test_study_and_rules_name_the_same_learning_rates_and_baselines():
    assert set(text_model.LRS) == set(small_study.LRS)
    assert not set(small_study.FURTHER_LRS.values()) & set(small_study.LRS)
    assert set(text_model.BASELINES) <= set(small_study.BETA2)
    assert len({panel.settings.seed for panel in small_study.panels()}) * 2 == text_model.FEWEST_SEEDS
