import csv

import numpy as np
import pytest

from analysis import plot_terms
from analysis.inputs import tables
from analysis.reductions.terms import term_ratios
from sim import terms

TINY = ["--n-samples", "6", "--batch-size", "2", "--n-params", "2", "--beta1", "0.8"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terms")
    studies = {
        "falling": ["--beta2", "0.95", "--method", "enumerate", "--rho", "0.1", "0.01"],
        "adam": ["--beta2", "0.95", "--method", "enumerate", "--rho", "0.01"],
        "sgd": ["--optimizer", "sgd-momentum", "--method", "enumerate"],
        "lines": ["--beta2", "0.95", "--study", "lines", "--rho", "0.01"],
    }
    for name, flags in studies.items():
        terms.main([*TINY, "--format", "csv", *flags, "--out", str(folder / f"{name}.csv")])
    return {name: str(folder / f"{name}.csv") for name in studies}


def test_draws_every_table_and_the_same_bytes_twice(files, tmp_path):
    shown = [path for name, path in files.items() if name != "lines"]
    flags = ["--tables", *shown, "--summary", str(tmp_path / "s.csv")]
    for name in ("one.svg", "two.svg"):
        plot_terms.main([*flags, "--out", str(tmp_path / name)])
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    for words in (
        "all orders, quadratics",
        "SGD with momentum",
        "slope 2",
        "limit, 1/b for v",
    ):
        assert words in text
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert len(rows) == 2 * 6 + 6 + 2
    assert all(abs(float(row["measured"]) - 1) < 0.02 for row in rows if float(row["rho"]) < 0.1)


def test_ratios_are_projections_on_the_exact_term(files):
    table = tables.read([files["adam"]])
    table["stderr"] = [0.1, 0.0] * 6
    row = next(row for row in term_ratios(table) if row["term"] == "MBN2")
    part = table[table["term"] == "MBN2"]
    exact = part["predicted_exact"].to_numpy()
    assert row["limit"] == pytest.approx(
        part["predicted_limit"].to_numpy() @ exact / (exact @ exact), rel=1e-12
    )
    distance = np.abs(part["measured"].to_numpy() - exact).max() / np.abs(exact).max()
    assert row["residual"] == pytest.approx(distance, rel=1e-9)
    assert row["stderr"] == pytest.approx(0.1 * abs(exact[0]) / (exact @ exact), rel=1e-12)


def test_rejects_tables_it_cannot_draw(fails, files, tmp_path):
    out = tmp_path / "x.svg"
    complaint = fails(plot_terms.main, "--tables", files["adam"], files["lines"], "--out", out)
    assert "column 'study' holds 'lines', allowed: terms" in complaint
    (tmp_path / "y.csv").write_text("study,problem\nterms,quadratics\n")
    assert "column 'optimizer' is missing" in fails(
        plot_terms.main, "--tables", tmp_path / "y.csv", "--out", out
    )
    assert not out.exists()
