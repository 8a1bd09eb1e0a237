"""A copy of what git would give a newcomer, and the workflow run in it as a person runs it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BINARIES = Path(sys.executable).parent
SNAKEMAKE = (sys.executable, "-m", "snakemake")


def copy_to(folder):
    """Copy the repository's files, tracked or new, without what is ignored but compiled kernels that are there.

    Numba takes them for those of the copies, which are as old and as long; each index comes before what it names.
    """
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for path in (*ROOT.glob("sim/**/*.nbi"), *ROOT.glob("sim/**/*.nbc")):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return folder


def take_back(folder):
    """Copy kernels that were compiled in a copy of the repository, and are not here yet, for the tests that follow."""
    for index in folder.glob("sim/**/*.nbi"):
        target = ROOT / index.relative_to(folder)
        if target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        for path in (*index.parent.glob(f"{index.stem}.*.nbc"), index):  # the index comes last
            shutil.copy2(path, target.parent / path.name)


def environment(folder):
    """Environment in which this Python's programs come first and import the modules of `folder`."""
    path = f"{BINARIES}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(folder)}


def snakemake(folder, *argv, config="config/test.yaml", before=("--cores", "2"), prefix=()):
    """Run the workflow of `folder`; `before` are the flags that say where jobs run, `prefix` wraps the command."""
    command = [*prefix, *SNAKEMAKE, *before, *argv, "--configfile", config]
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
