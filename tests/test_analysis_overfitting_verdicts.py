"""The rules of the study of the best betas, on made-up runs of which the right answer is known."""

import json

import numpy as np
import pandas as pd
import pytest

from adam_minibatch_noise.errors import InputError
from analysis import overfitting_verdicts, plot_overfitting
from analysis.reductions.overfitting import bests, cubes, optimizers, rankings, rules, verdicts
from sim.small_networks.study import BETA2, CURVES, OPTIMIZERS

SIZES, LRS, N_SEEDS = (1, 4, 16, 64, 256), (1e-3, 3e-3, 1e-2), 8
N_SAMPLES = 1024


def memory(beta):
    return -np.log10(1 - beta)


def table(
    loss,
    variant="digits",
    n_seeds=N_SEEDS,
    task="digits",
    status=lambda *run: "ok",
    noise=0.01,
    curve="beta2",
):
    """Runs whose validation loss is loss(batch size, lr, beta1, beta2), with the level and noise of a seed."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(n_seeds):
        level = rng.normal(0, 0.1)
        for size in SIZES:
            for lr in LRS:
                for beta1, beta2 in CURVES[curve]:
                    value = loss(size, lr, beta1, beta2) + level + noise * rng.normal()
                    rows.append(
                        {"variant": variant, "task": task, "n_samples": N_SAMPLES, "optimizer": "adam",
                         "batch_size": size, "lr": lr, "beta1": beta1, "beta2": beta2, "seed": seed,
                         "status": status(size, lr, beta2, seed), "epoch_of_min": 10.0,
                         "min_valid_loss": value, "test_loss": value + 0.5, "gradient_l1": value,
                         "gradient_squared": 1.0, "sharpness": -value, "trace_covariance": 100.0}
                    )  # fmt: skip
    return pd.DataFrame(rows)


def bowl(target):
    """Loss 1 at the target memory of a batch size and lr = 0.003, more elsewhere."""
    return lambda size, lr, beta1, beta2: (
        1 + 0.2 * (memory(beta2) - target(size, lr)) ** 2 + 0.1 * abs(np.log10(lr / 3e-3))
    )


def slope(made, lr):
    return next(row for row in made["slopes"] if row["lr"] == lr)


@pytest.mark.parametrize(
    ("per_decade", "said"),
    [(-1.0, "holds"), (1.0, "opposite"), (0.0, "open")],
    ids=["falls", "rises", "flat"],
)
def test_slope_of_the_best_beta2_is_found(per_decade, said):
    made = verdicts.judge(table(bowl(lambda size, lr: 2 + per_decade * (np.log10(size) - 1.2))))
    for lr in (1e-3, 3e-3, 1e-2, "tuned"):
        row = slope(made, lr)
        assert row["verdict"] == said
        assert row["low"] <= row["slope"] <= row["high"]
        assert row["slope"] == pytest.approx(per_decade, abs=0.2)


def test_published_pattern_that_is_only_the_learning_rate_is_told_apart():
    """At 0.01 alone, where losses are higher, the best beta2 falls with the batch size; tuned, it stays where it is."""

    def loss(size, lr, beta1, beta2):
        falling, resting = 2 - (np.log10(size) - 1.2), 2.0
        return 1 + (lr == 1e-2) * 0.5 + 0.2 * (memory(beta2) - (falling if lr == 1e-2 else resting)) ** 2

    made = verdicts.judge(table(loss))
    assert slope(made, 1e-2)["verdict"] == "holds"
    assert slope(made, "tuned")["verdict"] == "open"
    assert slope(made, "tuned")["slope"] == pytest.approx(0, abs=0.1)


def test_gain_is_of_seeds_that_did_not_choose():
    """Among betas that are all alike, the winner of one half gains nothing on the other, though it does on its own."""
    runs = table(lambda *run: 1.0, noise=0.2, n_seeds=20)
    made = verdicts.judge(runs)
    gains = [
        row["gain"] for row in made["gains"] if row["metric"] == "min_valid_loss" and row["baseline"] == 0.999
    ]
    assert abs(np.mean(gains)) < 4
    cube = cubes.cubes_of(runs)["digits"]
    mean = cube.values["min_valid_loss"].mean(axis=0)
    own = 1 - mean.min(axis=(1, 2)) / mean[:, :, cube.pairs.index((0.9, 0.999))].min(axis=1)
    assert np.mean(100 * own) > 4


def test_gain_of_a_known_difference():
    loss = {0.9: 1.0, 0.999: 2.0}
    made = verdicts.judge(table(lambda size, lr, beta1, beta2: loss.get(beta2, 3.0), noise=1e-6))
    rows = [row for row in made["gains"] if row["metric"] == "min_valid_loss" and row["baseline"] == 0.999]
    assert {row["verdict"] for row in rows} == {"holds"}
    assert np.mean([row["gain"] for row in rows]) == pytest.approx(50, abs=3)


def test_perplexity_is_what_text_gains():
    made = verdicts.judge(
        table(
            lambda size, lr, beta1, beta2: 3.0 - (beta2 == 0.9) * np.log(2),
            task="words",
            variant="words",
            noise=0,
        )
    )
    rows = [row for row in made["gains"] if row["baseline"] == 0.999]
    assert [row["gain"] for row in rows] == pytest.approx([50.0] * len(rows))


def test_unfinished_cell_is_no_best():
    best_at = bowl(lambda size, lr: memory(0.9))
    runs = table(
        best_at, status=lambda size, lr, beta2, seed: "unfinished" if beta2 == 0.9 and seed == 3 else "ok"
    )
    made = verdicts.judge(runs)
    assert all(round(row["best"], 3) in (0.769, 0.957) for row in made["bests"] if row["lr"] == "tuned")
    assert all(row["n_unfinished"] == 3 for row in made["bests"] if row["lr"] == "tuned")


def test_diverged_runs_are_worse_than_any_other():
    """One seed of eight diverged at the best learning rate of the best beta: another learning rate is chosen there."""

    def best_at(size, lr, beta1, beta2):
        return 1 + (memory(beta2) - 1) ** 2 + 0.03 * abs(np.log10(lr / 3e-3))

    made = verdicts.judge(
        table(best_at, status=lambda size, lr, beta2, seed: "diverged" if lr == 3e-3 and seed < 2 else "ok")
    )
    rows = [row for row in made["bests"] if row["lr"] == "tuned"]
    assert all(row["best"] == pytest.approx(0.9) and row["best_lr"] != 3e-3 for row in rows)


def test_rule_that_names_the_measured_best_has_no_regret():
    """Losses made by `constant in samples` itself: it ranks all betas and costs nothing; the default is worse."""
    made = verdicts.judge(table(bowl(lambda size, lr: -np.log10(1 - 0.999 ** (size / 32))), noise=1e-4))
    of = {row["rule"]: row for row in made["rules"]}
    assert of["constant in samples"]["regret"] < 0.1
    assert of["constant in samples"]["rank_correlation"] > 0.95
    assert of["beta1 = beta2"]["regret"] > 10
    worse = {(row["worse"], row["better"]) for row in made["worse"]}
    assert ("beta1 = beta2", "constant in samples") in worse
    assert not any(first == "constant in samples" for first, _ in worse)


def test_c_total_in_the_limit_is_that_of_many_epochs():
    cube = cubes.cubes_of(table(lambda *run: 1.0))["digits"].curve("beta2")
    point = rankings.points_of(cube)
    long = rankings.Point(point.noise_scale, point.lam, np.full_like(point.lam, 1e6))
    limit, exact = rankings.c_total_limit(cube, long), rankings.c_total_exact(cube, long)
    short = (
        np.array(CURVES["beta2"])[:, 1] <= 0.9
    )  # their memory is far shorter than an epoch of 1024 batches
    np.testing.assert_allclose(exact[0, short], limit[0, short], rtol=0.05)
    assert np.abs(exact[2, short] / limit[2, short] - 1).max() > 0.05  # an epoch of 64 batches shows
    assert point.noise_scale == pytest.approx(np.full_like(point.lam, 100.0))


def test_mechanism_reads_the_chain_with_its_signs():
    """Made so that flat points have high losses."""
    made = verdicts.judge(table(bowl(lambda size, lr: 2.0)))
    of = {row["link"]: row for row in made["links"]}
    assert of["low sharpness and low loss"]["verdict"] == "opposite"
    assert of["low |g|_1 and low loss"]["verdict"] == "holds"


def test_own_rule_is_found_on_some_variants_and_tried_on_the_others():
    law = bowl(lambda size, lr: -np.log10(0.3 * size / N_SAMPLES))
    parts = [table(law, variant=name) for name in (*rules.R7_FROM, "characters", "cnn", "digits-wrong-10")]
    made = verdicts.judge(pd.concat(parts))
    assert made["own"][0]["formula"] in ("epochs", "samples")
    assert {row["variant"] for row in made["own_test"]} == {"characters", "cnn", "digits-wrong-10"}
    assert {row["verdict"] for row in made["own_test"]} == {"holds"}


def table_of_optimizers(loss):
    """Runs of every optimiser whose validation loss is loss(batch size, optimizer), least at lr = 0.003."""
    parts = []
    for name, case in OPTIMIZERS.items():
        runs = table(
            lambda size, lr, *_, name=name: loss(size, name) + 0.1 * abs(np.log10(lr / 3e-3)), noise=1e-4
        )
        parts.append(runs[runs["beta2"] == 0.5].assign(optimizer=case["optimizer"], beta2=case["beta2"]))
    return pd.concat(parts).assign(variant="optimizers-digits")


@pytest.mark.parametrize(("sign", "said"), [(1, "holds"), (-1, "opposite"), (0, "open")])
def test_optimizer_that_cares_less_about_the_batch_is_found(sign, said):
    """Losses whose change from the smallest to the largest batch ranks as that of C_total, or against it, or not."""
    flat = cubes.cubes_of(table_of_optimizers(lambda size, name: 10.0))["optimizers-digits"]
    theory = optimizers.c_total(flat)
    places = np.ptp(theory, axis=0).argsort().argsort()
    assert len(set(np.ptp(theory, axis=0))) == len(OPTIMIZERS)

    def loss(size, name):
        return 10.0 + (size == 1) * (3.0 + sign * 0.5 * places[flat.pairs.index(name)])

    made = verdicts.judge(table_of_optimizers(loss))
    found = {row["question"]: row for row in made["optimizer_rules"]}
    assert found[optimizers.CHANGES]["verdict"] == said
    place = places[flat.pairs.index("adam")]
    assert found["adam"]["value"] == pytest.approx(30 + 5 * sign * place, rel=0.03)
    less = found["adam-short less than adam"]
    assert less["verdict"] == ("open" if sign == 0 else said)
    at = {(row["optimizer"], row["batch_size"]): row for row in made["optimizers"]}
    assert at["adam", 4]["best_lr"] == 3e-3
    assert at["adam", 4]["at_edge"] == 0
    assert at["adam", 4]["lam"] == pytest.approx(100 * (N_SAMPLES / 4 - 1) / (N_SAMPLES - 1))


def test_optimizer_with_the_higher_c_total_and_the_lower_loss_is_found():
    flat = cubes.cubes_of(table_of_optimizers(lambda size, name: 10.0))["optimizers-digits"]
    places = optimizers.c_total(flat).argsort(axis=1).argsort(axis=1)

    def loss(size, name):
        return 10.0 - 0.5 * places[SIZES.index(size), flat.pairs.index(name)]

    found = {row["question"]: row for row in verdicts.judge(table_of_optimizers(loss))["optimizer_rules"]}
    assert found[optimizers.ORDER]["verdict"] == "holds"
    assert found[optimizers.ORDER]["value"] == pytest.approx(
        1, abs=0.02
    )  # two have the same C_total at batch 4


def test_slope_needs_four_batch_sizes():
    assert np.isnan(bests.slope(np.array([1, 4, 16]), np.array([1.0, 2.0, 3.0])))
    assert bests.slope(np.array([1, 10, 100, 1000]), np.array([3.0, 2.0, np.nan, 0.0])) != 0


@pytest.mark.parametrize(
    ("low", "high", "claimed", "said"),
    [(0.1, 0.2, 1, "holds"), (0.1, 0.2, -1, "opposite"), (-0.1, 0.2, 1, "open"), (np.nan, np.nan, 1, "open")],
)
def test_verdict_of_an_interval(low, high, claimed, said):
    assert rules.verdict(low, high, claimed) == said


@pytest.mark.parametrize("figure", plot_overfitting.FIGURES)
def test_figures_are_drawn(figure, tmp_path):
    runs = tmp_path / "runs.csv"
    parts = [table(bowl(lambda size, lr: 2.0), curve=curve) for curve in ("beta2", "beta1")]
    pd.concat(parts).to_csv(runs, index=False)
    found, picture = tmp_path / "v.json", tmp_path / "f.svg"
    overfitting_verdicts.main(["--tables", str(runs), "--out", str(found)])
    assert json.loads(found.read_text())["records"] == {}
    plot_overfitting.main(["--figure", figure, "--verdicts", str(found), "--out", str(picture)])
    assert picture.read_text().rstrip().endswith("</svg>")


def test_malformed_table_is_refused(tmp_path):
    runs = tmp_path / "runs.csv"
    table(lambda *run: 1.0).drop(columns="sharpness").to_csv(runs, index=False)
    with pytest.raises(InputError, match="'sharpness' is missing"):
        overfitting_verdicts.main(["--tables", str(runs), "--out", str(tmp_path / "v.json")])
    assert not (tmp_path / "v.json").exists()


def test_grid_has_the_betas_that_rules_need():
    assert {0.9, 0.957, 0.999} <= set(BETA2)
