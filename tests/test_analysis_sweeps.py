"""Cells, error bars and paired gains are those of the runs, and what is missing stays visible."""

import numpy as np
import pytest

from adam_minibatch_noise.errors import InputError
from analysis.inputs import sweep_flags
from analysis.reductions import sweeps
from common.cli import Parser
from tests.sweep_runs import curve, run_row, write


def read(*argv):
    parser = Parser(prog="x")
    sweep_flags.add_flags(parser)
    return sweep_flags.read_cells(parser.parse_args([str(word) for word in argv]))


def test_error_bars_are_none_range_and_t_interval():
    assert sweeps.with_error(np.array([3.0])) == (3, 3, 3, sweeps.NONE)
    assert sweeps.with_error(np.array([3.0, 5.0])) == (4, 3, 5, sweeps.RANGE)
    mean, low, high, error = sweeps.with_error(np.array([1.0, 2.0, 3.0]))
    assert (mean, error) == (2, sweeps.INTERVAL)
    assert (low, high) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-5)
    assert np.isnan(sweeps.with_error(np.array([]))[0])


def test_t_interval_holds_the_mean_in_95_of_100_draws(rng):
    draws = rng.normal(7, 2, (4000, 3))
    inside = [low <= 7 <= high for _, low, high, _ in map(sweeps.with_error, draws)]
    assert abs(np.mean(inside) - 0.95) < 4 * (0.95 * 0.05 / 4000) ** 0.5


def test_cells_without_a_run_are_missing_and_those_that_all_diverged_are_not(tmp_path):
    rows = curve({0.99: [5, 7, None], 0.999: [None]})
    _, cells = read(
        "--tables",
        write(tmp_path / "t.csv", rows),
        "--lr",
        0.001,
        "--batch-size",
        8,
        16,
        "--beta2",
        0.9,
        0.99,
    )
    found = {(row.batch_size, row.beta2): row for row in cells.itertuples()}
    assert set(found) == {(8, 0.9), (8, 0.99), (8, 0.999), (16, 0.9), (16, 0.99)}
    assert found[8, 0.99].status == "measured"
    assert (found[8, 0.99].mean, found[8, 0.99].low, found[8, 0.99].high) == (6, 5, 7)
    assert (found[8, 0.99].n_seeds, found[8, 0.99].n_diverged) == (3, 1)
    assert found[8, 0.999].status == "diverged"
    assert np.isnan(found[8, 0.999].mean)
    assert {found[8, 0.9].status, found[16, 0.9].status, found[16, 0.99].status} == {"missing"}


def test_grid_without_any_run_is_all_missing():
    runs, cells = read("--tables", "--lr", 0.1, 0.2, "--batch-size", 8, "--beta2", 0.9, 0.99)
    assert len(runs) == 0
    assert cells["status"].tolist() == ["missing"] * 4
    with pytest.raises(InputError, match="no run"):
        read("--tables")


def test_run_on_both_curves_serves_both_and_counts_once(tmp_path):
    both = run_row(6.0, beta1=0.9, beta2=0.999)
    one = write(tmp_path / "1.csv", [both, run_row(5.0, beta2=0.9)])
    other = write(tmp_path / "2.csv", [both, run_row(7.0, beta1=0.5)])
    _, beta2 = read("--tables", one, other)
    _, beta1 = read("--tables", one, other, "--swept", "beta1")
    assert beta2[["beta2", "n_seeds"]].to_numpy().tolist() == [[0.9, 1], [0.999, 1]]
    assert beta1[["beta1", "n_seeds"]].to_numpy().tolist() == [[0.5, 1], [0.9, 1]]


def test_paired_gain_drops_what_seeds_share(tmp_path):
    rows = curve({0.99: [90, 180, 45, None], 0.999: [100, 200, 50, 80]})
    runs, _ = read("--tables", write(tmp_path / "t.csv", rows))
    n_paired, (mean, low, high, error) = sweeps.paired_gain(runs, "beta2", 0.99, 0.999)
    assert (n_paired, error) == (3, sweeps.INTERVAL)
    assert (mean, low, high) == pytest.approx((10, 10, 10))


def test_rejects_runs_of_two_studies_and_two_fixed_betas(tmp_path):
    path = write(tmp_path / "t.csv", [run_row(5.0), run_row(6.0, seed=1, d_model=64)])
    with pytest.raises(InputError, match=r"'d_model'.* 1 and 64"):
        read("--tables", path)
    with pytest.raises(InputError, match="--beta1 has 2 values"):
        read("--tables", path, "--beta1", 0.8, 0.9)
