"""The rules of the study of the best betas, on made-up runs of which the right answer is known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from adam_minibatch_noise import theory
from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.expansion import make_rule, rule_corr
from analysis import overfitting_verdicts, plot_overfitting
from analysis.reductions.overfitting import (
    bests,
    components,
    cubes,
    maps,
    optimizers,
    rankings,
    rules,
    verdicts,
)
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


def unfinished_at(beta):
    return lambda size, lr, beta2, seed: "unfinished" if beta2 == beta and seed == 3 else "ok"


def test_no_best_where_the_lowest_cell_is_unfinished():
    """Left out, 0.9 would hand its place to a neighbour, the same at each batch size: a best that nobody measured."""
    made = verdicts.judge(table(bowl(lambda size, lr: memory(0.9)), status=unfinished_at(0.9)))
    assert all(np.isnan([row["best"], row["low"], row["high"]]).all() for row in made["bests"])
    assert all(np.isnan(row["best_lr"]) for row in made["bests"] if row["lr"] == "tuned")
    assert all(row["n_unfinished"] == 3 for row in made["bests"] if row["lr"] == "tuned")
    assert {row["verdict"] for row in made["slopes"]} == {"open"}
    assert all(np.isnan(row["gain"]) and row["verdict"] == "open" for row in made["gains"])
    assert all(np.isnan(row["regret"]) for row in made["rules"])


def test_unfinished_cell_above_the_best_changes_nothing():
    made = [
        verdicts.judge(table(bowl(lambda size, lr: memory(0.9)), status=s))
        for s in (unfinished_at(0.9997), unfinished_at(2))
    ]
    for key in ("slopes", "gains"):
        assert [row["verdict"] for row in made[0][key]] == [row["verdict"] for row in made[1][key]]
    assert [row["best"] for row in made[0]["bests"]] == [row["best"] for row in made[1]["bests"]]


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


def brute_force(b, r):
    """FB, C1 and C2 in the limit as sums over lags, from their definitions."""
    a = np.arange(40_000)
    mu, nu = (1 - b) * b**a, (1 - r) * r**a
    squares, mixed = (nu * nu).sum(), (mu * nu).sum()
    slow, fast = r / (1 - r), b / (1 - b)
    c1 = (
        fast * (-0.5 + 1.5 * squares)
        - slow * (-1.5 + 7.5 * squares - 3 * mixed)
        - (a * nu * (mu - 3 * nu)).sum()
    )
    return fast - slow, c1, (fast - slow) * (-0.5 + 1.5 * squares - mixed)


def one_component_is_noisy(beta1, beta2, n_steps, covariance):
    """FB + C1 and FB + C2 at noise-to-signal 1: two parameters that only see each other, of which one is noisy.

    The second derivatives of Corr in the noise of the batches are differences of `rule_corr` itself.
    """
    hessians = np.broadcast_to(np.array([[0.0, 1.0], [1.0, 0.0]]), (n_steps, 2, 2))
    h, rule = 1e-3, make_rule("adam", {"beta1": beta1, "beta2": beta2})

    def corr(noise):
        gradients = np.ones((n_steps, 2))
        gradients[:, 0] += noise
        return rule_corr(rule, gradients, hessians)

    total, unit = corr(np.zeros(n_steps)), h * np.eye(n_steps)
    for p in range(n_steps):
        for q in range(n_steps):
            bend = sum(
                s * t * corr(s * unit[p] + t * unit[q]) for s in (1, -1) for t in (1, -1)
            )  # 4 h^2 times the second derivative
            total = total + 0.5 * covariance[p, q] * bend / (4 * h * h)
    return total


@pytest.mark.parametrize(("variant", "shared"), [("digits", -0.5), ("digits-replacement", 0.0)])
def test_c_total_matches_definitions(variant, shared):
    """In the limit from sums over lags; exactly, of three batches an epoch and two epochs, from Corr itself."""
    runs = table(lambda *run: 1.0, variant=variant).query("batch_size == 4 or batch_size == 1")
    runs = runs.assign(n_samples=12, epoch_of_min=2.0, trace_covariance=30.0, gradient_squared=4.0)
    cube = cubes.cubes_of(runs)[variant].curve("beta2")
    point = rankings.points_of(cube)
    v = 1 / 4 if shared == 0 else (12 / 4 - 1) / 11
    np.testing.assert_allclose(point.lam[1], v * 7.5)
    limit, exact = rankings.c_total_limit(cube, point)[1], rankings.c_total_exact(cube, point)[1]
    same_epoch = np.kron(np.eye(2), np.ones((3, 3)))
    covariance = np.where(np.eye(6), 1.0, shared * same_epoch)
    for k, (beta1, beta2) in enumerate(cube.pairs):
        forward, c1, c2 = brute_force(beta1, beta2)
        assert limit[k] == pytest.approx(forward + (c1 + c2) * v * 7.5, rel=1e-4, abs=1e-6)
        if k < 5:
            none = one_component_is_noisy(beta1, beta2, 6, 0 * covariance)[0]
            first, second = one_component_is_noisy(beta1, beta2, 6, covariance) - none
            assert exact[k] == pytest.approx(none + (first + second) * v * 7.5, rel=1e-4)


def test_each_cell_has_the_c_total_of_its_own_epoch():
    cube = cubes.cubes_of(table(lambda *run: 1.0))["digits"].curve("beta2")
    point = rankings.points_of(cube)
    epochs = 1 + np.arange(point.n_epochs.size).reshape(point.n_epochs.shape) % 5
    mixed = rankings.c_total_exact(cube, replace(point, n_epochs=epochs))
    for n in range(1, 6):
        alike = rankings.c_total_exact(cube, replace(point, n_epochs=np.full(epochs.shape, n)))
        np.testing.assert_allclose(mixed[epochs == n], alike[epochs == n], rtol=1e-12)
        assert not np.allclose(mixed[epochs != n], alike[epochs != n])


def test_rank_correlation_is_spearmans_over_the_betas_that_are_known(rng):
    """Of quantities with ties, one the same for all resamples; a beta unknown in one resample is left out of all."""
    one, other = rng.integers(0, 4, (3, 8)).astype(float), rng.integers(0, 5, (6, 3, 8)).astype(float)
    one[0, 2] = other[4, 0, 5] = other[1, 1, 0] = np.nan
    other[2, 2] = 1.0  # constant
    found = rankings.agreement(one, other)
    assert found.shape == (6, 3)
    for b, unknown in enumerate(([2, 5], [0], [])):
        for r in range(6):
            if (r, b) == (2, 2):
                assert np.isnan(found[r, b])
                continue
            x, y = (np.delete(each, unknown) for each in (one[b], other[r, b]))
            assert found[r, b] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    one[1, :6] = np.nan
    assert np.isnan(rankings.agreement(one, other)[:, 1]).all()  # two are left


def noise_table(factors, variant="digits", n_seeds=6):
    """Rows of `sim.overfitting_noise`: `factors` by column of components.COLUMNS."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"variant": variant, "batch_size": size, "seed": seed, "n_params": 10, "median_noise": 1.0,
         "largest_share": 0.5, **{name: value * rng.uniform(0.9, 1.1) for name, value in factors.items()}}
        for size in SIZES
        for seed in range(n_seeds)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("k2", "right", "said"),
    [
        (-30_000.0, "per component", "holds"),
        (-30_000.0, "one number", "opposite"),
        (-2000.0, "per component", None),  # here K1 decides: the two are not taken for each other
    ],
)
def test_noise_of_components_is_judged_by_its_order(k2, right, said):
    """Losses follow C_total at a negative K2, or at one number; the form that knows it ranks better."""
    factors = dict.fromkeys(components.COLUMNS, 1000.0) | {"proposition_2": k2, "rate_2": k2}
    own = (1000, k2) if right == "per component" else (1000, 1000)

    def loss(size, lr, beta1, beta2):
        v = theory.batch_variance_factor(N_SAMPLES, size)
        c = theory.limit_constants(beta1, beta2)
        total = c.FB + v * (c.C1 * own[0] + c.C2 * own[1])
        return 10 - 0.1 * np.sign(total) * np.log10(1 + abs(total)) + 0.01 * abs(np.log10(lr / 3e-3))

    made = verdicts.judge(table(loss, noise=1e-4), noise_table(factors))
    rows = {row["form"]: row for row in made["components"] if row["theory"] == "limit"}
    assert rows[right]["rank_correlation"] > 0.95
    assert said in (None, rows["per component"]["verdict"])
    assert rows["one number"]["difference"] == 0
    assert len(made["component_noise"]) == len(SIZES)
    assert {row["variant"] for row in made["component_noise"]} == {"digits"}


