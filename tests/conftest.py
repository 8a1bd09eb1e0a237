import faulthandler
import os
import shutil
import socket
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "agg")
COMPILING = ("test_sim_overfitting", "test_sim_feature_noise_run")


def pytest_configure(config):
    """End a process that hangs while it imports the tests: pytest's own limits begin with the first test."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        seconds, uncaptured = float(config.getini("faulthandler_timeout")), os.dup(sys.__stderr__.fileno())
        faulthandler.dump_traceback_later(seconds, exit=True, file=uncaptured)


def pytest_collection_finish():
    faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)  # after pytest has taken away what -m does not ask for
def pytest_collection_modifyitems(items):
    """Files with many slow tests first: a file stays with one worker, and one that begins last would run alone.

    Before them those that compile what copies of the repository take over (`tests.checkouts`).
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (item.path.stem not in COMPILING, -slow[item.path]))


@pytest.fixture
def rng():
    return np.random.default_rng(20260202)


@pytest.fixture
def fails(capsys):
    """Run a program's main through the door; return its one line of complaint."""
    from common.cli import run

    def fails(main, *argv, status=2):
        with pytest.raises(SystemExit) as caught:
            run(main, [str(arg) for arg in argv])
        out, err = capsys.readouterr()
        assert caught.value.code == status, (out, err)
        assert err.strip().count("\n") == 0, err
        assert "Traceback" not in err
        return err

    return fails


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder of its own, with the configuration, a home of its own, and no network."""
    folder = tmp_path_factory.mktemp("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))

        def no_network(*_args, **_kwargs):
            raise OSError("no network in tests")

        patch.setattr(socket, "create_connection", no_network)
        shutil.copytree(Path(__file__).parent.parent / "config", folder / "config")
        yield
