"""Tables of problems with too much noise for a bound are drawn and counted as such; a lost cell is still refused."""

import csv
import json
from pathlib import Path

import pytest

from analysis import article_numbers, plot_expectation, plot_terms
from analysis.reductions import terms as term_numbers
from sim import expectation, terms
from tests import written_tables

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TINY = "--n-samples 6 --n-params 2 --format csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("no_bound")
    for name, noise in (("quiet", 0.05), ("loud", 2.0)):
        flags = f"{TINY} --method enumerate --noise {noise} --beta1 0.5 --batch-size 1 --beta2 0.9"
        expectation.main([*flags.split(), "--out", str(folder / f"{name}.csv")])
    flags = f"{TINY} --batch-size 2 --beta1 0.8 --beta2 0.95"
    for name, more in (
        ("one", "--rho 0.8"),
        ("falling", "--rho 0.8 0.01"),
        ("lines", "--study lines --rho 0.8"),
    ):
        method = "" if name == "lines" else "--method enumerate"
        terms.main([*f"{flags} {method} {more}".split(), "--out", str(folder / f"{name}.csv")])
    return folder


def rows_of(path):
    return list(csv.DictReader(Path(path).read_text().splitlines()))


def numbers_of(folder, tmp_path, monkeypatch, **changed):
    """Numbers of the article from the tables of `written_tables`, some of them changed."""
    monkeypatch.chdir(tmp_path)
    argv = written_tables.article_numbers()
    for name, path in changed.items():
        Path(f"{name}.csv").write_bytes(Path(path).read_bytes())
    article_numbers.main(argv)
    return json.loads(Path(argv[argv.index("--out") + 1]).read_text())


def test_figure_of_expectations_shows_points_without_a_bound_hollow(folder, tmp_path):
    drawn, summary = tmp_path / "f.svg", tmp_path / "s.csv"
    tables = [str(folder / "quiet.csv"), str(folder / "loud.csv")]
    plot_expectation.main(["--tables", *tables, "--out", str(drawn), "--summary", str(summary)])
    assert "measured ± 4 s.e., no bound on higher orders" in drawn.read_text()
    assert [(row["excess"] == "", row["bound"] == "") for row in rows_of(summary)] == [
        (False,) * 2,
        (True,) * 2,
    ]
    plot_expectation.main(["--tables", tables[0], "--out", str(drawn)])
    assert "no bound" not in drawn.read_text()
    plot_expectation.main(["--tables", tables[1], "--out", str(drawn)])
    assert "no bound" in drawn.read_text()


@pytest.mark.parametrize("names", [["one"], ["falling"]])
def test_figure_of_terms_says_where_there_is_no_bound(folder, tmp_path, names):
    drawn, summary = tmp_path / "f.svg", tmp_path / "s.csv"
    paths = [str(folder / f"{name}.csv") for name in names]
    plot_terms.main(["--tables", *paths, "--out", str(drawn), "--summary", str(summary)])
    assert drawn.read_text().count("no bound on higher orders") == len(names)
    for row in rows_of(summary):
        assert (row["excess"] == "") == (row["rho"] == "0.8" and row["term"] != "FB")


def test_counts_leave_out_what_has_no_bound(folder):
    found = term_numbers.summarize([str(folder / "falling.csv"), str(folder / "lines.csv")])
    table = rows_of(folder / "falling.csv")
    n_lines = len(rows_of(folder / "lines.csv"))
    assert found["n_rows"] == {"terms": len(table), "lines": n_lines}
    empty = sum(row["excess"] == "" for row in table)
    assert 0 < empty < len(table)
    assert found["n_without_bound"] == {"terms": empty, "lines": n_lines}
    assert found["largest_excess"]["lines"] is None
    assert found["largest_excess"]["terms"] == max(float(row["excess"]) for row in table if row["excess"])
    assert found["n_violated"] == 0


@pytest.mark.slow
def test_numbers_of_the_article_count_settings_without_a_bound(folder, tmp_path, monkeypatch):
    summary = folder / "summary_of_both.csv"
    tables = [str(folder / "quiet.csv"), str(folder / "loud.csv")]
    plot_expectation.main(["--tables", *tables, "--out", str(folder / "f.svg"), "--summary", str(summary)])
    found = numbers_of(folder, tmp_path, monkeypatch, summary=summary)["expectation"]
    assert (found["n_settings"], found["n_without_bound"], found["n_violated"]) == (2, 1, 0)
    assert found["largest_excess"] == max(float(row["excess"] or 0) for row in rows_of(summary))


@pytest.mark.parametrize(("column", "cell"), [("excess", ""), ("bound", ""), ("excess", "inf")])
@pytest.mark.parametrize(("main", "name"), [(plot_expectation.main, "quiet"), (plot_terms.main, "falling")])
def test_an_excess_that_is_lost_is_refused(fails, folder, tmp_path, main, name, column, cell):
    rows = rows_of(folder / f"{name}.csv")
    next(row for row in rows if row["excess"])[column] = cell
    path, out = tmp_path / "t.csv", tmp_path / "f.svg"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert "column 'excess' holds" in fails(main, "--tables", path, "--out", out)
    assert not out.exists()