def test_five_terms_are_those_of_the_library():
    cube = cubes.cubes_of(table(lambda *run: 1.0))["digits"].curve("beta2")
    constants, v = components.constants_of(cube, exact=False)
    k = cube.pairs.index((0.9, 0.957))
    expected = theory.limit_constants(0.9, 0.957)
    assert constants[:, 2, k] == pytest.approx([getattr(expected, name) for name in expected.__annotations__])
    assert v[2] == pytest.approx(float(theory.batch_variance_factor(N_SAMPLES, SIZES[2])))
    exact = components.constants_of(cube, exact=True)[0]
    np.testing.assert_allclose(
        exact[0] + (exact[1] + exact[2]) * rankings.points_of(cube).lam,
        rankings.c_total_exact(cube, rankings.points_of(cube)),
        rtol=1e-9,
    )


def map_of(loss, **more):
    made = verdicts.judge(table(loss, variant="digits-map", curve="map", **more))
    thumb = {(row["lr"], row["batch_size"], row["quantity"]): row for row in made["thumb"]}
    return made["cells"], thumb


def near_pair(best1, best2):
    return lambda size, lr, beta1, beta2: (
        1 + 0.2 * (memory(beta1) - memory(best1)) ** 2 + 0.2 * (memory(beta2) - memory(best2)) ** 2
    )


