"""The study on images is reduced as its rules say: learning rate by validation, verdicts by ranges over seeds."""

import json

import numpy as np
import pandas as pd
import pytest

from adam_minibatch_noise.errors import InputError
from analysis import plot_image_sweep
from analysis.reductions import image_sweep

BASE = {
    "dataset": "digits", "model": "small-cnn", "norm": "layer", "optimizer": "adamw", "scaling": "none",
    "batch_size": 16, "lr": 0.01, "weight_decay": 0.0, "n_steps": 0, "seed": 0, "status": "ok",
}  # fmt: skip


def course(valid_error, test_error, n_epochs=2, **settings):
    """Rows of one training: errors fall to those given at the last epoch; `train_loss` may be a list."""
    base = BASE | settings
    losses = base.pop("train_loss", [0.1] * n_epochs)
    train_error = base.pop("train_error", 0.0)
    return [
        base
        | {"epoch": float(i), "step": 10 * i, "n_images": 100 * i, "train_loss": losses[i - 1]}
        | {"train_error": train_error, "valid_loss": 0.5, "valid_error": valid_error + 0.1 * (n_epochs - i)}
        | {"test_error": test_error + 0.1 * (n_epochs - i)}
        for i in range(1, n_epochs + 1)
    ]


def reduced(rows):
    return image_sweep.choose_by_validation(pd.DataFrame(rows))


def test_learning_rate_is_chosen_by_validation_even_where_test_disagrees():
    rows = course(0.2, 0.5, lr=0.01) + course(0.3, 0.1, lr=0.1)
    (row,) = reduced(rows)
    assert (row["lr"], row["mean"], row["n_lr"]) == (0.01, 0.5, 2)


def test_learning_rate_is_chosen_by_the_mean_over_seeds_and_ties_by_loss():
    rows = course(0.1, 0.1, lr=0.01) + course(0.4, 0.2, lr=0.01, seed=1)  # mean 0.25
    rows += course(0.2, 0.3, lr=0.1) + course(0.2, 0.6, lr=0.1, seed=1)  # mean 0.2
    (row,) = reduced(rows)
    assert (row["lr"], row["n_seeds"], row["low"], row["high"]) == (0.1, 2, 0.3, 0.6)
    assert row["mean"] == pytest.approx(0.45)
    rows = course(0.2, 0.3, lr=0.01) + [r | {"valid_loss": 0.4} for r in course(0.2, 0.7, lr=0.1)]
    assert reduced(rows)[0]["lr"] == 0.1


def test_the_last_evaluation_counts_and_a_diverged_seed_is_an_error_of_one():
    rows = course(0.2, 0.3, n_epochs=3)
    wild = course(0.0, 0.0, seed=1)
    wild[-1] |= {"status": "diverged", "valid_error": np.nan, "valid_loss": np.nan, "test_error": np.nan}
    (row,) = reduced(rows[::-1] + wild)  # whatever the order of the rows
    assert (row["low"], row["high"], row["n_diverged"]) == (0.3, 1.0, 1)
    (row,) = reduced(rows + wild + course(0.5, 0.4, lr=1.0) + course(0.5, 0.4, lr=1.0, seed=1))
    assert row["lr"] == 1.0  # mean validation error 0.5 against 0.6


def test_each_optimizer_weight_decay_and_batch_size_is_a_setting_of_its_own():
    rows = [
        row
        for optimizer in ("adam", "adamw")
        for weight_decay in (0.0, 0.1)
        for batch_size in (16, 64)
        for row in course(0.1, 0.1, optimizer=optimizer, weight_decay=weight_decay, batch_size=batch_size)
    ]
    assert len(reduced(rows)) == 8


def test_spread_is_largest_less_smallest_over_batch_sizes_averaged_over_the_course():
    rows = []
    for seed, factor in ((0, np.e), (1, np.e**2)):
        for batch_size, loss, error in ((32, 1.0, 0.1), (64, 1.5, 0.2), (128, factor, 0.4)):
            losses = [loss, 1.0]  # apart after the first epoch, together after the second
            extra = {"batch_size": batch_size, "seed": seed, "scaling": "invariant", "train_loss": losses}
            rows += course(0.1, error, **extra)
    (row,) = image_sweep.spreads(pd.DataFrame(rows))
    assert row["loss"] == pytest.approx((0.5 + 1.0) / 2)
    assert (row["loss_low"], row["loss_high"]) == pytest.approx((0.5, 1.0))
    assert row["error"] == pytest.approx(0.3)
    assert row["n_seeds"] == 2


