"""Which package may import which, and what `--help` costs."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
import yaml

from common import captions
from common.config import MAIN, PACKAGES, load
from common.programs import find_programs

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "adam_minibatch_noise"
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


def test_packages_of_programs_hold_a_docstring_only():
    """Those with programs also look whether one was meant (`common.programs`)."""
    folders = {path.parent for package in PACKAGES[1:] for path in (ROOT / package).rglob("*.py")}
    assert len(folders) > 12
    check = r"\nfrom common\.programs import refuse_others\n\nrefuse_others\(__name__\)\n"
    for folder in (*folders, LIBRARY):
        more = check if folder.name in WITH_PROGRAMS and folder.parent == ROOT else ""
        assert re.fullmatch(rf'"""[^"]*"""\n{more}', (folder / "__init__.py").read_text()), folder


def test_programs_stand_at_the_top_of_their_package():
    programs = [program for program in PROGRAMS if program != "common.results"]  # the Makefile's own
    assert {program.split(".")[0] for program in programs} == set(WITH_PROGRAMS)
    assert all(program.count(".") == 1 for program in programs)
    assert [name for package in WITH_PROGRAMS for name in find_programs(package)] == sorted(
        programs, key=lambda program: WITH_PROGRAMS.index(program.split(".")[0])
    )


@pytest.mark.parametrize("name", ["advice", "expansion", "noise_scale", "optimizers"])
def test_packages_of_the_library_offer_names_of_their_own_modules(name):
    docstring, *imports, offered = ast.parse((LIBRARY / name / "__init__.py").read_text()).body
    assert isinstance(docstring.value.value, str)
    assert ast.unparse(offered.targets[0]) == "__all__"
    for node in imports:
        assert node.module.startswith(f"adam_minibatch_noise.{name}."), ast.unparse(node)
    names = [alias.name for node in imports for alias in node.names]
    assert ast.literal_eval(offered.value) == sorted(names)


NEED_NUMPY_ONLY = ["", ".__main__", ".advice", ".errors", ".expansion", ".ranges", ".theory"]
PACKAGES_OF_THESE = (".advice", ".expansion")


@pytest.mark.parametrize("module", NEED_NUMPY_ONLY)
def test_the_library_needs_numpy_alone_where_torch_is_not_meant(module):
    """In a process that can import NumPy, the standard library and this package, and nothing else."""
    code = (
        "import importlib, importlib.abc, pkgutil, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] not in {'numpy', 'adam_minibatch_noise', *sys.stdlib_module_names}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"top = importlib.import_module('adam_minibatch_noise{module}')\n"
        f"below = pkgutil.iter_modules(top.__path__, top.__name__ + '.') if {module in PACKAGES_OF_THESE} else ()\n"
        "print(*(importlib.import_module(each.name).__name__ for each in below))\n"
        f"assert ('numpy' in sys.modules) == {module not in ('', '.__main__', '.errors')}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parts = {path.stem for path in (LIBRARY / module[1:]).glob("*.py")} - {"__init__"}
    found = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert found == (parts if module in PACKAGES_OF_THESE else set())


def test_that_test_covers_every_module_that_has_no_torch_in_it():
    found = {"" if path.stem == "__init__" else f".{path.stem}" for path in LIBRARY.glob("*.py")} | {
        f".{path.parent.name}" for path in LIBRARY.glob("*/__init__.py")
    }
    assert found == {*NEED_NUMPY_ONLY, ".callbacks", ".noise_scale", ".optimizers"}


def test_no_module_is_named_like_one_of_the_standard_library(graph):
    assert not {module.split(".")[-1] for module in graph.modules} & set(sys.stdlib_module_names)


def test_whatever_the_type_checker_is_told_to_ignore_has_a_code_and_a_reason():
    said = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"#\s*(type:\s*ignore|mypy:|pyright:)", line)
    ]
    assert [line for line in said if not re.search(r"# type: ignore\[[a-z-]+\]  # \w.*\w", line)] == []


