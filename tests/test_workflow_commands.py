"""Every command that the workflow gives is one that its program accepts, for every configuration that is shipped."""

import importlib
import re
import shlex
import subprocess
import sys

import pytest

from common.settings import from_flags
from tests.checkouts import ROOT, SNAKEMAKE

CONFIGURATIONS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "config").glob("*.yaml")
    if not path.match("*.schema.yaml")
)


def commands(configuration):
    """Words of every command line of a run from nothing, as a dry run prints them."""
    flags = ["--cores", "2", "--dry-run", "--forceall", "--printshellcmds", "--configfile", configuration]
    done = subprocess.run([*SNAKEMAKE, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"python -m (\S+) (.*) > \S+ 2>&1", done.stdout)
    return [(program, shlex.split(words)) for program, words in lines]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_programs_accept_the_flags_that_the_rules_give_them(configuration):
    found = commands(configuration)
    modules = {program: importlib.import_module(program) for program, _ in found}
    assert len([module for module in modules.values() if hasattr(module, "parser")]) > 18
    for program, words in found:
        module = modules[program]
        if not hasattr(module, "parser"):
            continue
        arguments = module.parser().parse_args(
            words
        )  # exits with status 2 if a flag or a value is not allowed
        if hasattr(module, "Settings"):
            from_flags(module.Settings, arguments)  # refuses flags that contradict each other


def test_the_check_would_see_a_flag_that_is_refused():
    module = importlib.import_module("sim.closeness")
    with pytest.raises(SystemExit):
        module.parser().parse_args(["--n-lr", "2"])
    assert "sim.closeness" in {program for program, _ in commands("config/test.yaml")}
    assert sys.executable == SNAKEMAKE[0]
