"""The workflow, killed again and again: what was finished stays, the rest is made, and the tables are the same."""

import base64
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from adam_minibatch_noise.errors import InputError
from common.files import locked
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


@contextlib.contextmanager
def working(folder, *targets, config="config/test.yaml"):
    """Start a workflow, its words in the file `out`; kill -9 it and what is left of its jobs when the block ends."""
    command = [str(BINARIES / "snakemake"), "--cores", "2", *targets, "--configfile", config]
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def kill_while_working(folder, rng):
    """Start, wait for the first job, let it go on for a while, kill -9 it and all of its jobs.

    Returns whether it was killed; False if it ended by itself before.
    """
    with working(folder, *TARGETS) as process:
        while process.poll() is None and b"rule " not in (folder / "out").read_bytes():
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 3))
    assert process.returncode in (0, -signal.SIGKILL), (folder / "out").read_text()[-3000:]
    return process.returncode != 0


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


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Small configuration whose training goes on until it is killed."""
    folder = copy_to(tmp_path_factory.mktemp("checkout"))
    config = yaml.safe_load((folder / "config/test.yaml").read_text())
    config["train"]["sweep"]["settings"] |= {"n_epochs": 1000, "patience": 0, "checkpoint_seconds": 0}
    (folder / "config/longer.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


TRAINING = "results-test/train/sweep/beta2_b64_lr0.002"


def wait_until_it_trains(process, folder, seconds=300):
    """Wait until the training of this workflow, not of one before it, holds its output and has saved its state."""
    work, started = folder / TRAINING.replace("results-test", "results-test/checkpoints"), time.time()

    def trains():
        times = [0.0]
        for path in work.glob("*.pt"):
            with contextlib.suppress(FileNotFoundError):  # renamed while we look
                times.append(path.stat().st_mtime)
        return max(times) > started

    end = time.monotonic() + seconds
    while not trains():
        assert process.poll() is None, (folder / "out").read_text()[-3000:]
        assert time.monotonic() < end, (folder / "out").read_text()[-3000:]
        time.sleep(0.02)
    assert is_held(folder / f"{TRAINING}.csv")


def is_held(path):
    """Whether a process works on a result."""
    try:
        with locked(path):
            return False
    except InputError:
        return True


def test_second_workflow_on_the_same_results_refuses_and_says_who_works_on_them(checkout):
    with working(checkout, f"{TRAINING}.csv", config="config/longer.yaml") as process:
        wait_until_it_trains(process, checkout)
        done = snakemake(checkout, TARGETS[0])
        assert process.poll() is None
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error: results-test/workflow: another process is working on it (process ")
    assert f"(process {process.pid} of " in line
    assert not (checkout / TARGETS[0]).exists()


def test_jobs_end_with_their_workflow_though_it_alone_is_killed(checkout):
    """As by the kernel when memory is short: an orphan would hold its output against the workflow's next start."""
    with working(checkout, f"{TRAINING}.csv", config="config/longer.yaml") as process:
        wait_until_it_trains(process, checkout)
        process.kill()
        process.wait()
        end = time.monotonic() + 60
        while is_held(checkout / f"{TRAINING}.csv"):
            assert time.monotonic() < end
            time.sleep(0.02)
    assert not (checkout / f"{TRAINING}.csv").exists()
    log = checkout / f"{TRAINING.replace('results-test', 'results-test/logs')}.log"
    assert log.read_text().endswith("error: the workflow that started this has ended\n")


def test_output_of_a_job_that_did_not_end_is_made_again(checkout):
    """The moment between a job's last file and Snakemake's note that it is done is too short to be hit by chance."""
    assert snakemake(checkout, TARGETS[0]).returncode == 0
    note = base64.urlsafe_b64encode(TARGETS[0].encode()).decode()
    (checkout / ".snakemake/incomplete" / note).write_text('{"external_jobid": null}')
    done = snakemake(checkout, TARGETS[0])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rule certify" in done.stderr + done.stdout
