"""Tables as the studies write them with one fault each: read, or refused in one line and without a partial file."""

import csv
import io
import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.malformed import attempt, main_of, many
from tests.test_bad_tables import places
from tests.written_tables import READERS, article_numbers, inputs

pytestmark = [pytest.mark.usefixtures("elsewhere"), pytest.mark.filterwarnings("ignore::UserWarning")]

CELLS = ["", "nan", "inf", "-inf", "x", "1e300", "1e-320", "-5", "0", "99999999999999999999999", "True"]
FAULTS = ["no row", "one row", "rows twice", "no column", "not UTF-8", "cut", "mixed"]


def spoil(name, content, fault, i_row, i_column, cell):
    """Return the bytes of a file with one fault; the row and column are taken from those that there are."""
    text = (
        content
        if name.endswith(".md")
        else (of_json if name.endswith(".json") else of_csv)(content, fault, i_row, i_column, cell)
    )
    if fault == "not UTF-8":
        return text[: len(text) // 2] + b"\xff\xfe" + text[len(text) // 2 :]
    return text[: len(text) - 1 - i_row % 20 - i_column % 20] if fault == "cut" else text


def of_csv(content, fault, i_row, i_column, cell):
    header, *rows = csv.reader(content.decode().splitlines())
    i_row, i_column = i_row % len(rows), i_column % len(header)
    if fault == "no row":
        rows = []
    elif fault == "one row":
        rows = [rows[i_row]]
    elif fault == "rows twice":
        rows = rows + rows
    elif fault == "no column":
        header, *rows = (row[:i_column] + row[i_column + 1 :] for row in [header, *rows])
    elif fault == "mixed":
        rows += [[*row[:i_column], cell, *row[i_column + 1 :]] for row in rows]
    elif fault == "cell":
        rows[i_row][i_column] = cell
    elif fault == "column":
        for row in rows:
            row[i_column] = cell
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def of_json(content, fault, i_row, _, cell):
    value = json.loads(content)
    *above, last = (found := [at for at in places(value) if at])[i_row % len(found)]
    inside = value
    for key in above:
        inside = inside[key]
    if fault == "no column":
        del inside[last]
    elif fault in ("cell", "column", "mixed"):
        inside[last] = cell
    elif fault in ("no row", "one row"):
        inside[last] = {"no row": {}, "one row": []}[fault]
    return json.dumps(value).encode()


def files():
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def ends_well(program, argv, what):
    before = files()
    status, err = attempt(main_of(program), argv)
    plt.close("all")
    assert status in (0, 1, 2), (what, status, err)
    if status == 2:
        assert len(err.strip().splitlines()) == 1, (what, err)
        assert files() == before, what
    for name in set(files()) - set(before):
        os.unlink(name)
    return status


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("reader", READERS)
def test_table_with_one_fault_is_drawn_or_refused(reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, argv = reader.split()[0], READERS[reader]()
    tables = {name: Path(name).read_bytes() for name in inputs(argv)}
    assert tables
    assert ends_well(program, argv, "as written") == 0

    @many(8 if "plot" in program else 60)
    @given(
        st.sampled_from(sorted(tables)),
        st.sampled_from(["cell"] * 7 + ["column"] * 3 + FAULTS),
        st.integers(0, 50),
        st.integers(0, 50),
        st.sampled_from(CELLS),
    )
    def check(name, fault, i_row, i_column, cell):
        Path(name).write_bytes(spoil(name, tables[name], fault, i_row, i_column, cell))
        ends_well(program, argv, (name, fault, i_row, i_column, cell))
        Path(name).write_bytes(tables[name])

    check()
    kinds = {content.splitlines()[0]: name for name, content in tables.items()}
    for name, content in tables.items():
        for fault in ("not UTF-8", "no row") if name.endswith(".csv") else ("not UTF-8",):
            Path(name).write_bytes(spoil(name, content, fault, 0, 0, ""))
            status, err = attempt(main_of(program), argv)
            assert status == 2, (name, fault)
            assert name in err[:80], (fault, err)
            assert "not as the studies write them" not in err, (fault, err)  # but in what respect
        for i, fault in every_part(name, content) if name in kinds.values() and "plot" not in program else ():
            Path(name).write_bytes(spoil(name, content, fault, i, i, "inf"))
            ends_well(program, argv, (name, fault, i))
        Path(name).write_bytes(content)


def every_part(name, content):
    """Yield each column of a table with two faults, and each key near the top of a JSON file to be left out."""
    if name.endswith(".csv"):
        for i in range(len(next(csv.reader(content.decode().splitlines())))):
            yield i, "cell"
            yield i, "no column"
    elif name.endswith(".json"):
        for i, at in enumerate(at for at in places(json.loads(content)) if at):
            if len(at) < 3:
                yield i, "no column"


LIES = {
    "summary.csv": ["excess", "measured", "beta2"],
    "c.csv": ["slope", "lr"],
    "a.csv": ["excess", "study"],
    "m.csv": ["c_total_limit", "c_total_exact", "beta2"],
    "certify.csv": ["verdict"],
}
"""Columns of which the article quotes a count, a maximum or a range, which would leave out a cell without a value."""


@pytest.mark.slow
def test_numbers_of_the_article_are_not_taken_from_columns_with_a_cell_left_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = article_numbers()
    for name, columns in LIES.items():
        content, header = Path(name).read_bytes(), Path(name).read_text().splitlines()[0].split(",")
        for column in columns:
            for cell in ("", "inf"):
                Path(name).write_bytes(spoil(name, content, "cell", 1, header.index(column), cell))
                assert ends_well("analysis.article_numbers", argv, (name, column, cell)) == 2
        Path(name).write_bytes(content)
    assert ends_well("analysis.article_numbers", argv, "as written") == 0


def test_words_by_which_rows_are_counted_are_those_of_the_studies():
    from analysis.reductions import terms
    from sim.terms import STUDIES

    assert terms.STUDIES == STUDIES
