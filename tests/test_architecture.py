"""Which package may import which, what `--help` costs, and pins that agree with each other."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("sim", "train", "analysis")
    for path in (ROOT / package).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("sim", "train", "analysis", cache_dir=None)


def imported(graph, package):
    modules = [module for module in graph.modules if module.split(".")[0] == package]
    return {other for module in modules for other in graph.find_modules_directly_imported_by(module)}


def test_sim_imports_nothing_of_the_project_but_itself(graph):
    assert {module.split(".")[0] for module in imported(graph, "sim")} <= {"sim"}


def test_train_imports_of_sim_the_theory_and_the_records_only(graph):
    others = {module for module in imported(graph, "train") if module.split(".")[0] != "train"}
    assert others <= {"sim.theory", "sim.records"}


def test_analysis_does_not_import_train(graph):
    assert {module.split(".")[0] for module in imported(graph, "analysis")} <= {"sim", "analysis"}


def test_packages_hold_a_docstring_only():
    for package in (
        "sim",
        "sim/losses",
        "sim/expansion",
        "sim/monte_carlo",
        "sim/memory",
        "sim/feature_noise",
        "train",
        "analysis",
    ):
        assert re.fullmatch(r'"""[^"]*"""\n', (ROOT / package / "__init__.py").read_text())


def test_no_module_is_named_like_one_of_the_standard_library(graph):
    assert not {module.split(".")[-1] for module in graph.modules} & set(sys.stdlib_module_names)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_does_not_load_the_heavy_libraries(program):
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({program!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'numba', 'torch', 'pandas', 'matplotlib', 'jax', 'snakemake'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m " + program in done.stdout


def test_pins_cover_every_dependency_but_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    name = re.compile(r"[A-Za-z0-9_.-]+")
    wanted = {name.match(line)[0] for lines in [project["dependencies"], *extras.values()] for line in lines}
    pinned = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "envs/constraints.txt").read_text(), re.MULTILINE))
    assert wanted - pinned == {"torch"}
    torch = next(line for line in extras["train"] if line.startswith("torch"))
    assert torch in (ROOT / "envs/bootstrap.txt").read_text().splitlines()


@pytest.mark.parametrize("stage", ["sim", "train", "analysis", "paper"])
def test_conda_files_agree_with_the_extras(stage):
    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pip = yaml.safe_load((ROOT / f"envs/{stage}.yaml").read_text())["dependencies"][-1]["pip"]
    assert "-c constraints.txt" in pip
    wanted = {line for line in project["optional-dependencies"][stage] if not line.startswith("torch")}
    assert wanted <= set(pip)
