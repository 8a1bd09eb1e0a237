"""Every command that the workflow gives is one that its program accepts, for every configuration that is shipped."""

import functools
import importlib
import re
import shlex
import subprocess
import sys

import pytest

from common.config import MAIN, load
from common.settings import from_flags
from tests.checkouts import ROOT, SNAKEMAKE
from train.runtime import device_flags

CONFIGURATIONS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "config").glob("*.yaml")
    if not path.match("*.schema.yaml")
)


@functools.cache
def commands(configuration, *more):
    """Words of every command line of a run from nothing, as a dry run prints them."""
    flags = [
        "--cores",
        "2",
        "--dry-run",
        "--forceall",
        "--printshellcmds",
        "--configfile",
        configuration,
        *more,
    ]
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


@pytest.mark.parametrize(
    ("configuration", "programs"),
    [
        ("config/test.yaml", set()),
        ("config/wikitext2-small.yaml", {"train.sweep", "train.run", "train.noise_scale"}),
    ],
)
def test_the_folder_of_data_goes_to_the_jobs_that_read_from_it(configuration, programs):
    found = commands(configuration, "--config", "data_dir='/my texts'")
    trainings = [(program, words) for program, words in found if program.startswith("train.")]
    assert {program for program, words in trainings if "--data-dir" in words} == programs
    for program, words in trainings:
        arguments = importlib.import_module(program).parser().parse_args(words)
        assert ("checkpoint_seconds" in arguments.given) <= (program != "train.run")
        if "--data-dir" in words:
            assert str(arguments.data_dir) == "/my texts"
        if program != "train.noise_scale":  # which learns of its text from the snapshots
            name = arguments.dataset if program == "train.image_sweep" else arguments.corpus
            device_flags.check_folders(arguments, name)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_recorded_trainings_are_drawn_where_the_configuration_names_them(configuration):
    words = {
        program: [word for name, words in commands(configuration) if name == program for word in words]
        for program in ("analysis.plot_sweep", "analysis.plot_image_sweep", "analysis.article_numbers")
    }
    train = load(MAIN, configuration)["train"]
    for program, section, name, n in (
        ("analysis.plot_sweep", "sweep", "beta2_b128_lr0.002_seeds-0.csv", 2),
        ("analysis.article_numbers", "sweep", "beta2_b128_lr0.002_seeds-0.json", 1),
        ("analysis.plot_image_sweep", "image_sweep", "batch/digits-adamw.csv.gz", 1),
    ):
        folder = train[section]["records"]
        found = [word for word in words[program] if word.startswith("records/train/") and word.endswith(name)]
        assert found == [f"{folder}/{name}"] * (n if folder else 0), program
    tables = words["analysis.plot_sweep"]
    made_here = next(i for i, word in enumerate(tables) if re.match("results.*/train/sweep/", word))
    assert tables[made_here - 1] == "--tables"  # the first: of a run that is in several tables, it counts


def test_the_check_would_see_a_flag_that_is_refused():
    module = importlib.import_module("sim.closeness")
    with pytest.raises(SystemExit):
        module.parser().parse_args(["--n-lr", "2"])
    assert "sim.closeness" in {program for program, _ in commands("config/test.yaml")}
    assert sys.executable == SNAKEMAKE[0]
