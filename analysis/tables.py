"""Read the CSV files that the studies wrote."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sim.records import InputError

if TYPE_CHECKING:
    import pandas as pd


def read(paths: Iterable[str | Path], columns: Iterable[str] = ()) -> "pd.DataFrame":
    """Read CSV files of one kind into one table.

    Parameters
    ----------
    paths : iterable of paths
    columns : iterable of str
        Columns that must be there.

    Returns
    -------
    pandas.DataFrame
        Rows in the order of the files.

    Raises
    ------
    InputError
        Naming the file that is empty, not CSV, or lacks a column.
    """
    import pandas as pd

    frames = []
    for path in paths:
        try:
            frame = pd.read_csv(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not a CSV table ({error})") from error
        missing = [column for column in columns if column not in frame]
        if missing:
            raise InputError(f"{path}: column {missing[0]!r} is missing")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
