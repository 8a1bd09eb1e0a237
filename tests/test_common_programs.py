"""`python -m` of modules that are no programs, of packages, and of programs; examples of every --help."""

import ast
import shlex
import subprocess
import sys

import pytest

from common import programs
from common.cli import run
from tests.malformed import Accepted, main_of, only_parse, parser_of
from tests.test_architecture import PROGRAMS, ROOT, WITH_PROGRAMS


def python(*words, cwd=ROOT):
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "sim.losses.problems"],
        ["-m", "sim.losses", "--help"],
        ["-usBm", "sim.monte_carlo.corr"],
        ["-X", "dev", "-W", "ignore", "-mtrain.images.loop", "--out", "x"],
        ["-m", "analysis.proofs", "-m", "sim.exact"],
        ["-m", "sim.nothing"],
    ],
    ids=" ".join,
)
def test_what_is_no_program_says_so_in_one_line(words):
    done = python(*words)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    module = next(word.removeprefix("-m") for word in words if "." in word)
    what = "does not exist" if module == "sim.nothing" else "is no program"
    assert done.stderr == f"error: {module} {what}: `python -m {module.split('.')[0]}` lists the programs\n"


def test_programs_tests_children_and_plain_imports_are_left_alone(tmp_path):
    assert python("-m", "sim.constants").returncode == 0
    assert python("-umsim.constants", "--format", "json").returncode == 0
    every = "import sim.losses.problems, train.images, analysis.proofs"
    assert python("-c", every, "-m", "sim.losses").returncode == 0
    (tmp_path / "own.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{every}\n")
    assert python("-m", "own", "sim.losses", cwd=tmp_path).returncode == 0
    assert python("-m", "pytest", "--collect-only", "-q", "tests/test_sim_constants.py").returncode == 0
    spawn = (
        "import multiprocessing as mp, sys; sys.argv = ['-m', 'x']\n"
        "import sim.losses.problems as p\n"
        "if __name__ == '__main__':\n"
        "    with mp.get_context('spawn').Pool(1) as pool:\n"
        "        assert pool.apply(p.make_quadratics, (4, 2, 0.1, 0)).n_samples == 4\n"
    )
    (tmp_path / "pool.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{spawn}")
    done = python("pool.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", WITH_PROGRAMS)
def test_a_package_lists_its_programs_with_what_they_do_and_loads_nothing_heavy(package):
    done = python("-X", "importtime", "-m", package)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    mine = [program for program in PROGRAMS if program.startswith(f"{package}.")]
    assert [line.split()[2] for line in lines[:-2]] == mine
    for line, program in zip(lines, mine, strict=False):
        path = (ROOT / program.replace(".", "/")).with_suffix(".py")
        assert line.endswith(ast.get_docstring(ast.parse(path.read_text())).splitlines()[0])
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "common" in loaded
    assert not loaded & {"numpy", "numba", "torch", "pandas", "matplotlib", "tqdm"}


def test_a_module_without_the_line_that_runs_it_is_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "ROOT", tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "p/one.py").write_text('def main(): ...\n\n\nif __name__ == "__main__":\n    main()\n')
    (tmp_path / "p/two.py").write_text('"""if __name__ == "__main__": is for programs."""\n')
    (tmp_path / "p/__main__.py").write_text('if __name__ == "__main__":\n    1\n')
    assert programs.find_programs("p") == ["p.one"]


# ------------------------------------------------------------------------------------------------------- examples
def examples(program):
    return [line.strip() for line in (parser_of(program).epilog or "").splitlines()[1:]]


SIM = [program for program in PROGRAMS if program.startswith("sim.")]
LONG = (
    "sim.closeness --problem cnn",
    "feature_noise_run --batch-size 100",
    "feature_noise_studies --study betas",
)
"""Examples that take minutes."""


@pytest.mark.parametrize("program", SIM)
def test_help_ends_with_examples_that_the_program_takes(program, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(main_of(program), ["--help"])
    text = capsys.readouterr().out
    commands = examples(program)
    assert len(commands) == 2
    for command in commands:
        assert command in text
        python, m, name, *words = shlex.split(command)
        assert (python, m, name) == ("python", "-m", program)
        with pytest.raises(Accepted):
            only_parse(program)(words)


@pytest.mark.parametrize("program", SIM)
def test_examples_run(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    short = [command for command in examples(program) if not any(part in command for part in LONG)]
    assert short
    for command in short:
        with pytest.raises(SystemExit) as end:
            run(main_of(program), shlex.split(command)[3:])
        assert end.value.code == 0, (command, capsys.readouterr().err)
        assert capsys.readouterr().out.strip()
