"""The workflow, killed again and again: what was finished stays, the rest is made, and the tables are the same."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.checkouts import BINARIES, copy_to, environment, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.faults]

TARGETS = [
    "results-test/analysis/certify.csv",
    "results-test/analysis/plot_terms.svg",
    "results-test/analysis/plot_turning.svg",
    "results-test/train/sweep/beta2_b64_lr0.002.csv",
    "results-test/train/sweep/beta2_b256_lr0.002.csv",
]
N_KILLS = 30


def contents(folder):
    """Bytes of every table and every figure; how long a job took is no part of them."""
    paths = [path for suffix in ("csv", "svg") for path in folder.glob(f"results-test/**/*.{suffix}")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = copy_to(tmp_path_factory.mktemp("undisturbed"))
    done = snakemake(folder, *TARGETS)
    assert done.returncode == 0, done.stderr[-3000:]
    return contents(folder)


def kill_while_working(folder, rng):
    """Start, wait for the first job, let it go on for a while, kill -9 it and all of its jobs.

    Returns whether it was killed; False if it ended by itself before.
    """
    command = [str(BINARIES / "snakemake"), "--cores", "2", *TARGETS, "--configfile", "config/test.yaml"]
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=out, stderr=out, start_new_session=True
        )
        try:
            while process.poll() is None and b"rule " not in (folder / "out").read_bytes():
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 3))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    assert status in (0, -signal.SIGKILL), (folder / "out").read_text()[-3000:]
    return status != 0


def test_workflow_killed_at_30_random_moments_gives_the_same_bytes(undisturbed, tmp_path):
    """A workflow that ends before it is killed is checked, its results thrown away and made again, for all 30 kills."""
    folder, rng, n_killed = copy_to(tmp_path), random.Random(8), 0
    while n_killed < N_KILLS:
        if kill_while_working(folder, rng):
            n_killed += 1
            now = contents(folder)
            assert all(undisturbed[name] == table for name, table in now.items())  # whole, or not there
        else:
            assert contents(folder) == undisturbed
            shutil.rmtree(folder / "results-test")
    done = snakemake(folder, *TARGETS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert contents(folder) == undisturbed
    assert not list(folder.glob("results-test/**/*.part"))


def test_second_workflow_on_the_same_results_refuses(tmp_path):
    folder = copy_to(tmp_path)
    from sim.records import locked

    with locked(folder / "results-test" / "workflow"):
        done = snakemake(folder, TARGETS[0])
    assert done.returncode == 2
    assert "error: results-test/workflow: another process is working on it" in done.stderr
    assert not (folder / "results-test").exists() or not contents(folder)