def test_flags_of_simulations_are_known_to_their_program_alone():
    """What computes has plain arguments; no module builds the command line of another."""
    for path in (ROOT / "sim").rglob("*.py"):
        text = path.read_text()
        functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        is_program = path.parent == ROOT / "sim" and path.name[0] != "_"
        assert is_program or "import argparse" not in text, path
        assert "Namespace" not in text, path
        parses = {function.name for function in functions if "parse_args" in ast.unparse(function)}
        assert parses == ({"main"} if is_program else set()), path


HELP = """
import os, runpy, sys
for program in sys.argv[1:]:
    print(f"== {program}", flush=True)
    if os.fork() == 0:  # each by itself, in a process that has loaded nothing
        os.dup2(1, 2)
        sys.argv = ["x", "--help"]
        try:
            runpy.run_module(program, run_name="__main__")
        except SystemExit as end:
            heavy = {"numba", "torch", "pandas", "matplotlib", "seaborn", "jax", "snakemake"} & set(sys.modules)
            print(f"ended with {end.code or 0}, loaded {sorted(heavy)}", flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def helps():
    """What every program prints for --help, and what it then has loaded."""
    command = [sys.executable, "-c", HELP, *PROGRAMS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(part.split("\n", 1) for part in done.stdout.removeprefix("== ").split("\n== "))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_does_not_load_the_heavy_libraries(helps, program):
    assert "usage: python -m " + program in helps[program]
    assert "ended with 0, loaded []" in helps[program]


@pytest.fixture(scope="module")
def jobs():
    """What every job of the published configuration asks of a cluster, by rule, as a dry run lists it."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--dry-run", "--forceall"]
    done = subprocess.run(
        [*command, "--configfile", "config/full.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed = re.findall(r"(?m)^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", done.stdout)
    return [
        (rule, dict(re.findall(r"(\w+)=([^,]+)", resources))) for rule, resources in listed if rule != "all"
    ]


def test_every_rule_says_what_a_cluster_must_give_it(jobs):
    config = load(MAIN, "config/full.yaml")["train"]
    assert len({rule for rule, _ in jobs}) > 20
    for rule, resources in jobs:
        assert 1000 <= int(resources["mem_mb"]) <= 64_000, rule
        section = (
            {"train_image_sweep": "image_sweep"}.get(rule, "sweep") if rule.startswith("train_") else None
        )
        if section:  # a training asks for what the configuration gives it; nothing else needs a GPU
            assert int(resources["runtime"]) == config[section]["minutes"], rule
            assert resources["gpu"] == "1", rule
        else:
            assert int(resources["runtime"]) <= 240, rule
            assert "gpu" not in resources, rule


def test_commands_with_other_default_resources_keep_those_of_the_profile():
    """On the command line they take the place of the profile's, all of them."""
    defaults = yaml.safe_load((ROOT / "profiles/default/config.yaml").read_text())["default-resources"]
    kept = f"--default-resources mem_mb={defaults['mem_mb']} runtime={defaults['runtime']} slurm_account=A"
    for name in ("docs/clusters.md", "profiles/slurm/config.yaml"):
        assert kept in (ROOT / name).read_text(), name


def test_rules_quote_every_file_that_they_hand_to_a_shell():
    texts = [path.read_text() for path in [ROOT / "Snakefile", *sorted(ROOT.glob("*/*.smk"))]]
    files = [
        name
        for text in texts
        for name in re.findall(r"\{((?:input|output|log|params\.(?:work|checkpoint))\b[^}]*)\}", text)
    ]
    assert len(files) > 50
    assert {name for name in files if not name.endswith(":q")} == set()


def test_every_drawing_program_has_a_rule_a_title_and_a_caption(jobs):
    figures = captions.read()
    programs = {path.stem for path in (ROOT / "analysis").glob("plot_*.py")}
    drawn = {name.split("/")[0] for name in figures}
    assert {program for program in programs if not any(name.startswith(program) for name in drawn)} == set()
    assert programs <= {rule for rule, _ in jobs}
    for name, figure in figures.items():
        assert len(figure["title"].split()) > 1, name
        assert len(figure["caption"].split()) > 10, name


def test_no_caption_stands_in_two_places():
    sections = {path.name: path.read_text() for path in (ROOT / "paper").rglob("*.typ")}
    for name, text in sections.items():
        assert "image(" not in text or name == "helpers.typ", (
            name
        )  # figures are shown by `fig`, which takes the caption
    words = [figure["caption"].split() for figure in captions.read().values()]
    beginnings = {" ".join(part[:8]) for part in words}
    assert len(beginnings) == len(words)
    others = [*sections.values(), *(path.read_text() for path in (ROOT / "paper/captions").glob("*.rst"))]
    for beginning in beginnings:
        assert not any(beginning in " ".join(text.split()) for text in others), beginning


def test_release_date_is_that_of_the_changelog():
    """Before a release neither file has a date; after it both have the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version, date = re.search(r"(?m)^## (\S+) \((.*)\)$", (ROOT / "CHANGELOG.md").read_text()).groups()
    assert version == citation["version"] == project["version"]
    assert str(citation.get("date-released", "unreleased")) == date


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
        "adam_minibatch_noise/__main__.py: os.open(os.devnull, os.O_WRONLY)",
        "common/cli.py: os.open(os.devnull, os.O_WRONLY)",
        "common/files.py: open(name, 'a+')",  # a lock
        "sim/small_networks/runs.py: open(journal, 'a', encoding='utf-8')",  # a torn last line is left out
        "common/files.py: tempfile.mkstemp(prefix=f'.{path.name}.', suffix=PART, dir=path.parent)",
    }


CUT = {"split", "rsplit", "partition", "rpartition", "startswith", "endswith", "removeprefix", "removesuffix"}
CUT |= {"contains", "extract", "match", "replace", "slice", "get"}


def cuts_a_name(node):
    """Whether a call cuts something out of the name of a case, or a comparison looks for a part of it."""
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
        return isinstance(node.left, ast.Constant) and re.search(
            r"\bcase\b", ast.unparse(node.comparators[0])
        )
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr in CUT and re.search(r"\bcase\b", ast.unparse(node.func.value))


def test_settings_are_not_cut_out_of_the_names_of_cases():
    """A case is a row whose columns say what it is; its name is a label."""
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in (ROOT / "analysis").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if cuts_a_name(node)
    ]
    words = r"split|starts-with|ends-with|contains|match|matches|replace|slice|find|position|trim"
    for path in (ROOT / "paper").rglob("*.typ"):
        found += [
            f"{path.name}: {hit}" for hit in re.findall(rf"\.case\.(?:{words})\b|\.case ==", path.read_text())
        ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "cut"),
    [
        ('cell["case"].split(" ", 1)', True),
        ('table["case"].str.contains("lr x")', True),
        ('case.endswith("b2")', True),
        ('" b2 " in case', True),
        ('"case" in row', False),
        ('cell["case"] == other["case"]', False),
        ('cell["optimizer"].split(" ")', False),
    ],
)
def test_cutting_of_names_is_seen(code, cut):
    assert any(cuts_a_name(node) for node in ast.walk(ast.parse(code))) == cut


def test_every_test_module_program_and_page_that_the_pages_name_exists():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "".join(path.read_text() for path in pages)
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 15
    tests = {path.stem: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    functions = re.findall(r"^def (test_\w+)\(", "".join(tests.values()), re.MULTILINE)
    assert named <= {*tests, *functions}
    programs = set(re.findall(r"python -m ((?:sim|train|analysis|common|bench)[.\w]*)", text))
    assert len(programs) > 10
    assert programs <= {*PROGRAMS, *WITH_PROGRAMS}
    for page in pages:
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        assert not [link for link in links if not (page.parent / link).exists()], page
