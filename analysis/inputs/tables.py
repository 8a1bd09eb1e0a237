"""Read the CSV files that the studies wrote."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

TEXT = (
    "activation batches case component corpus correction dataset dtype ended_by error model norm optimizer part places "
    "problem published rule scaling shuffle status study supports swept swept_beta task term variant verdict embedding"
)
"""Columns that hold words; every other one holds numbers, empty where there is none."""


def read(
    paths: Iterable[str | Path],
    columns: Iterable[str] = (),
    finite: Iterable[str] = (),
    finite_where: Mapping[str, str] = MappingProxyType({}),
    later: Mapping[str, Any] = MappingProxyType({}),
) -> "pd.DataFrame":
    """Read CSV files of one kind into one table.

    Parameters
    ----------
    paths : iterable of paths
    columns : iterable of str
        Columns that must be there, those that are not in `TEXT` with numbers.
    finite : iterable of str
        Those of them whose cells all hold a finite number: an empty one would be left out of a sum or a maximum unseen.
    finite_where : mapping of str to str
        Those that hold a finite number in the rows where another column does, such as an excess where there is a bound,
        and are empty in the others.
    later : mapping of str to object
        Columns that tables recorded earlier lack, and what holds there.

    Returns
    -------
    pandas.DataFrame
        Rows in the order of the files.

    Raises
    ------
    InputError
        Naming the file that is empty, not CSV, without a row, lacks a column, or holds a word for a number.
    """
    import numpy as np
    import pandas as pd

    frames = []
    for path in paths:
        try:
            frame = pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not a CSV table ({error})") from error
        frame = frame.assign(**{column: value for column, value in later.items() if column not in frame})
        missing = [column for column in columns if column not in frame]
        if missing:
            raise InputError(f"{path}: column {missing[0]!r} is missing")
        if frame.empty:
            raise InputError(f"{path}: has no row, allowed: at least one")
        for column in {*columns, *later} - set(TEXT.split()):
            _check_numbers(path, frame[column])
        for column in finite:
            _check_finite(path, frame[column])
        for column, other in finite_where.items():
            there = np.isfinite(frame[other].astype(float))
            _check_finite(path, frame[column][there])
            if frame[column][~there].notna().any():
                raise InputError(f"{path}: column {column!r} holds a number where {other!r} holds none")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def check_words(table: "pd.DataFrame", column: str, allowed: Iterable[str]) -> None:
    """Refuse a table with another word than those allowed, whose rows would be counted as none of them.

    Parameters
    ----------
    table : pandas.DataFrame
    column : str
    allowed : iterable of str

    Raises
    ------
    InputError
    """
    allowed = list(allowed)
    if unknown := sorted(set(map(str, table[column])) - set(allowed)):
        raise InputError(f"column {column!r} holds {unknown[0]!r}, allowed: {', '.join(allowed)}")


@contextlib.contextmanager
def refuse_malformed(names: Iterable[object]) -> Iterator[None]:
    """Refuse tables that have the right columns and still do not hold what a reduction needs.

    Parameters
    ----------
    names : iterable
        Of the files, for the message.

    Raises
    ------
    InputError
        In place of what an absent key, row or number raises.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        files = " ".join(map(str, names))
        raise InputError(
            f"{files[:300]}: not as the studies write them ({type(error).__name__}: {error})"
        ) from error


def _check_numbers(path: str | Path, column: "pd.Series") -> None:
    if column.dtype.kind not in "biuf" and column.notna().any():
        raise InputError(f"{path}: column {column.name!r} holds a word, allowed: numbers")


def _check_finite(path: str | Path, column: "pd.Series") -> None:
    import numpy as np

    bad = column[~np.isfinite(column.astype(float))]
    if len(bad):
        raise InputError(
            f"{path}: column {column.name!r} holds {bad.iloc[0]} in row {bad.index[0] + 1}, allowed: finite numbers"
        )
