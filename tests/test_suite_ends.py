"""`make test` ends and says what failed, whatever a test does: its process dies, or waits for ever."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.faults]
SHORT = {"timeout": 2, "faulthandler_timeout": 5}
"""Seconds in place of the project's own limits."""
PASSING = "import time\nimport pytest\n@pytest.mark.parametrize('i', range(4))\ndef test_passes(i): time.sleep(0.1)\n"
DEADLOCK = """
    library, lock = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(lock)
    library.pthread_mutex_lock(lock)  # for ever, and no other thread of Python runs meanwhile
"""
FAULTY = {
    "dies": "def test_faulty(): os.abort()\n",
    "waits": "def test_faulty(): time.sleep(1000)\n",
    "waits in a fixture": "@pytest.fixture\ndef slow(): time.sleep(1000)\ndef test_faulty(slow): pass\n",
    "waits in a library": f"def test_faulty():{DEADLOCK}",
    "dies while it is imported": "os.abort()\n",
    "waits while it is imported": "time.sleep(1000)\n",
}


def flags():
    """Return what `make test` gives to pytest, with a short limit."""
    done = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    (command,) = re.findall(r" -m pytest (.*)", done.stdout.replace("\\\n", ""))
    found = shlex.split(
        command.partition("; tests=")[0]
    )  # what follows says what lint found beside the tests
    found[found.index("--timeout") + 1] = str(SHORT["timeout"])
    return found


@pytest.fixture
def project(tmp_path):
    """Tests of their own under the project's settings, with a short limit."""
    settings = (ROOT / "pyproject.toml").read_text()
    pattern, short = (
        r"^faulthandler_timeout = \d+$",
        f"faulthandler_timeout = {SHORT['faulthandler_timeout']}",
    )
    settings, n = re.subn(pattern, short, settings, flags=re.MULTILINE)
    assert n == 1
    (tmp_path / "pyproject.toml").write_text(settings)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    for name in "aceg":
        (tmp_path / f"tests/test_{name}.py").write_text(PASSING)
    return tmp_path


@pytest.mark.parametrize("fault", FAULTY)
def test_run_ends_and_names_the_fault(fault, project):
    header = "import ctypes, os, signal, time\nimport pytest\ndef test_before(): pass\n"
    footer = "def test_after(): pass\n"
    (project / "tests/test_d.py").write_text(header + FAULTY[fault] + footer)
    command = [sys.executable, "-m", "pytest", *flags(), "-n", "2"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=project, env=environment, start_new_session=True, **pipes) as run:
        try:
            out, _ = run.communicate(timeout=120)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode != 0, out
    assert re.search(r'tests/test_d\.py(", line |:)\d', out), out  # where it was
    if "imported" not in fault:
        assert re.search(r"^(FAILED|ERROR) tests/test_d\.py::test_faulty", out, re.MULTILINE), out
    if fault in ("waits", "waits in a fixture"):  # the others run all the same
        assert "18 passed" in out, out
