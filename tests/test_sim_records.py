import json
import math
import os

import numpy as np
import pytest

from sim import records


def test_atomic_write_leaves_nothing_behind_on_failure(tmp_path):
    path = tmp_path / "folder" / "file.csv"

    def fail():
        with records.atomic_write(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(path.parent.iterdir()) == []


def test_atomic_write_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with records.atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o022) or 0o022)


def test_to_json_turns_what_json_lacks_into_null():
    text = records.to_json(
        {"a": np.array([1.0, np.nan]), "b": math.inf, "c": np.int64(3), "d": np.bool_(True)}
    )
    assert json.loads(text) == {"a": [1.0, None], "b": None, "c": 3, "d": True}


def test_write_csv_keeps_full_precision(tmp_path):
    records.write_csv(tmp_path / "x.csv", [{"a": 0.1 + 0.2, "b": "t"}])
    assert (tmp_path / "x.csv").read_text() == "a,b\n0.30000000000000004,t\n"


@pytest.mark.parametrize("text", ["1", "1.0", "nan", "inf", "-0.1", "", "0,5", "1e400"])
def test_beta_rejects_what_is_outside(text):
    with pytest.raises(records.argparse.ArgumentTypeError, match=r">= 0 and < 1"):
        records.beta(text)


def test_count_takes_whole_numbers_only():
    assert records.count("3") == 3
    for text in ("0", "1.5", "three", "-1"):
        with pytest.raises(records.argparse.ArgumentTypeError, match="whole number >= 1"):
            records.count(text)


def test_to_table_aligns_columns():
    assert records.to_table(["a", "bb"], [[1, 2.5], [10, "x"]]).splitlines() == [
        " a   bb",
        "--  ---",
        " 1  2.5",
        "10    x",
    ]


@pytest.mark.parametrize(("form", "text"), [("csv", "a\n1\n"), ("json", '{\n "a": 1\n}\n'), ("table", "t\n")])
def test_write_result_writes_the_same_to_a_file_and_to_standard_output(tmp_path, capsys, form, text):
    parser = records.Parser(prog="x")
    records.add_output_flags(parser)
    result = {"rows": [{"a": 1}], "value": {"a": 1}, "table": "t"}
    records.write_result(parser.parse_args(["--format", form]), **result)
    records.write_result(parser.parse_args(["--format", form, "--out", str(tmp_path / "x")]), **result)
    assert capsys.readouterr().out == (tmp_path / "x").read_text() == text
