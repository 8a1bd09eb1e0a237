"""Many runs side by side, finished ones kept: what `python -m sim.overfitting` and the study share."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.files import atomic_write, locked, to_csv
from common.settings import used
from sim.small_networks.settings import Settings

DIGITS = 7
"""Significant digits of a number of the results."""


def row_of(settings: Settings) -> dict[str, Any]:
    """Train, and return the row of the table: settings, empty where they had no meaning, then results."""
    from sim.small_networks.training import train

    s = settings.resolved()
    return used(s) | rounded(train(s))


def rounded(results: Mapping[str, Any]) -> dict[str, Any]:
    """Round numbers to `DIGITS` significant digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in results.items()
    }


def journal_of(out: Path) -> Path:
    """Return the file beside a table that keeps finished runs while others are still to come."""
    return out.with_name(f".{out.name}.runs")


def run_all(
    settings: Sequence[Settings],
    out: Path | None = None,
    n_threads: int | None = None,
    columns: Sequence[str] | None = None,
    progress: Callable[[int], object] = lambda n: None,
) -> list[dict[str, Any]]:
    """Train every network, one on each thread.

    Parameters
    ----------
    settings : sequence of Settings
    out : path, optional
        The table that the caller will write. While runs are to come, finished ones are kept beside it, and a killed
        call goes on from there.
    n_threads : int, optional
        >= 1; default: all cores. No effect on the rows.
    columns : sequence of str, optional
        Columns to keep; default: all.
    progress : callable, optional
        Called with the number of runs that have just been finished.

    Returns
    -------
    list of dict
        A row each, in the order of `settings`.

    Raises
    ------
    InputError
        Another process works on `out`, or a setting cannot be used.
    """
    from sim.monte_carlo.parallel_mean import in_threads

    resolved = [
        one.resolved() for one in settings
    ]  # the first that cannot be used stops all before any has run

    def one(s: Settings) -> dict[str, Any]:
        row = row_of(s)
        return row if columns is None else {name: row[name] for name in columns}

    if out is None:
        rows = []
        for row in in_threads(one, resolved, n_threads):
            rows.append(row)
            progress(1)
        return rows
    with locked(out):
        return _with_journal(one, resolved, journal_of(out), n_threads, progress)


def _with_journal(one, settings, journal, n_threads, progress):
    from sim.monte_carlo.parallel_mean import in_threads

    known = _read(journal)
    progress(sum(str(s) in known for s in settings))
    with open(journal, "a", encoding="utf-8") as file:
        todo = [s for s in settings if str(s) not in known]
        for s, row in zip(todo, in_threads(one, todo, n_threads), strict=True):
            known[str(s)] = row
            file.write(json.dumps([str(s), row]) + "\n")
            file.flush()
            progress(1)
    return [known[str(s)] for s in settings]


def _read(journal: Path) -> dict[str, dict[str, Any]]:
    """Read the runs that a killed call had finished; the line that it was writing is left out."""
    if not journal.exists():
        return {}
    *lines, last = journal.read_text(encoding="utf-8").split("\n")
    if last:
        with atomic_write(journal) as file:
            file.write("".join(line + "\n" for line in lines))
    try:
        return dict(map(json.loads, lines))
    except ValueError as error:
        raise InputError(
            f"{journal}: is not a list of finished runs ({error}); remove it to start again"
        ) from error


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table, compressed if its name ends in .gz, and remove what was kept beside it."""
    import gzip

    text = to_csv(rows)
    if path.suffix == ".gz":
        with (
            atomic_write(path, "wb") as file,
            gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed,
        ):
            packed.write(text.encode())
    else:
        with atomic_write(path) as file:
            file.write(text)
    journal_of(path).unlink(missing_ok=True)


def summary(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Say in a line what a table holds."""
    counts = {status: sum(row["status"] == status for row in rows) for status in ("unfinished", "diverged")}
    return f"{path}: {len(rows)} runs, {counts['unfinished']} unfinished, {counts['diverged']} diverged"
