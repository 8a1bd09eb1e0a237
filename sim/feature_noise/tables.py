"""Runs on the two-layer CNN as rows of a table, and their ends in a few numbers."""

from typing import Any

import numpy as np

from common.settings import names, used
from sim.feature_noise.settings import Settings

LEFT_OUT = ("n_epochs", "n_test", "n_records")
"""Settings that are no column of a table: lengths are in steps there."""
ENDS = ("case", "n_seeds", "train_error", "test_error", "test_error_std", "signal", "noise")
"""Columns of `case_ends`."""


def columns(settings: Settings) -> dict[str, Any]:
    """Return the settings of a run as columns of a table."""
    row = {name: getattr(settings, name) for name in names(Settings) if name not in LEFT_OUT}
    return row | {"n_steps": settings.total_steps}


def run_end(settings: Settings, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the last measurement of a run and the settings that it used."""
    last = rows[-1]
    return {
        **{name: last[name] for name in ("train_error", "test_error", "loss", "noise_scale")},
        "signal_alignment": min(last["signal_plus"], last["signal_minus"]),
        "noise_alignment": last["noise"],
        "settings": used(settings) | {"n_steps": settings.total_steps},
    }


def case_ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the last measurements of each case over its seeds.

    Parameters
    ----------
    rows : list of dict
        Of `columns`, with `case` and the measurements of `sim.feature_noise.training.train`.

    Returns
    -------
    list of dict
        One a case, with the columns `ENDS`; `test_error_std` is over seeds.
    """
    last = {(row["case"], row["seed"]): row for row in rows}
    ends = []
    for case in dict.fromkeys(name for name, _ in last):
        runs = [row for (name, _), row in last.items() if name == case]
        error = np.array([run["test_error"] for run in runs])
        signal = np.mean([min(run["signal_plus"], run["signal_minus"]) for run in runs])
        train, noise = (np.mean([run[name] for run in runs]) for name in ("train_error", "noise"))
        numbers = (train, error.mean(), error.std(), signal, noise)
        ends.append(dict(zip(ENDS, (case, len(runs), *map(float, numbers)), strict=True)))
    return ends
