"""A sweep that is killed, damaged, or left without room: nothing lost but the time since the last checkpoint."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.files import locked
from train import sweep

pytestmark = [pytest.mark.slow, pytest.mark.faults]

ROOT = Path(__file__).parent.parent
FLAGS = [
    *(
        "--n-layer",
        "1",
        "--d-model",
        "8",
        "--d-head",
        "4",
        "--d-inner",
        "8",
        "--tgt-len",
        "8",
        "--batch-size",
        "8",
    ),
    *(
        "--max-train-windows",
        "100",
        "--lr",
        "0.01",
        "--dropout",
        "0.2",
        "--patience",
        "0",
        "--n-epochs",
        "12",
    ),
    *("--beta2", "0.9", "0.99", "--seed", "0", "1", "--checkpoint-seconds", "0", "--no-progress"),
]
N_KILLS = 30


def command(out):
    return [sys.executable, "-m", "train.sweep", *FLAGS, "--out", str(out)]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".csv"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert sweep.main([*FLAGS, "--out", str(folder / "panel.csv")]) == 0
    return folder


def newest(work):
    """Time of the newest checkpoint; they are renamed and removed while we look."""
    times = [0.0]
    for path in work.glob("*.pt"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def kill_while_working(out, rng):
    """Start, wait until the sweep is under way, let it go on for up to a quarter of a second, kill -9.

    Returns whether it was killed; False if it ended by itself before.
    """
    process = subprocess.Popen(command(out), stderr=subprocess.DEVNULL)
    work, started = out.with_suffix(".work"), time.time()
    try:
        while process.poll() is None and newest(work) <= started:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.5) ** 2)
    finally:
        process.kill()
        status = process.wait()
    assert status in (0, -signal.SIGKILL)
    return status != 0


def two_states(out, rng):
    """Kill until there are a checkpoint of a run under way and the one before it; begin anew if the sweep is over."""
    while True:
        if not kill_while_working(out, rng):
            shutil.rmtree(out.parent)
            out.parent.mkdir()
        for state in out.with_suffix(".work").glob("*.pt"):
            before = state.with_name(state.name + ".previous")
            if before.exists() and not state.with_suffix(".json").exists():
                return state, before


def whole_rows(out, at_least):
    """Number of lines of the finished runs; none half written or there twice, none lost before the result is there."""
    seen = out.with_suffix(".work") / "runs.csv"
    lines = seen.read_text().splitlines() if seen.exists() else []
    assert len(lines) >= at_least or out.exists()
    assert all(line.count(",") == lines[0].count(",") for line in lines)
    assert len(set(lines)) == len(lines)
    return len(lines)


def test_sweep_killed_at_30_random_moments_gives_the_same_bytes(undisturbed, tmp_path):
    """A sweep that ends before it is killed is checked, thrown away and begun again, until all 30 kills are done."""
    rng, out, n_killed, rows = random.Random(5), tmp_path / "panel.csv", 0, 0
    while n_killed < N_KILLS:
        if kill_while_working(out, rng):
            n_killed += 1
            rows = whole_rows(out, rows)
        else:
            assert contents(tmp_path) == contents(undisturbed)
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
            rows = 0
    done = subprocess.run(command(out), capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert contents(tmp_path) == contents(undisturbed)
    assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(undisturbed))


@pytest.mark.parametrize("damage", ["one byte flipped", "truncated", "empty", "missing"])
def test_damaged_checkpoint_is_noticed_and_the_one_before_taken(damage, undisturbed, tmp_path):
    out, rng = tmp_path / "panel.csv", random.Random(damage)
    state, _ = two_states(out, rng)
    whole = state.read_bytes()
    if damage == "one byte flipped":
        place = rng.randrange(len(whole))
        state.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    elif damage == "missing":
        state.unlink()
    else:
        state.write_bytes(whole[: len(whole) // 2 if damage == "truncated" else 0])
    done = subprocess.run(command(out), capture_output=True, text=True, check=True)
    assert done.stderr.count("warning: ") == 1
    assert "going on from the state before" in done.stderr
    assert contents(tmp_path) == contents(undisturbed)


def test_two_damaged_checkpoints_are_one_line(tmp_path):
    out, rng = tmp_path / "panel.csv", random.Random(1)
    for path in two_states(out, rng):
        path.write_bytes(b"not a checkpoint")
    done = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("warning")]
    assert len(errors) == 1
    assert "the checkpoint is damaged" in errors[0]


def test_lock_ends_with_the_process_that_held_it(undisturbed, tmp_path):
    out = tmp_path / "panel.csv"
    holder = "import sys, time; from common.files import take_lock; x = take_lock(sys.argv[1]); print(); time.sleep(99)"
    words = [sys.executable, "-uc", holder, str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            process.stdout.readline()
            done = subprocess.run(command(out), capture_output=True, text=True, check=False)
        finally:
            process.kill()
    who = rf"process {process.pid} of \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    line = rf"error: {re.escape(str(out))}: another process is working on it \({who}\)\n"
    assert done.returncode == 2
    assert re.fullmatch(line, done.stderr), done.stderr
    with locked(out):
        pass
    assert os.listdir(tmp_path) == []


def namespace():
    """Words before a command that may mount a file system of its own; None where that is not allowed."""
    for words in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        if (
            shutil.which("unshare")
            and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode
        ):
            return words
    return None


PROGRAMS = {
    "train.run": [*FLAGS[:22], "--n-epochs", "1", "--no-progress", "--out", "panel.csv"],
    "train.sweep": [*FLAGS, "--out", "panel.csv"],
    "sim.exact": ["--n-samples", "16", "--n-params", "2", "--format", "json", "--out", "exact.json"],
    "sim.turning": [
        "--batch-sizes",
        "4096",
        "--noise-scales",
        "300",
        "--n-epochs",
        "1",
        "--out",
        "turning.csv",
    ],
    "analysis.certify": ["--format", "csv", "--out", "certify.csv"],
    "analysis.plot_c_total": ["--out", "figure.svg"],
}


@pytest.fixture(scope="module")
def cache_of_fonts(tmp_path_factory):
    """A folder where Matplotlib has written down the machine's fonts, with whatever it had to say about them."""
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path_factory.mktemp("fonts"))}
    subprocess.run(
        [sys.executable, "-c", "import matplotlib.font_manager"],
        env=environment,
        capture_output=True,
        check=True,
    )
    return environment["MPLCONFIGDIR"]


@pytest.mark.skipif(not namespace(), reason="no right to mount a file system")
@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_no_room_is_one_line_and_nothing_half_written(program, fault, tmp_path, cache_of_fonts):
    """On a file system of 64 KiB, filled to the last byte or mounted read-only."""
    make = "head -c 100K /dev/zero > filler" if fault == "full" else "mount -o remount,ro ."
    mount = f'mount -t tmpfs -o size=64k tmpfs "$0" && cd "$0" && {{ {make}; }} 2>/dev/null'
    script = mount + '; "$@" > /dev/null; echo "status $?"; find . -type f'
    words = [
        *namespace(),
        "sh",
        "-c",
        script,
        str(tmp_path),
        sys.executable,
        "-m",
        program,
        *PROGRAMS[program],
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLCONFIGDIR": cache_of_fonts}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)
    status, *left = done.stdout.splitlines()
    assert status == "status 2", done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("each epoch drops")]
    assert {"full": "No space left", "read-only": "Read-only"}[fault] in line
    assert left == (["./filler"] if fault == "full" else [])
