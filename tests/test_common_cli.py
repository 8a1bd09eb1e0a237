import pytest

from common import cli


@pytest.mark.parametrize("text", ["1", "1.0", "nan", "inf", "-0.1", "", "0,5", "1e400"])
def test_beta_rejects_what_is_outside(text):
    with pytest.raises(cli.argparse.ArgumentTypeError, match=r">= 0 and < 1"):
        cli.beta(text)


def test_count_takes_whole_numbers_only():
    assert cli.count("3") == 3
    for text in ("0", "1.5", "three", "-1"):
        with pytest.raises(cli.argparse.ArgumentTypeError, match="whole number >= 1"):
            cli.count(text)


@pytest.mark.parametrize(("form", "text"), [("csv", "a\n1\n"), ("json", '{\n "a": 1\n}\n'), ("table", "t\n")])
def test_write_result_writes_the_same_to_a_file_and_to_standard_output(tmp_path, capsys, form, text):
    parser = cli.Parser(prog="x")
    cli.add_output_flags(parser)
    result = {"rows": [{"a": 1}], "value": {"a": 1}, "table": "t"}
    cli.write_result(parser.parse_args(["--format", form]), **result)
    cli.write_result(parser.parse_args(["--format", form, "--out", str(tmp_path / "x")]), **result)
    assert capsys.readouterr().out == (tmp_path / "x").read_text() == text


def test_a_folder_is_no_file_to_write_and_is_refused_before_the_work(tmp_path, capsys):
    parser = cli.Parser()
    cli.add_output_flags(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--out", str(tmp_path)])
    assert f"--out: {tmp_path} is a folder, allowed: the name of a file" in capsys.readouterr().err
    assert parser.parse_args(["--out", str(tmp_path / "new.csv")]).out == str(tmp_path / "new.csv")


def test_a_folder_may_be_asked_for(tmp_path):
    parser = cli.Parser()
    parser.add_argument("--out", metavar="FOLDER")
    assert parser.parse_args(["--out", str(tmp_path)]).out == str(tmp_path)
