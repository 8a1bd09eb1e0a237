"""B_simple, lambda, rho and C_total of a problem, and what programs say outside the range of the expansion."""

import csv
import io
import itertools
import json

import numpy as np
import pytest

from adam_minibatch_noise.expansion import bounds
from adam_minibatch_noise.expansion.constants import exact_c_total
from adam_minibatch_noise.expansion.registry import make_rule
from adam_minibatch_noise.theory import c_total
from sim import exact, expectation, terms, turning
from sim.losses.noise_summary import gradient_noise_scale, largest_noise, summarize_noise
from sim.losses.problems import Quadratics, make_least_squares, make_quadratics

LOUD = ["--n-samples", "8", "--n-params", "2", "--batch-size", "2", "--noise", "0.5"]
QUIET = [*LOUD[:-1], "0.02"]


def test_summary_matches_naive_sums_over_all_batches():
    problem = make_quadratics(7, 3, 0.3, 0)
    g = problem.gradients.mean(axis=0)
    noise = problem.gradients - g
    trace = sum(float(d @ d) for d in noise) / 7
    batches = [noise[list(c)].mean(axis=0) for c in itertools.combinations(range(7), 3)]
    summary = summarize_noise(problem, 3, make_rule("adam", {"beta2": 0.95}), 4)
    assert summary.noise_scale == pytest.approx(trace / (g @ g), rel=1e-13)
    assert summary.lam == pytest.approx(np.mean([d @ d for d in batches]) / (g @ g), rel=1e-12)
    assert summary.rho == pytest.approx(np.abs(np.array(batches) / g).max(), rel=1e-12)
    assert summary.c_total_limit == pytest.approx(float(c_total(0.9, 0.95, summary.lam)), rel=1e-12)
    assert summary.c_total_exact == pytest.approx(exact_c_total(0.9, 0.95, summary.lam, 2, 4), rel=1e-14)
    assert summary.lam <= summary.rho**2


