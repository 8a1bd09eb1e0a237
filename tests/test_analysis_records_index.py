"""What is recorded, what is next, and that records/README.md says so."""

import shlex
from pathlib import Path

import pytest

from analysis import records_index
from common.config import load
from tests.sweep_runs import run_row, write
from train import sweep

GRID = load(*records_index.CONFIGS)["train"]["sweep"]


def planned(line):
    """Parse a command with the parser of the program that it runs."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "train.sweep"]
    return sweep.parser().parse_args(words[3:])


def runs(arguments):
    return {
        (arguments.lr, arguments.batch_size, beta1, beta2, seed)
        for beta1 in arguments.beta1
        for beta2 in arguments.beta2
        for seed in arguments.seed
    }


def test_readme_is_up_to_date():
    text = Path(records_index.README).read_text(encoding="utf-8")
    inside = text.split(records_index.BEGIN)[1].split(records_index.END)[0]
    assert inside == f"\n{records_index.section(records_index.FOLDER, 3)}\n"


def test_first_commands_are_coarse_curves_at_three_batch_sizes(tmp_path):
    lines = [planned(line) for line in records_index.commands(GRID, set(), 3, str(tmp_path))]
    assert [(line.batch_size, line.lr) for line in lines] == [(128, 0.001), (512, 0.001), (2048, 0.001)]
    for line in lines:
        assert (line.beta1, line.beta2) == ([0.9], [0.848, 0.934, 0.972, 0.99, 0.999])
        assert (line.seed, line.d_model, line.n_layer, line.dtype, line.eps) == (
            [0],
            512,
            6,
            "bfloat16",
            1e-6,
        )


def test_all_commands_together_make_each_run_of_the_grid_once(tmp_path):
    lines = [planned(line) for line in records_index.commands(GRID, set(), 10_000, str(tmp_path))]
    made = [one for line in lines for one in runs(line)]
    assert len(made) == len(set(made))
    assert len({line.out for line in lines}) == len(lines)
    wanted = {
        one
        for curve in GRID["curves"]
        for panel in records_index.runs_of({"curve": curve}, GRID).values()
        for one in panel
    }
    assert wanted <= set(made)
    last = {line.batch_size for line in lines[-6:]}
    assert last <= {4096, 16317}


def test_runs_that_exist_are_not_asked_for_again_nor_their_file_overwritten(tmp_path):
    here = {"lr": 0.001, "batch_size": 128}
    write(
        tmp_path / "beta2_b128_lr0.001.csv",
        [run_row(5.0, beta2=0.934, **here), run_row(None, beta2=0.99, **here)],
    )
    done = records_index.recorded_runs(str(tmp_path))
    assert done == {(0.001, 128, 0.9, 0.934, 0), (0.001, 128, 0.9, 0.99, 0)}
    line = planned(records_index.commands(GRID, done, 1, str(tmp_path))[0])
    assert line.beta2 == [0.848, 0.972, 0.999]
    assert line.out == tmp_path / "beta2_b128_lr0.001_part2.csv"
    text = records_index.section(str(tmp_path), 1)
    assert "| beta2 | 0.001 | 1/42 | 0/42 |" in text
    assert "1 of 1800 runs of the grid exist, and 1 beside it." in text


def test_write_changes_just_what_is_between_the_markers(tmp_path, fails):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{records_index.BEGIN}old\n{records_index.END}after\n")
    records_index.main(["--write", "--folder", str(tmp_path), "--readme", str(readme)])
    text = readme.read_text()
    assert text.startswith("before\n<!--")
    assert text.endswith("-->\nafter\n")
    assert "old" not in text
    assert "0/42" in text
    readme.write_text("no markers\n")
    assert "lacks the lines" in fails(records_index.main, "--write", "--readme", readme)
    assert readme.read_text() == "no markers\n"


@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_rejects_a_number_of_commands_that_is_none(value, fails):
    assert "--n-commands" in fails(records_index.main, "--n-commands", value)


def test_commands_alone_are_those_of_the_readme(capsys):
    records_index.main(["--commands", "--n-commands", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert f"    {line}\n" in Path(records_index.README).read_text(encoding="utf-8")
        assert planned(line).device == "cuda"