@pytest.mark.parametrize(
    ("best", "said"), [((0.957, 0.957), "holds"), ((0.5, 0.999), "opposite")], ids=["on", "off"]
)
def test_diagonal_is_best_where_the_best_pair_lies_on_it(best, said):
    cells, thumb = map_of(near_pair(*best), noise=0.001, n_seeds=4)
    for lr in (1e-3, "tuned"):
        assert thumb[lr, 16, "best of the diagonal over the best off it"]["verdict"] == said
    marked = {row["status"]: (row["beta1"], row["beta2"]) for row in cells if row["status"] == "best"}
    assert marked == {"best": best}
    gain = thumb["tuned", 16, "best of all over the default"]
    expected = 100 * (1 - near_pair(*best)(16, 1e-3, *best) / near_pair(*best)(16, 1e-3, 0.9, 0.999))
    assert gain["value"] == pytest.approx(expected, abs=1)
    highest = thumb["tuned", 16, "highest of the diagonal over the default"]
    assert highest["value"] < gain["value"]


def test_pairs_that_differ_by_chance_are_alike():
    cells, thumb = map_of(lambda *run: 1.0, noise=0.1)
    part = [row["status"] for row in cells if row["lr"] == "tuned"]
    assert part.count("alike") > 0.6 * len(part)
    for name in (maps.GAINS[0], maps.GAINS[3]):
        rows = [row for row in thumb.values() if row["quantity"] == name]
        assert [row["verdict"] for row in rows].count("open") > 0.8 * len(rows)
        assert abs(np.mean([row["value"] for row in rows])) < 4  # the winner of a half is none on the other


