"""How every program of the project reads its flags and ends: bad input is one line on standard error, status 2."""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from adam_minibatch_noise.errors import InputError
from common.files import atomic_write, end_with_workflow, to_csv, to_json


class Parser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that reports an error in one line and never guesses an abbreviated flag."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def parse_known_args(
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, and refuse a folder as the file of `--out` before any work is done (where one is meant: "FOLDER")."""
        known, others = super().parse_known_args(args, namespace)
        for action in self._actions:
            out = getattr(known, action.dest, None) if action.dest == "out" else None
            if out is not None and action.metavar != "FOLDER" and Path(out).is_dir():
                self.error(f"argument --out: {out} is a folder, allowed: the name of a file")
        return known, others

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
    end_with_workflow()
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
