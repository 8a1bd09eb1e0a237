"""The same seed gives the same bytes: with any number of threads, with the JIT cache and without, by rule or by hand.

A training that was killed and resumed: tests/test_faults.py and tests/test_faults_pipeline.py. On a Slurm cluster:
tests/test_slurm.py.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkouts import BINARIES, copy_to, environment, snakemake
from tests.malformed import flags_of, main_of, parser_of
from tests.test_architecture import PROGRAMS

ROOT = Path(__file__).parent.parent
CNN = (
    "--n-samples 8 --patch-length 17 --n-noise 2 --noise-std 0.5 --n-filters 2 --init-std 0.3 --lr 1e-3 --n-epochs 20"
    " --n-test 40 --n-records 4"
)
THREADED = {
    "sim.expectation": "--n-samples 12 --n-params 3 --batch-size 3 --n-permutations 1500",  # 6 blocks
    "sim.closeness": "--problem quadratics --optimizer adam --beta1 0.5 --beta2 0.6 --eps-root 0.01 --n-decades 1"
    " --n-lr 3 --horizon 0.02 --lr-max 5e-4",
    "sim.invariance": "--kappas 2 4 --cases least-squares-quiet --n-lr 3 --n-decades 1 --lrs 1e-5 1e-3 --n-epochs 2"
    " --n-seeds 3 --problems least-squares",
    "sim.feature_noise_run": f"{CNN} --n-seeds 5",
    "sim.feature_noise_studies": f"{CNN} --study optimizers --n-seeds 2",
    "sim.overfitting": "--n-samples 64 --max-epochs 5 --batch-size 16 0 --lr 0.01 --beta2 0.9 0.999",
    "sim.overfitting_study": "--variant regression --n-seeds 1 --batch-sizes 64 128 --curves diagonal",
}
TABLE_ALONE = "sim.overfitting", "sim.overfitting_study"
"""Programs whose only form of output is a table."""


def test_every_simulation_with_threads_is_listed():
    with_threads = {
        program
        for program in PROGRAMS
        if program.startswith("sim.")
        and any("--n-threads" in flag.option_strings for flag in flags_of(parser_of(program)))
    }
    assert with_threads == set(THREADED)


@pytest.mark.parametrize("program", THREADED)
def test_same_bytes_with_1_2_and_4_threads(program, tmp_path):
    tables = {}
    for n_threads in (1, 2, 4):
        out = tmp_path / f"{n_threads}.csv"
        words = f"{THREADED[program]} --n-threads {n_threads} --out {out}"
        if program not in TABLE_ALONE:
            words += " --format csv"
        if program == "sim.invariance":
            words += f" --spread-out {tmp_path / 'spread.csv'}"
        main_of(program)(words.split())
        tables[n_threads] = out.read_bytes()
        if program == "sim.invariance":
            tables[n_threads] += (tmp_path / "spread.csv").read_bytes()
    assert tables[1] == tables[2] == tables[4]
    assert tables[1].count(b"\n") > 2


def run(code, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.faults
@pytest.mark.slow
def test_same_bytes_with_the_jit_cache_fresh_read_and_off(tmp_path):
    """A kernel compiled now, the same read from the cache, and one compiled without a cache."""
    flags = [*THREADED["sim.feature_noise_run"].split(), "--n-threads", "1", "--format", "csv", "--out"]
    cache, tables = tmp_path / "cache", {}
    off = (
        "import numba.core.dispatcher as d; d.Dispatcher.enable_caching = lambda self: None\n"
        "import numba.core.ccallback as c; c.CFunc.enable_caching = lambda self: None\n"
    )
    for way in ("fresh", "read", "off"):
        out = tmp_path / f"{way}.csv"
        before = len(list(cache.rglob("*.nbc")))
        code = f"from sim.feature_noise_run import main; main({[*flags, str(out)]!r})"
        run(
            (off if way == "off" else "") + code,
            NUMBA_CACHE_DIR=str(cache / ("off" if way == "off" else "on")),
        )
        n_compiled = len(list(cache.rglob("*.nbc"))) - before
        assert (n_compiled > 0) == (way == "fresh")
        tables[way] = out.read_bytes()
    assert tables["fresh"] == tables["read"] == tables["off"]


TARGETS = ["results-test/sim/expectation.csv", "results-test/train/image_sweep/batch-adamw.csv"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_to(tmp_path_factory.mktemp("checkout"))


def typed(checkout):
    """The commands that a dry run prints, as a person would type them, with another place for results."""
    done = snakemake(checkout, "-n", "-p", "-F", *TARGETS)
    start = "Shell command: "
    commands = [line.removeprefix(start) for line in done.stdout.splitlines() if line.startswith(start)]
    return [command.split(" > ")[0].replace("results-test/", "by-hand/") for command in commands]


def take(checkout):
    return {target: (checkout / target).read_bytes() for target in TARGETS}


@pytest.mark.faults
@pytest.mark.slow
def test_same_bytes_through_make_snakemake_and_python(checkout):
    """One simulation and one training; `make` is given the environment that is already there, and the two tables."""
    done = snakemake(checkout, *TARGETS)
    assert done.returncode == 0, done.stderr[-3000:]
    by_rule = take(checkout)

    commands = typed(checkout)
    assert len(commands) == len(TARGETS)
    for command in commands:
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"]
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=checkout,
            env=environment(checkout),
            capture_output=True,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr[-2000:]
    for target in TARGETS:
        assert (checkout / target.replace("results-test/", "by-hand/")).read_bytes() == by_rule[target]

    for target in TARGETS:
        (checkout / target).unlink()
    (checkout / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (checkout / ".venv" / name).symlink_to(BINARIES.parent / name)
    (checkout / ".venv/installed").touch()  # nothing to install
    words = ["make", "CONFIG=config/test.yaml", "CORES=2 " + " ".join(TARGETS)]
    done = subprocess.run(
        words, cwd=checkout, env=environment(checkout), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert take(checkout) == by_rule


@pytest.mark.faults
@pytest.mark.slow
def test_numbers_hold_without_the_compiler():
    """What is held against 50 digits, and the training runs, with the kernels run as plain Python."""
    files = [f"tests/test_{name}.py" for name in ("numbers", "numbers_kernels", "sim_trajectories")]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