def test_spread_is_missing_where_a_run_diverged_and_refused_where_epochs_differ():
    rows = course(0.1, 0.1, batch_size=32) + course(0.1, 0.1, batch_size=64)
    rows[-1]["status"] = "diverged"
    (row,) = image_sweep.spreads(pd.DataFrame(rows))
    assert np.isnan(row["loss"])
    assert row["n_diverged"] == 1
    rows = course(0.1, 0.1, batch_size=32) + course(0.1, 0.1, batch_size=64, n_epochs=3)
    with pytest.raises(InputError, match="allowed: the same epochs"):
        image_sweep.spreads(pd.DataFrame(rows))


def test_a_run_made_again_counts_once_as_in_the_first_table(tmp_path):
    recorded = course(0.1, 0.1, batch_size=32) + course(0.1, 0.4, batch_size=64)
    rows = {"here": course(0.1, 0.2, batch_size=64), "recorded": recorded}
    paths = [str(tmp_path / f"{name}.csv") for name in rows]
    for path, of in zip(paths, rows.values(), strict=True):
        pd.DataFrame(of).to_csv(path, index=False)
    (group,) = image_sweep.reduce(dict.fromkeys(image_sweep.STUDIES, paths))
    assert [(row["n_seeds"], row["mean"]) for row in group["drawn"]["batch"]] == [(1, 0.1), (1, 0.2)]
    assert group["drawn"]["invariance"][0]["error"] == pytest.approx(0.1)  # not refused, nor counted twice


def nothing():
    return {study: [] for study in image_sweep.STUDIES}


@pytest.mark.parametrize(
    ("large", "verdict"),
    [
        ([0.21, 0.3], "higher"),
        ([0.2, 0.3], "not separated"),
        ([0.01, 0.05], "lower"),
        ([0.05, 0.1], "not separated"),
    ],
)
def test_batch_sizes_differ_where_ranges_do_not_overlap(large, verdict):
    rows = []
    for batch_size, errors in ((16, [0.1, 0.2]), (64, [0.9, 0.9]), (256, large)):
        rows += [r for seed in (0, 1) for r in course(0.1, errors[seed], batch_size=batch_size, seed=seed)]
    found = image_sweep.verdicts(nothing() | {"batch": reduced(rows)})["batch"]["adamw"]
    assert (found["smallest"]["batch_size"], found["largest"]["batch_size"]) == (16, 256)
    assert found["verdict"] == verdict


def test_decay_verdict_names_what_trains_what_fails_and_where_adam_is_worse():
    rows = []
    for weight_decay, adam, adamw in ((0.1, 0.1, 0.1), (0.5, 0.2, 0.1), (0.01, 0.1, 0.05)):
        rows += course(0.1, adam, optimizer="adam", weight_decay=weight_decay, train_error=adam - 0.05)
        rows += course(0.1, adamw, weight_decay=weight_decay)
    found = image_sweep.verdicts(nothing() | {"decay": reduced(rows)})["decay"]
    assert (found["adam"]["largest_that_trains"], found["adam"]["smallest_that_fails"]) == (0.1, 0.5)
    assert (found["adamw"]["largest_that_trains"], found["adamw"]["smallest_that_fails"]) == (0.5, None)
    assert found["adamw"]["best"]["weight_decay"] == 0.01
    assert found["adam_is_higher_at"] == [0.01, 0.5]


