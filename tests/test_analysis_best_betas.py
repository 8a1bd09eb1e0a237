"""Table 1: bests, paired gains, what cannot be told apart, missing cells, the published numbers."""

import pandas as pd
import pytest

from analysis import best_betas
from tests.sweep_runs import curve, write

PUBLISHED = "analysis/published/table1.csv"


def table(tmp_path, rows, *argv):
    out = tmp_path / "best.csv"
    best_betas.main(["--tables", str(write(tmp_path / "t.csv", rows)), "--out", str(out), *map(str, argv)])
    return pd.read_csv(out)


def test_best_and_its_gain_over_the_baseline_are_paired_over_seeds(tmp_path):
    rows = curve({0.9: [120, 60, 30], 0.99: [90, 45.5, 22.4], 0.999: [100, 50, 25]})
    (row,) = table(tmp_path, rows).to_dict("records")
    assert (row["best_beta"], row["status"], row["n_paired"], row["at_edge"]) == (
        0.99,
        "measured",
        3,
        pytest.approx(float("nan"), nan_ok=True),
    )
    gains = pd.Series([10, 9, 10.4])
    half = 4.302653 * gains.std() / 3**0.5
    assert row["gain_percent"] == pytest.approx(gains.mean())
    assert (row["gain_low"], row["gain_high"]) == pytest.approx((gains.mean() - half, gains.mean() + half))
    assert row["shortest_loss_percent"] == pytest.approx(100 * (210 / 157.9 - 1))


def test_values_that_cannot_be_told_from_the_best_span_its_range(tmp_path):
    """Seeds move all perplexities together: only pairing tells 0.9 from the best."""
    rows = curve({0.9: [41, 51, 61.2], 0.98: [40.1, 49.8, 60.2], 0.99: [40, 50, 60], 0.999: [42, 52, 63]})
    (row,) = table(tmp_path, rows).to_dict("records")
    assert (row["best_beta"], row["beta_low"], row["beta_high"]) == (0.99, 0.98, 0.99)


def test_one_seed_claims_no_range(tmp_path):
    (row,) = table(tmp_path, curve({0.9: [5], 0.999: [6]})).to_dict("records")
    assert (row["best_beta"], row["at_edge"]) == (0.9, "shortest memory")
    assert pd.isna([row["beta_low"], row["gain_low"]]).all()


def test_value_of_which_a_run_diverged_is_not_the_best(tmp_path):
    (row,) = table(tmp_path, curve({0.9: [5, None], 0.99: [6, 6], 0.999: [7, 7]})).to_dict("records")
    assert (row["best_beta"], row["n_diverged"]) == (0.99, 1)


def test_learning_rate_that_the_curve_only_crosses_is_left_out(tmp_path):
    """Of a rate with one beta there is nothing to compare, unless it is all there is or was asked for."""
    crossing = curve({0.999: [6, 6]}, lr=0.5)
    rows = [*curve({0.9: [5, 5], 0.999: [6, 6]}), *crossing]
    assert 0.5 not in set(table(tmp_path, rows)["lr"])
    assert set(table(tmp_path, crossing)["lr"]) == {0.5}
    size = crossing[0]["batch_size"]
    assert 0.5 in set(table(tmp_path, rows, "--lr", 0.5, "--batch-size", size)["lr"])


def test_missing_cells_have_their_row_beside_the_published_numbers(tmp_path):
    rows = curve({0.9: [5], 0.999: [6]}, batch_size=128, lr=10**-3.5)
    grid = ["--lr", 0.001, 10**-3.5, "--batch-size", 128, 16317, "--beta2", 0.9, 0.972, 0.999]
    found = table(tmp_path, rows, *grid, "--published", PUBLISHED)
    statuses = {(round(row.lr, 6), row.batch_size): row.status for row in found.itertuples()}
    assert statuses == {
        (0.000316, 128): "partial",
        (0.001, 128): "missing",
        (0.000316, 16317): "missing",
        (0.001, 16317): "missing",
    }
    row = found[(found["lr"] == 0.001) & (found["batch_size"] == 16317)].iloc[0]
    assert (row["published_best_beta"], row["published_gain_percent"]) == (0.848, 5.29)
    assert (found["n_betas"].sum(), found["n_wanted"].tolist()) == (2, [3, 3, 3, 3])


def test_published_table_is_that_of_the_paper():
    """Sums of the columns, added up by hand."""
    published = pd.read_csv(PUBLISHED)
    assert published.groupby("lr").size().tolist() == [8, 8, 8]
    assert published.groupby("lr")["gain_percent"].sum().round(2).tolist() == [63.63, 39.73, 37.34]
    assert published.groupby("lr")["best_beta2"].sum().round(3).tolist() == [7.186, 7.366, 7.313]


def test_rejects_what_it_cannot_use(tmp_path, fails):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    complaint = fails(best_betas.main, "--tables", tmp_path / "x.csv", "--out", tmp_path / "o.csv")
    assert "x.csv: column 'lr' is missing" in complaint
    assert "no run" in fails(best_betas.main, "--out", tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()
