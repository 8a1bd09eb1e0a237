import concurrent.futures
import errno
import fcntl
import json
import math
import os
import threading

import numpy as np
import pytest

from common import files


def test_atomic_write_leaves_nothing_behind_on_failure(tmp_path):
    path = tmp_path / "folder" / "file.csv"

    def fail():
        with files.atomic_write(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(path.parent.iterdir()) == []


def test_atomic_write_refuses_a_folder_before_the_block(tmp_path):
    (tmp_path / "taken").mkdir()
    with (
        pytest.raises(files.InputError, match="taken is a folder"),
        files.atomic_write(tmp_path / "taken"),
    ):
        pytest.fail("the block was entered")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_atomic_write_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with files.atomic_write(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o022) or 0o022)


def test_to_json_turns_what_json_lacks_into_null():
    text = files.to_json({"a": np.array([1.0, np.nan]), "b": math.inf, "c": np.int64(3), "d": np.bool_(True)})
    assert json.loads(text) == {"a": [1.0, None], "b": None, "c": 3, "d": True}


def test_write_csv_keeps_full_precision(tmp_path):
    files.write_csv(tmp_path / "x.csv", [{"a": 0.1 + 0.2, "b": "t"}])
    assert (tmp_path / "x.csv").read_text() == "a,b\n0.30000000000000004,t\n"


def test_to_table_aligns_columns():
    assert files.to_table(["a", "bb"], [[1, 2.5], [10, "x"], {"c": 0, "bb": None, "a": 3}]).splitlines() == [
        " a   bb",
        "--  ---",
        " 1  2.5",
        "10    x",
        " 3    -",
    ]


def test_what_a_killed_writer_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    path = tmp_path / "table[1].csv"
    (tmp_path / ".table[1].csv.x1y2z3.part").write_text("half")
    (tmp_path / ".table[1].csvs.x1y2z3.part").write_text("of another file")
    with files.atomic_write(path) as slow:
        slow.write("slow\n")
        with files.atomic_write(path) as fast:
            fast.write("fast\n")
        assert path.read_text() == "fast\n"
    assert path.read_text() == "slow\n"
    assert sorted(os.listdir(tmp_path)) == [".table[1].csvs.x1y2z3.part", "table[1].csv"]


def test_many_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    """Each removes what it takes for abandoned while the others begin and end."""

    def write(i):
        for _ in range(50):
            files.write_json(tmp_path / "x.json", i)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert os.listdir(tmp_path) == ["x.json"]


def test_without_locks_on_the_file_system_work_goes_on_with_a_warning(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with files.locked(tmp_path / "x.csv"):
        files.write_json(tmp_path / "x.json", 1)
    assert "no locks on this file system" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["x.json"]


def test_lock_that_fails_in_another_way_is_not_taken_for_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        files.take_lock(tmp_path / "x.csv")


@pytest.mark.parametrize("there", [True, False])
def test_without_locks_a_job_is_not_ended_as_if_its_workflow_had(there, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    ended, before = [], set(threading.enumerate())
    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setenv(files.WORKFLOW_LOCK, str(tmp_path / ".workflow.lock"))
    if there:
        (tmp_path / ".workflow.lock").touch()
    files.end_with_workflow()
    for thread in set(threading.enumerate()) - before:
        thread.join()  # an error there is a warning, and so an error here
    assert not ended
