import pytest

from common import cli


def test_unknown_flag_names_the_nearest_one(capsys):
    parser = cli.Parser(prog="x")
    parser.add_argument("--batch-size")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--batchsize", "4"])
    assert "unrecognized arguments: --batchsize 4 (nearest flag: --batch-size)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--unheard-of"])
    assert "nearest" not in capsys.readouterr().err


def test_parser_notes_which_flags_were_given():
    parser = cli.Parser(prog="x")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.1)
    assert parser.parse_args(["--batch-size", "4"]).given == {"batch_size"}
    assert parser.parse_args(["--lr=0.1", "--batch-size=4"]).given == {"batch_size", "lr"}
    assert parser.parse_args([]).given == frozenset()


def test_help_ends_with_whole_example_commands(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.Parser(prog="x", examples=["python -m x --lr 0.1", "python -m x"]).parse_args(["--help"])
    assert capsys.readouterr().out.endswith("examples:\n  python -m x --lr 0.1\n  python -m x\n")


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
