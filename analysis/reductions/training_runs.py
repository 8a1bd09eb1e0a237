"""How the runs of the language model were made (JSON files of `train.sweep`)."""

import json
from typing import Any

from adam_minibatch_noise.errors import InputError


def summarize(paths: list[str]) -> dict[str, Any]:
    """Sum up how the runs were made (the JSON files of `train.sweep`)."""
    records = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                records.append(json.load(file))
        except ValueError as error:
            raise InputError(f"{path}: is not JSON ({error})") from error
    first = records[0]
    return {
        "n_runs": sum(record["n_runs"] for record in records),
        "n_params": first["n_params"],
        "n_windows": first["n_windows"],
        "n_types": first["corpus"]["n_types"],
        "minutes": sum(record["seconds"] for record in records) / 60,
        "device": first["made_with"]["device"],
        "torch": first["made_with"]["torch"],
        "settings": {**first["settings"], "beta1": first["runs"][0]["beta1"]},
    }
