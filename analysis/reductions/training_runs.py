"""How the runs of the language model were made (JSON files of `train.sweep`)."""

import json
from collections.abc import Iterable
from typing import Any

from adam_minibatch_noise.errors import InputError


def summarize(paths: list[str], recorded: Iterable[str] = ()) -> dict[str, Any]:
    """Sum up how the runs were made.

    Parameters
    ----------
    paths : list of str
        JSON files of the runs made here, at least one.
    recorded : iterable of str
        Those of recorded runs, some of which may have been made again here.

    Returns
    -------
    dict
        n_runs (different ones), of which n_here were made here and n_again of these are recorded, too; minutes of those
        made here; n_params, n_windows, n_types, device, torch and settings of the first file.
    """
    made, kept = _read(paths), _read(recorded)
    first, here, there = made[0], _names(made), _names(kept)
    return {
        "n_runs": len(here | there),
        "n_here": len(here),
        "n_again": len(here & there),
        "n_params": first["n_params"],
        "n_windows": first["n_windows"],
        "n_types": first["corpus"]["n_types"],
        "minutes": sum(record["seconds"] for record in made) / 60,
        "device": first["made_with"]["device"],
        "torch": first["made_with"]["torch"],
        "settings": {**first["settings"], "beta1": first["runs"][0]["beta1"]},
    }


def _read(paths: Iterable[str]) -> list[dict[str, Any]]:
    records = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                records.append(json.load(file))
        except ValueError as error:
            raise InputError(f"{path}: is not JSON ({error})") from error
    return records


def _names(records: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """Return what tells the runs apart, one entry a run."""
    return {
        (
            *(record["settings"][name] for name in ("lr", "batch_size")),
            run["beta1"],
            run["beta2"],
            run["seed"],
        )
        for record in records
        for run in record["runs"]
    }