@pytest.mark.parametrize("noise", [1e-3, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_rho_is_at_least_the_root_of_lambda(noise, seed):
    """What `sim.turning` says of problems that it does not know."""
    summary = summarize_noise(make_least_squares(12, 4, noise, seed), 3, make_rule("adam"))
    assert summary.rho**2 >= summary.lam
    assert summary.inside_range == (summary.rho < bounds.RADIUS)


def test_summary_of_extreme_problems_is_a_number_or_none():
    huge, tiny = (make_quadratics(6, 2, 0.1, 0) for _ in range(2))
    assert gradient_noise_scale(huge.gradients * 1e300) == pytest.approx(gradient_noise_scale(tiny.gradients))
    assert gradient_noise_scale(huge.gradients * 1e-300) == pytest.approx(
        gradient_noise_scale(tiny.gradients)
    )
    still = Quadratics(np.array([[1.0, 1.0], [-1.0, 1.0]]), np.zeros((2, 2, 2)))
    assert largest_noise(still.gradients, 1) == np.inf
    summary = summarize_noise(still, 1, make_rule("adam"))
    assert (summary.rho, summary.inside_range) == (None, False)
    assert "by any multiple of it (rho)" in summary.lines()[1]
    none = summarize_noise(Quadratics(np.zeros((2, 1)), np.zeros((2, 1, 1))), 1, make_rule("adam"))
    assert set(none.entries().values()) == {None, False, float(bounds.RADIUS)}


def output(capsys, main, *argv, form="table", status=0):
    assert (main([*argv, "--format", form]) or 0) == status
    captured = capsys.readouterr()
    return (json.loads(captured.out) if form == "json" else captured.out), captured.err


@pytest.mark.parametrize("main", [expectation.main, exact.main])
def test_both_print_the_noise_of_the_problem_at_hand(capsys, main):
    summary = summarize_noise(make_least_squares(8, 2, 0.02, 0), 2, make_rule("adam")).entries()
    value, err = output(capsys, main, *QUIET, form="json")
    assert {name: value[name] for name in summary} == summary
    assert value["inside_range"] is True
    table, _ = output(capsys, main, *QUIET)
    assert (
        f"B_simple {summary['noise_scale']:.4g}, lambda {summary['lam']:.4g}, rho {summary['rho']:.4g}"
        in table
    )
    assert f"C_total (limit) {summary['c_total_limit']:.4g}" in table
    assert f"C_total (exact) {summary['c_total_exact']:.4g}" in table
    assert "no bound" not in table + err


def test_sgd_has_a_noise_scale_and_no_range(capsys):
    value, err = output(capsys, exact.main, *LOUD, "--optimizer", "sgd-momentum", form="json")
    assert value["noise_scale"] > 0
    assert [value[name] for name in ("rho", "inside_range", "c_total_limit", "c_total_exact")] == [None] * 4
    assert err == ""


@pytest.mark.parametrize("main", [expectation.main, exact.main])
def test_noise_outside_the_range_is_said_on_the_table_in_json_and_on_standard_error(capsys, main):
    words = LOUD if main is exact.main else [*LOUD, "--method", "enumerate"]
    value, err = output(capsys, main, *words, form="json")
    assert value["inside_range"] is False
    assert value["rho"] > value["rho_max"] == pytest.approx(2**0.5 - 1)
    assert err.startswith("no bound: a batch can deviate from the gradient by")
    table, again = output(capsys, main, *words)
    assert again == err
    assert err in table
    assert "excess 0" not in table


def test_expectation_without_a_bound_records_and_prints_no_excess(capsys):
    words = [*LOUD, "--method", "enumerate"]
    value, _ = output(capsys, expectation.main, *words, form="json")
    assert value["excess"] == value["bound"] == [None, None]
    assert value["verdict"] == "no bound"
    table, _ = output(capsys, expectation.main, *words)
    assert "largest excess" not in table
    rows = list(csv.DictReader(io.StringIO(output(capsys, expectation.main, *words, form="csv")[0])))
    assert [row["excess"] for row in rows] == ["", ""]
    quiet = list(csv.DictReader(io.StringIO(output(capsys, expectation.main, *QUIET, form="csv")[0])))
    assert all(float(row["excess"]) < 1 for row in quiet)


def test_terms_without_a_bound_records_no_excess_and_names_the_amplitudes(capsys):
    words = [
        "--n-samples",
        "6",
        "--batch-size",
        "2",
        "--n-params",
        "2",
        "--method",
        "enumerate",
        "--eps-root",
        "0.1",
    ]
    words += ["--rho", "0.01", "0.8"]
    value, err = output(capsys, terms.main, *words, form="json")
    assert value["rho_outside_range"] == [0.8]
    for row in value["rows"]:  # FB has no noise and is judged at any amplitude
        assert (row["excess"] is None) == (row["rho"] == 0.8 and row["term"] != "FB")
    assert err.startswith("no bound where rho is 0.414 or more")
    table, _ = output(capsys, terms.main, *words)
    assert "no bound: a batch can deviate from the gradient by 0.8 of it (rho)" in table
    assert "largest excess" in table
    assert output(capsys, terms.main, *words[:-1], form="json")[0]["rho_outside_range"] == []


@pytest.mark.parametrize("more", [["--study", "moments"], ["--optimizer", "sgd-momentum"]])
def test_what_has_no_higher_orders_has_no_range(capsys, more):
    words = ["--n-samples", "6", "--batch-size", "2", "--n-params", "2", "--noise", "3", *more]
    value, err = output(capsys, terms.main, *words, form="json")
    assert value["rho_outside_range"] == []
    assert err == ""
    assert max(row["excess"] for row in value["rows"]) <= 1


def test_turning_says_from_which_lambda_on_the_noise_is_outside(capsys):
    words = ["--n-samples", "1000", "--batch-sizes", "64", "400", "--noise-scales", "40", "--n-epochs", "1"]
    value, _ = output(capsys, turning.main, *words, form="json")
    assert value["lam_max"] == pytest.approx((2**0.5 - 1) ** 2)
    outside = [row for row in value["map"] if row["lam"] >= value["lam_max"]]
    assert value["n_outside_range"] == len(outside) == len(value["map"]) / 2  # batch size 64, not 400
    table, _ = output(capsys, turning.main, *words)
    assert f"from lambda = 0.172 on ({len(outside)} of the {len(value['map'])} values of the map)" in table