def test_invariance_is_broken_from_the_first_learning_rate_with_a_wide_spread():
    def rows(losses):
        return [
            {
                **dict.fromkeys(image_sweep.GROUP, "x"),
                "scaling": "invariant",
                "lr": lr,
                "loss": loss,
                "n_diverged": 0,
            }
            for lr, loss in zip((1e-2, 1e-4, 1e-3), losses, strict=True)
        ]

    def broken_from(losses):
        return image_sweep.verdicts(nothing() | {"invariance": rows(losses)})["invariance"]["invariant"][
            "broken_from"
        ]

    assert broken_from([0.5, 0.01, 0.2]) == 1e-3
    assert broken_from([0.05, 0.01, 0.02]) is None
    assert broken_from([0.05, 0.3, 0.02]) == 1e-4
    assert broken_from([np.nan, 0.01, 0.02]) == 1e-2


@pytest.fixture
def written(tmp_path):
    """Tables of all four studies of two groups; returns flags."""
    errors, spread = [], []
    for model, norm in (("resnet18", "batch"), ("vgg16", "batch")):
        for optimizer in ("adam", "adamw"):
            for batch_size, weight_decay in ((16, 0.1), (64, 0.1), (16, 0.5)):
                names = {"dataset": "cifar10-jpeg", "model": model, "norm": norm, "optimizer": optimizer}
                errors += course(
                    0.1, 0.02 * batch_size**0.5, batch_size=batch_size, weight_decay=weight_decay, **names
                )
    for scaling in ("invariant", "square-root"):
        for lr in (1e-3, 1e-2):
            for batch_size in (32, 64):
                names = {"dataset": "cifar10-jpeg", "model": "resnet18", "norm": "batch", "scaling": scaling}
                losses = [1.0, 1.0 + lr * batch_size]
                spread += course(
                    0.1, 0.1 + lr * batch_size, lr=lr, batch_size=batch_size, train_loss=losses, **names
                )
    pd.DataFrame(errors).query("weight_decay == 0.1").to_csv(tmp_path / "batch.csv", index=False)
    pd.DataFrame(errors).query("batch_size == 16").to_csv(tmp_path / "decay.csv", index=False)
    pd.DataFrame(spread).to_csv(tmp_path / "invariance.csv", index=False)
    return [f"--{name}={tmp_path / name}.csv" for name in ("batch", "decay", "invariance")]


def test_figure_names_the_data_set_and_draws_the_same_bytes_twice(written, tmp_path):
    for name in ("one", "two"):
        files = ["--out", str(tmp_path / f"{name}.svg"), "--numbers", str(tmp_path / f"{name}.json")]
        plot_image_sweep.main([*written, *files])
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    for model in ("ResNet18", "VGG16"):
        assert f"CIFAR-10 (JPEG copy), {model}, batch norm" in text
    numbers = json.loads((tmp_path / "one.json").read_text())
    assert [group["model"] for group in numbers["groups"]] == ["resnet18", "vgg16"]
    assert numbers["groups"][0]["verdicts"]["batch"]["adam"]["verdict"] == "higher"
    assert numbers["groups"][1]["drawn"]["invariance"] == []


def test_rejects_no_table_an_unknown_data_set_and_a_missing_column(fails, tmp_path):
    out = tmp_path / "f.svg"
    assert "no table was given, allowed: at least one of --batch" in fails(
        plot_image_sweep.main, "--out", out
    )
    pd.DataFrame(course(0.1, 0.1, dataset="mnist")).to_csv(tmp_path / "t.csv", index=False)
    assert "holds 'mnist', allowed: digits, cifar10" in fails(
        plot_image_sweep.main, "--batch", tmp_path / "t.csv", "--out", out
    )
    pd.DataFrame(course(0.1, 0.1)).drop(columns="norm").to_csv(tmp_path / "t.csv", index=False)
    assert "column 'norm' is missing" in fails(
        plot_image_sweep.main, "--decay", tmp_path / "t.csv", "--out", out
    )
    assert not out.exists()


def test_titles_are_those_of_the_training_side():
    from common import names
    from train.images import networks, settings

    assert set(names.NETWORKS) == set(networks.WIDTHS)
    assert set(settings.OPTIMIZERS) <= set(names.OPTIMIZERS)
    assert set(settings.SCALINGS) - {"none"} <= set(names.SCALINGS)
    assert set(plot_image_sweep.OPTIMIZERS) == set(settings.OPTIMIZERS)
