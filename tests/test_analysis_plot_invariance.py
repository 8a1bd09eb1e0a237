import json

import numpy as np
import pandas as pd
import pytest

from adam_minibatch_noise.theory import c_total
from analysis import plot_invariance
from analysis.inputs import titles
from analysis.reductions import invariance as invariance_summary
from sim import invariance


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("invariance")
    flags = [
        "--cases",
        "least-squares-quiet",
        "cnn-loud",
        "--n-decades",
        "1",
        "--n-lr",
        "3",
        "--kappas",
        "2",
        "4",
    ]
    flags += ["--lrs", "1e-5", "1e-3", "--n-seeds", "1", "--n-epochs", "1", "--format", "csv"]
    invariance.main([*flags, "--out", str(folder / "s.csv"), "--spread-out", str(folder / "p.csv")])
    return ["--slopes", str(folder / "s.csv"), "--spread", str(folder / "p.csv")]


def test_draws_the_same_bytes_twice_and_every_case(files, tmp_path):
    for name in ("one.svg", "two.svg"):
        plot_invariance.main([*files, "--out", str(tmp_path / name)])
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    for words in ("batch sizes 8, 16, 32", "linear rule", "slope 1"):
        assert words in text


def test_summary_holds_extrema_of_the_tables(files, tmp_path):
    out = tmp_path / "summary.json"
    plot_invariance.main([*files, "--summary", str(out), "--out", str(tmp_path / "x.svg")])
    summary, table = json.loads(out.read_text()), pd.read_csv(files[1])
    invariant = table[table["rule"] == "invariant"]
    assert (summary["slope_min"], summary["slope_max"]) == (
        invariant["slope"].min(),
        invariant["slope"].max(),
    )
    assert (summary["n_curves"], summary["n_accepted"]) == (4, 4)  # two cases, two kappas
    root = table[(table["rule"] == "square-root") & (table["lr"] == table["lr"].min())]
    for row, (case, of) in zip(
        summary["cases"], root.groupby("case", sort=False), strict=True
    ):  # nothing is mixed between the cases
        own = invariant[invariant["case"] == case]
        assert (row["slope_min"], row["slope_max"]) == (own["slope"].min(), own["slope"].max())
        assert (row["floor_min"], row["floor_max"]) == (of["distance"].min(), of["distance"].max())
    network = root[root["case"] == "cnn-loud"]["distance"]
    assert summary["loud_network_floor"]["max"] == network.max() < root["distance"].max()
    assert (summary["n_floors"], summary["n_floors_accepted"]) == (2, 2)  # where the mean dominates: one case
    last = table[(table["rule"] == "square-root") & (table["lr"] == table["lr"].min()) & (table["lam"] < 1)]
    assert summary["floor_max"] == last["distance"].max()
    assert summary["n_decades"] == pytest.approx(1, abs=0.01)
    spread = pd.read_csv(files[3])
    rows = spread[(spread["problem"] == "cnn") & (spread["rule"] == "square-root")]
    assert summary["spread"]["cnn"]["square-root"]["largest"] == rows["relative"].max()
    assert summary["spread"]["cnn"]["square-root"]["breaks_at"] == 1e-5
    assert summary["spread"]["cnn"]["invariant"]["breaks_at"] is None


def test_scaled_c_total_starts_alike_and_stays_for_the_invariant_rule_only():
    kappa = np.array([1.0, 4.0])
    curves = {
        rule: invariance_summary.scaled_c_total(rule, kappa, 0.99, 0.999, 2.0)
        for rule in invariance_summary.RULES
    }
    for curve in curves.values():
        assert curve[0] == pytest.approx(float(c_total(0.99, 0.999, 2.0)), rel=1e-12)
    assert curves["invariant"][1] == pytest.approx(curves["invariant"][0], rel=0.01)
    assert curves["square-root"][1] == pytest.approx(2 * float(c_total(0.96, 0.996, 0.5)), rel=1e-9)
    assert curves["linear"][1] == pytest.approx(4 * float(c_total(0.96, 0.996, 0.5)), rel=1e-9)


def test_rejects_a_kappa_that_makes_a_beta_negative_and_tables_swapped(fails, files, tmp_path):
    out = tmp_path / "x.svg"
    assert "--max-kappa is 200, allowed: at most 100" in fails(
        plot_invariance.main, *files, "--max-kappa", 200, "--out", out
    )
    swapped = ["--slopes", files[3], "--spread", files[1]]
    assert "column 'case' is missing" in fails(plot_invariance.main, *swapped, "--out", out)
    assert not out.exists()


def test_rules_and_problems_are_those_of_the_study():
    from sim.batch_invariance.slopes import CASES, RULES

    assert set(invariance_summary.RULES) == set(RULES) == set(titles.SCALINGS)
    assert {case.problem for case in CASES.values()} <= set(titles.PROBLEMS)
