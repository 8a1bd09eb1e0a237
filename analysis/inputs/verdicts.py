"""Read the verdicts of the study of the best betas (`analysis.overfitting_verdicts`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adam_minibatch_noise.errors import InputError

RECORDS, HERE, TEXT = "records", "here", "text"


def read(path: str | Path, part: str = "") -> tuple[str, Mapping[str, Any]]:
    """Return the verdicts on recorded runs if there are any, otherwise on those made here.

    Parameters
    ----------
    path : path
        JSON.
    part : str
        Return this part instead, whatever it holds: `TEXT` is that of the Transformer-XL.

    Returns
    -------
    part : {"records", "here", "text"}
    verdicts : mapping
        Lists by name, as `analysis.reductions.overfitting.verdicts.judge` returns them; may be empty.

    Raises
    ------
    InputError
        The file is not what that program writes.
    """
    try:
        with open(path, encoding="utf-8") as file:
            parts = json.load(file)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON") from error
    if not isinstance(parts, dict):
        raise InputError(f"{path}: holds no verdicts of analysis.overfitting_verdicts")
    part = part or (RECORDS if parts.get(RECORDS) else HERE)
    return part, parts.get(part) or {}
