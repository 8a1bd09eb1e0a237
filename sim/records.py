"""How every program of the project reads its flags and writes its files.

Bad input ends in one line on standard error and exit status 2; a file takes its name only when it is whole.
"""

import argparse
import contextlib
import csv
import io
import json
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn


class InputError(ValueError):
    """A flag, a configuration value or a file that cannot be used; the message is the one line to show."""


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that reports an error in one line and never guesses an abbreviated flag."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Print `message` in one line and exit with status 2."""
        print(f"{self.prog}: error: {' '.join(message.split())}", file=sys.stderr)
        raise SystemExit(2)


TOO_BIG = (
    "array is too big",
    "Maximum allowed",
    "t allocate memory",
    "size calculation overflow",
    "out of memory",
)
"""How NumPy says that an array has more bytes than can be counted, and PyTorch that memory is short."""


def run(main: Callable[[list[str] | None], int | None], argv: list[str] | None = None) -> NoReturn:
    """Run the `main` of a module and turn what it cannot use into one line and exit status 2.

    Parameters
    ----------
    main : callable
        Takes the argument list (None: that of the process) and returns the exit status (None: 0).
    argv : list of str, optional
        Passed on to `main`.

    Raises
    ------
    SystemExit
        Always: 0 or what `main` returned; 2 after `InputError`, a file that cannot be read or written, a result
        that overflows or divides by 0, or too little memory; 130 after an interrupt from the keyboard.
    """
    try:
        with warnings.catch_warnings():
            # NumPy warns and goes on with inf or nan, which would then be written down as results
            warnings.filterwarnings("error", ".* encountered in ", RuntimeWarning)
            status = main(argv) or 0
        sys.stdout.flush()
    except InputError as error:
        status = _complain(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        status = _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except RuntimeWarning as error:
        if " encountered in " not in str(error):
            raise
        status = _complain(f"{error}: a value is too large or too small for this study, or a gradient is 0")
    except (MemoryError, ValueError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in TOO_BIG):
            raise
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        status = _complain(f"not enough memory ({reason}), allowed: smaller sizes")
    except KeyboardInterrupt:
        status = _complain("interrupted", 130)
    raise SystemExit(status)


def _complain(message: str, status: int = 2) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


LARGEST = 10**12
"""Largest whole number that a flag takes, unless its type says otherwise: what no machine could count or hold."""


def number(
    kind: type,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> Callable[[str], Any]:
    """Make an `argparse` type: a finite number of an interval, closed unless said otherwise.

    Parameters
    ----------
    kind : {int, float}
    low, high : float
        Ends of the interval; `high` of a whole number is at most `LARGEST` unless given.
    open_low, open_high : bool
        Whether the end itself is excluded.

    Returns
    -------
    callable
        From str to `kind`; raises `argparse.ArgumentTypeError` naming the value and the allowed range.
    """
    if kind is int and high == math.inf:
        high = LARGEST
    noun = "a whole number" if kind is int else "a finite number"
    ends = []
    if low > -math.inf:
        ends.append(f"{'>' if open_low else '>='} {low:g}")
    if high < math.inf:
        ends.append(f"{'<' if open_high else '<='} {high:g}")
    allowed = " ".join([noun, " and ".join(ends)]).strip()

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        inside = (value > low if open_low else value >= low) and (
            value < high if open_high else value <= high
        )
        if not (inside and math.isfinite(value)):
            shown = text if len(text) <= 60 else text[:57] + "..."
            raise argparse.ArgumentTypeError(f"is {shown!r}, allowed: {allowed}")
        return value

    return parse


beta = number(float, 0, 1, open_high=True)
"""Type of a decay rate: 0 <= beta < 1."""
positive = number(float, 0, open_low=True)
"""Type of a learning rate and the like: > 0."""
nonnegative = number(float, 0)
"""Type of a regularisation constant: >= 0."""
count = number(int, 1)
"""Type of a number of things: a whole number >= 1."""
seed = number(int, 0, 2**63 - 1)
"""Type of a seed."""


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its name only if the block ends well: no reader ever sees half of it.

    Parameters
    ----------
    path : path
        Missing folders are made.
    mode : {"w", "wb"}

    Yields
    ------
    file object
        UTF-8 and Unix line ends in text mode.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


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
        Another process holds the lock.
    """
    import fcntl

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.lock")
    file = open(name, "w")  # noqa: SIM115 (open is what holds the lock)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(name)  # gone if its holder has just left: then a third process may hold a new one
    except (BlockingIOError, FileNotFoundError):
        file.close()
        raise InputError(f"{path}: another process is working on it") from None
    return file


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


def to_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Lay out `rows` under `columns` as text, right-aligned, floats with six significant digits."""
    cells = [[f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [columns, ["-" * width for width in widths], *cells]
    padded = ([cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def add_output_flags(parser: Any) -> None:
    """Add --format and --out, which `write_result` obeys, to a parser or to one of its groups."""
    formats = ["table", "json", "csv"]
    parser.add_argument("--format", choices=formats, default=formats[0], help="form of the output")
    parser.add_argument("--out", metavar="FILE", help="write there (by rename) instead of standard output")


def write_result(args: argparse.Namespace, rows: Iterable[Mapping[str, Any]], value: Any, table: str) -> None:
    """Write a result in the form that the flags of `add_output_flags` ask for.

    Parameters
    ----------
    args : argparse.Namespace
    rows : iterable of mappings
        For ``--format csv`` (see `to_csv`).
    value : object
        For ``--format json`` (see `to_json`).
    table : str
        For ``--format table``.
    """
    text = {"csv": lambda: to_csv(rows), "json": lambda: to_json(value) + "\n", "table": lambda: table + "\n"}
    if args.out is None:
        sys.stdout.write(text[args.format]())
    else:
        with atomic_write(args.out) as file:
            file.write(text[args.format]())
