import pytest

from sim import commands


@pytest.mark.parametrize("text", ["1", "1.0", "nan", "inf", "-0.1", "", "0,5", "1e400"])
def test_beta_rejects_what_is_outside(text):
    with pytest.raises(commands.argparse.ArgumentTypeError, match=r">= 0 and < 1"):
        commands.beta(text)


def test_count_takes_whole_numbers_only():
    assert commands.count("3") == 3
    for text in ("0", "1.5", "three", "-1"):
        with pytest.raises(commands.argparse.ArgumentTypeError, match="whole number >= 1"):
            commands.count(text)


@pytest.mark.parametrize(("form", "text"), [("csv", "a\n1\n"), ("json", '{\n "a": 1\n}\n'), ("table", "t\n")])
def test_write_result_writes_the_same_to_a_file_and_to_standard_output(tmp_path, capsys, form, text):
    parser = commands.Parser(prog="x")
    commands.add_output_flags(parser)
    result = {"rows": [{"a": 1}], "value": {"a": 1}, "table": "t"}
    commands.write_result(parser.parse_args(["--format", form]), **result)
    commands.write_result(parser.parse_args(["--format", form, "--out", str(tmp_path / "x")]), **result)
    assert capsys.readouterr().out == (tmp_path / "x").read_text() == text
