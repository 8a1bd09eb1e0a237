"""`make` in a folder with a blank and an apostrophe in its name, with values that hold blanks and apostrophes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.checkouts import ROOT, copy_to

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = sorted(
    {name for names in re.findall(r"(?m)^([a-z][a-z0-9 -]*):(?!=)", MAKEFILE) for name in names.split()}
)
DATA = "/data/it's my texts"
CONFIG = "config/a small one's.yaml"


def clean(environment):
    """Without what an outer `make` hands to an inner one."""
    return {
        name: value for name, value in environment.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }


def make(folder, *argv, **environment):
    return subprocess.run(
        ["make", *argv],
        cwd=folder,
        env=clean(os.environ) | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What git would give a newcomer, in a folder with an awkward name; in place of its .venv, this environment."""
    folder = tmp_path_factory.mktemp("awkward") / "it's a test"
    folder.mkdir()
    copy_to(folder)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (folder / ".venv/installed").touch()
    settings = yaml.safe_load((folder / "config/test.yaml").read_text())
    settings["results"] = "results-awkward"
    (folder / CONFIG).write_text(yaml.safe_dump(settings, sort_keys=False))
    return folder


def test_every_target_that_is_no_file_is_phony():
    (phony,) = re.findall(r"(?m)^\.PHONY: (.*)$", MAKEFILE)
    assert len(TARGETS) > 8
    assert sorted(phony.split()) == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_commands_of_every_target_take_values_with_blanks_whole(checkout, target):
    done = make(
        checkout,
        "-n",
        target,
        f"DATA_DIR={DATA}",
        f"CONFIG={CONFIG}",
        "PYTHON=/my tools/python3",
        "PROFILE=my profile",
    )
    assert done.returncode == 0, done.stderr
    for command in done.stdout.replace("\\\n", " ").splitlines():
        words = shlex.split(command, comments=True)
        for flag, value in (
            ("--configfile", CONFIG),
            ("--configuration", CONFIG),
            ("--profile", "my profile"),
        ):
            assert flag not in words or words[words.index(flag) + 1] == value, command
        if "--config" in words:
            assert yaml.safe_load(words[words.index("--config") + 1].removeprefix("data_dir=")) == DATA
        for word in words:
            assert not word.startswith("DATA_DIR=") or word == f"DATA_DIR={DATA}", command
            assert not word.startswith("PATH=") or word == f"PATH={checkout}/.venv/bin:$PATH", command


def test_the_environment_is_made_in_a_folder_with_blanks(checkout):
    done = make(checkout, "-n", "-B", ".venv/installed", "PYTHON=/my tools/python3")
    assert done.returncode == 0, done.stderr
    assert "'/my tools/python3' -m venv .venv\n" in done.stdout
    values = [word for word in shlex.split(done.stdout, comments=True) if word.startswith("VIRTUAL_ENV=")]
    assert values == [f"VIRTUAL_ENV={checkout}/.venv"] * 2


def test_a_file_that_is_no_configuration_ends_in_one_line(checkout):
    done = make(checkout, "CONFIG=config/no such file.yaml")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: config/no such file.yaml: No such file or directory"
    assert "Traceback" not in done.stderr


@pytest.mark.faults
@pytest.mark.slow
def test_workflow_runs_in_a_folder_with_blanks_on_data_in_a_folder_with_blanks(checkout, tmp_path):
    """The command of `make`, for a few files: a simulation, its figure, a training, a rule without a program."""
    data = tmp_path / "my texts"
    data.mkdir()
    done = make(checkout, "-n", "reproduce", f"DATA_DIR={data}", f"CONFIG={CONFIG}", "CORES=2")
    (command,) = [line for line in done.stdout.replace("\\\n", " ").splitlines() if "-m snakemake" in line]
    names = ("analysis/plot_turning.svg", "train/sweep/beta2_b256_lr0.002.csv", "configuration.html")
    targets = [f"results-awkward/{name}" for name in names]
    command = command.replace("-m snakemake", f"-m snakemake {' '.join(targets)}")
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=checkout,
        env=clean(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert all((checkout / target).is_file() for target in targets)
    listing = max(
        (checkout / ".snakemake/log").glob("*.log"), key=lambda path: path.stat().st_mtime
    ).read_text()
    assert "4 of 4 steps (100%) done" in listing
    assert str(data) in (checkout / "results-awkward/configuration.html").read_text()
    removed = make(checkout, "clean", f"CONFIG={CONFIG}")
    assert "removed results-awkward: " in removed.stdout
    assert not (checkout / "results-awkward").exists()


def test_measuring_script_takes_a_folder_of_data_with_blanks(checkout, tmp_path):
    """With a program in place of Python that only writes down how it was called, and may keep what it compiles."""
    log = tmp_path / "calls"
    python = tmp_path / "my python"
    python.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "assert 'PYTHONDONTWRITEBYTECODE' not in os.environ\n"
        f"open({str(log)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    python.chmod(0o755)
    words = ("gpu", f"GPU_PYTHON={python}", f"DATA_DIR={DATA}")
    done = make(checkout, *words, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr
    calls = [yaml.safe_load(line) for line in log.read_text().splitlines()]
    trainings = [call for call in calls if call[1].startswith("train.")]
    assert len(trainings) > 5
    assert all(call[call.index("--data-dir") + 1] == DATA for call in trainings)


def test_scripts_are_valid_shell():
    for path in [ROOT / ".ci/run", *Path(ROOT / "records").rglob("*.sh")]:
        assert subprocess.run(["bash", "-n", path], check=False).returncode == 0, path
