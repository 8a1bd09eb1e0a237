"""How every program of the project writes its files: a file takes its name only when it is whole."""

import contextlib
import csv
import errno
import glob
import io
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from adam_minibatch_noise.errors import InputError


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its name only if the block ends well: no reader ever sees half of it.

    Parameters
    ----------
    path : path
        Missing folders are made; what a killed writer of this file left beside it is removed.
    mode : {"w", "wb"}

    Yields
    ------
    file object
        UTF-8 and Unix line ends in text mode.

    Raises
    ------
    InputError
        If `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, allowed: the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    remove_abandoned(path)
    handle, temporary = _make_part(path)
    try:
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)  # before the lock on it ends
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


PART = ".part"
"""How the name of a file ends that is being written."""


def _make_part(path: Path) -> tuple[int, str]:
    """Open a new file beside `path`, locked for as long as it is being written."""
    import fcntl

    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent)
        with contextlib.suppress(OSError):  # a file system without locks: then nothing is ever removed
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # else it was taken for an abandoned one before it was locked
            return handle, name
        os.close(handle)


def remove_abandoned(path: Path) -> None:
    """Remove what writers of `path` left that were killed: parts that nobody holds locked."""
    import fcntl

    for name in glob.glob(f".{glob.escape(path.name)}.*{PART}", root_dir=path.parent):
        with contextlib.suppress(OSError), open(path.parent / name, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path.parent / name)


NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
"""How a file system says that it has no locks, as some of clusters do not."""


def take_lock(path: str | Path) -> IO[str]:
    """Keep other processes from working on a result, for as long as this process lives and holds what is returned.

    Parameters
    ----------
    path : path
        The result; the lock is a hidden file beside it. It outlives the process, the lock does not.

    Returns
    -------
    file object
        Closing it gives the lock back.

    Raises
    ------
    InputError
        Another process holds the lock; the message says which one, and since when.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.lock")
    file = open(name, "a+")  # noqa: SIM115 (open is what holds the lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(name)  # gone if its holder has just left: then a third process may hold a new one
    except (BlockingIOError, FileNotFoundError):
        file.seek(0)
        holder = file.read()
        file.close()
        raise InputError(
            f"{path}: another process is working on it" + (f" ({holder})" if holder else "")
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            file.close()
            raise
        print(
            f"warning: {path}: no locks on this file system, see to it yourself that nothing else works on it",
            file=sys.stderr,
        )
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # no room: then a second process is not told who it is
        os.truncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} of {os.uname().nodename} since {since}".encode())
    return file


WORKFLOW_LOCK = "WORKFLOW_LOCK"
"""Environment variable of the jobs of a workflow: the lock that it holds for as long as it lives."""


def end_with_workflow() -> None:
    """See to it that this process ends when the workflow that started it does, even by kill -9.

    A job that outlived its workflow would hold the lock of its output against the workflow's next start.
    """
    import fcntl
    import threading

    name = os.environ.get(WORKFLOW_LOCK)
    if not name:
        return

    def wait() -> None:
        with contextlib.suppress(OSError), open(name, "rb") as file:  # a file system without locks: no end
            fcntl.flock(file, fcntl.LOCK_SH)  # waits for the end of the process that holds it
            with contextlib.suppress(OSError):
                os.write(2, b"error: the workflow that started this has ended\n")
            os._exit(2)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def locked(path: str | Path, wanted: bool = True) -> Iterator[None]:
    """Hold the lock of `take_lock` during a block, if it is `wanted`, and leave no file behind."""
    if not wanted:
        yield
        return
    with take_lock(path) as file:
        try:
            yield
        finally:
            os.unlink(file.name)


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Format `rows` as CSV; the keys of the first row are the columns; floats in full precision.

    Parameters
    ----------
    rows : iterable of mappings
        At least one; all with the same keys.
    """
    rows, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` as CSV (see `to_csv`)."""
    with atomic_write(path) as file:
        file.write(to_csv(rows))


def to_json(value: Any) -> str:
    """Format `value` as JSON that any parser reads: arrays become lists; nan and infinities become null."""

    def plain(item: Any) -> Any:
        if hasattr(item, "tolist"):
            item = item.tolist()
        if isinstance(item, Mapping):
            return {str(key): plain(entry) for key, entry in item.items()}
        if isinstance(item, list | tuple):
            return [plain(entry) for entry in item]
        if isinstance(item, Path):
            return str(item)
        if isinstance(item, float) and not math.isfinite(item):
            return None
        return item

    return json.dumps(plain(value), indent=1, allow_nan=False)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON (see `to_json`)."""
    with atomic_write(path) as file:
        file.write(to_json(value) + "\n")


def to_table(columns: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> str:
    """Lay out `rows`, or mappings that have them, under `columns`: right-aligned, 6 digits, a dash for None."""

    def shown(cell: Any) -> str:
        return "-" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)

    values = ([row[name] for name in columns] if isinstance(row, Mapping) else row for row in rows)
    cells = [[shown(cell) for cell in row] for row in values]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [columns, ["-" * width for width in widths], *cells]
    padded = ([cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)
