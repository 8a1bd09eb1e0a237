"""Which package may import which, and what `--help` costs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from common.config import PACKAGES, report_entry
from common.programs import find_programs

ROOT = Path(__file__).parent.parent
WITH_PROGRAMS = ("sim", "train", "analysis")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
PROGRAMS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if '__name__ == "__main__"' in path.read_text() and path.name != "__main__.py"
)


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def test_imports_obey_the_contracts_of_pyproject():
    done = subprocess.run([LINT_IMPORTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Contracts: 3 kept, 0 broken" in done.stdout


def test_packages_hold_a_docstring_only():
    """Those with programs also look whether one was meant (`common.programs`)."""
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert len(folders) > 15
    check = r"\nfrom common\.programs import refuse_others\n\nrefuse_others\(__name__\)\n"
    for folder in folders:
        more = check if folder.name in WITH_PROGRAMS and folder.parent == ROOT else ""
        assert re.fullmatch(rf'"""[^"]*"""\n{more}', (folder / "__init__.py").read_text()), folder


def test_programs_stand_at_the_top_of_their_package():
    assert {program.split(".")[0] for program in PROGRAMS} == set(WITH_PROGRAMS)
    assert all(program.count(".") == 1 for program in PROGRAMS)
    assert [name for package in WITH_PROGRAMS for name in find_programs(package)] == sorted(
        PROGRAMS, key=lambda program: WITH_PROGRAMS.index(program.split(".")[0])
    )


def test_no_module_is_named_like_one_of_the_standard_library(graph):
    assert not {module.split(".")[-1] for module in graph.modules} & set(sys.stdlib_module_names)


def test_flags_of_simulations_are_known_to_their_program_alone():
    """What computes has plain arguments; no module builds the command line of another."""
    for path in (ROOT / "sim").rglob("*.py"):
        text = path.read_text()
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        is_program = path.parent == ROOT / "sim" and path.name[0] != "_"
        assert ("import argparse" in text) == is_program, path
        assert "Namespace" not in text, path
        parses = {function.name for function in functions if "parse_args" in ast.unparse(function)}
        assert parses == ({"main"} if is_program else set()), path


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


def test_every_rule_says_what_a_cluster_must_give_it():
    rules = [
        rule
        for path in sorted(ROOT.glob("*/rules.smk"))
        for rule in re.split(r"(?m)^rule ", path.read_text())[1:]
        if "localrule: True" not in rule
    ]
    assert len(rules) > 10
    for rule in rules:
        trains = "python -m train." in rule
        resources = rule.partition("    resources:\n")[2].partition("    shell:")[0]
        stated = dict(re.findall(r"(?m)^        (\w+)=(.+),$", resources))
        assert 1000 <= int(stated["mem_mb"]) <= 64_000, rule.split(":")[0]
        # a training asks for what the configuration gives it; nothing else needs a GPU
        needs = {"runtime": r'\w+\["minutes"\]', "gpu": r'\w+\["gpu"\]'} if trains else {"runtime": r"\d+"}
        assert set(stated) == {"mem_mb", *needs}, rule.split(":")[0]
        for need, pattern in needs.items():
            assert re.fullmatch(pattern, stated[need]), rule.split(":")[0]


def test_every_figure_is_in_the_report():
    rules = re.split(r"(?m)^rule ", (ROOT / "analysis/rules.smk").read_text())
    figures = [
        rule for rule in rules if '.svg"' in rule.partition("    output:")[2].partition("    shell:")[0]
    ]
    assert len(figures) > 9
    for rule in figures:
        assert rule.count('.svg"') == rule.count("report(") == 1, rule.split(":")[0]
        (name, title) = re.findall(r'report_entry\(\s*"([^"]*)", "([^"]*)"', rule)[0]
        found = ROOT / "analysis" / report_entry(name, title)["caption"]
        assert found.resolve() == ROOT / f"paper/captions/{rule.split(':')[0]}.rst"
        assert len(found.read_text().split()) > 10


WRITERS = {
    "write_text",
    "write_bytes",
    "tofile",
    "savez",
    "savez_compressed",
    "mkstemp",
    "NamedTemporaryFile",
}
INTO_A_FILE = {"savefig", "torch.save", "np.save", "json.dump", "np.savetxt"}


def writes_by_name(call):
    """Whether a call writes to a path by itself; into a file that `atomic_write` has opened is all right."""
    name, words = ast.unparse(call.func), [ast.unparse(word) for word in call.args]
    words += [ast.unparse(word.value) for word in call.keywords if word.arg in ("mode", "flags")]
    last = name.rsplit(".", 1)[-1]
    if last == "open":
        return any(re.fullmatch(r"'[rbt]*[wax+][rwaxbt+]*'", word) or "O_WRONLY" in word for word in words)
    if last in INTO_A_FILE or name in INTO_A_FILE:
        return not {"file", "buffer"} & set(words)
    return last in WRITERS or (isinstance(call.func, ast.Attribute) and last in ("to_csv", "to_json"))


def test_every_file_is_written_by_atomic_write():
    """A killed writer leaves half a file at random moments only; this finds each place for certain."""
    found = {
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for package in (*PACKAGES, "bench")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and writes_by_name(node)
    }
    assert found == {
        "common/cli.py: os.open(os.devnull, os.O_WRONLY)",
        "common/files.py: open(name, 'a+')",  # a lock
        "common/files.py: tempfile.mkstemp(prefix=f'.{path.name}.', suffix=PART, dir=path.parent)",
    }