def test_pair_with_an_unfinished_run_has_no_place_on_the_map():
    cells, _ = map_of(
        near_pair(0.9, 0.9),
        noise=0.001,
        status=lambda size, lr, beta2, seed: "unfinished" if beta2 == 0.9 and seed == 1 else "ok",
    )
    for row in cells:
        assert (row["status"] == "unfinished") == (row["beta2"] == 0.9) == (row["excess"] is None)


def test_order_of_the_map_is_compared_with_c_total():
    """Losses made of C_total itself."""
    point = {size: float(theory.batch_variance_factor(N_SAMPLES, size)) * 100 for size in SIZES}

    def loss(size, lr, beta1, beta2):
        total = float(theory.c_total(beta1, beta2, point[size]))
        return 10 - 0.1 * np.sign(total) * np.log10(1 + abs(total))

    _, thumb = map_of(loss, noise=1e-5, n_seeds=4)
    assert thumb["tuned", 1, "rank correlation, C_total"]["value"] > 0.9
    assert thumb["tuned", 1, "rank correlation, C_total"]["verdict"] == "holds"


def test_student_interval_matches_scipy():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(size=(5, 3))
    _, low, high = maps.student(values)
    known = ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose((low, high), (known.low, known.high))


def test_kinds_of_noise_are_compared_seed_by_seed():
    """Half of the loss at the short memory with wrong labels alone; both have the same seeds' levels."""
    parts = [
        table(lambda size, lr, beta1, beta2: 4.0, noise=0.01),
        table(
            lambda size, lr, beta1, beta2: 4.0 - 2 * (beta2 == 0.9),
            noise=0.01,
            variant="digits-wrong-30",
            n_seeds=9,
        ),
    ]
    made = verdicts.judge(pd.concat(parts))
    rows = {row["quantity"]: row for row in made["kinds"]}
    assert {row["kind"] for row in made["kinds"]} == {"30 % wrong labels"}
    gain = rows["gain, smallest batch"]
    assert gain["n_seeds"] == N_SEEDS  # those that both have
    assert gain["variant_value"] == pytest.approx(50, abs=3)
    assert gain["difference_value"] == pytest.approx(50, abs=3)
    assert (gain["reference_verdict"], gain["variant_verdict"], gain["same"]) == ("open", "holds", False)
    assert not verdicts.judge(parts[1])["kinds"]  # no reference
    few = verdicts.judge(pd.concat(part[part["seed"] < 4] for part in parts))["kinds"]
    assert {(row["variant_verdict"], row["same"]) for row in few} == {("open", None)}


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


@pytest.fixture(scope="module")
def verdicts_of_every_kind(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdicts")
    parts = [table(bowl(lambda size, lr: 2.0), curve=curve) for curve in ("beta2", "beta1")]
    parts.append(table(bowl(lambda size, lr: 2.0), curve="map", variant="digits-map"))
    pd.concat(parts).to_csv(folder / "runs.csv", index=False)
    overfitting_verdicts.main(["--tables", str(folder / "runs.csv"), "--out", str(folder / "v.json")])
    return folder / "v.json"


@pytest.mark.parametrize("figure", plot_overfitting.FIGURES)
def test_figures_are_drawn(figure, verdicts_of_every_kind, tmp_path):
    assert json.loads(verdicts_of_every_kind.read_text())["records"] == {}
    picture = tmp_path / "f.svg"
    plot_overfitting.main(
        ["--figure", figure, "--verdicts", str(verdicts_of_every_kind), "--out", str(picture)]
    )
    assert picture.read_text().rstrip().endswith("</svg>")


def test_malformed_table_is_refused(tmp_path):
    runs = tmp_path / "runs.csv"
    table(lambda *run: 1.0).drop(columns="sharpness").to_csv(runs, index=False)
    with pytest.raises(InputError, match="'sharpness' is missing"):
        overfitting_verdicts.main(["--tables", str(runs), "--out", str(tmp_path / "v.json")])
    assert not (tmp_path / "v.json").exists()


def test_grid_has_the_betas_that_rules_need():
    assert {0.9, 0.957, 0.999} <= set(BETA2)
