"""Check a configuration against its schema; turn its sections into command lines."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from sim.records import InputError


def check(config: Mapping[str, Any], schema: str) -> None:
    """Refuse a configuration that its schema does not allow.

    Parameters
    ----------
    config : mapping
        As read from YAML.
    schema : str
        Path of a JSON Schema written in YAML.

    Raises
    ------
    InputError
        Naming the key, the value and what is allowed; the first fault only.
    """
    import jsonschema
    import yaml

    with open(schema, encoding="utf-8") as file:
        validator = jsonschema.Draft202012Validator(yaml.safe_load(file))
    plain = json.loads(json.dumps(config))
    for error in sorted(validator.iter_errors(plain), key=lambda error: (-len(error.path), str(error.path))):
        key = ".".join(map(str, error.absolute_path)) or "top level"
        allowed = {"enum": "one of ", "pattern": "a match of "}.get(error.validator, f"{error.validator} ")
        limit = (
            ""
            if error.validator == "additionalProperties"
            else f"; allowed: {allowed}{error.validator_value}"
        )
        raise InputError(f"configuration, {key}: {error.message}{limit}")


def grid(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every combination of the lists in `section["grid"]`, the last key running fastest.

    Parameters
    ----------
    section : mapping
        Its key "grid" maps names of settings to lists of values.

    Returns
    -------
    list of dict
    """
    names = list(section["grid"])
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*section["grid"].values())]


def flags(settings: Mapping[str, Any]) -> str:
    """Write settings as a person would type them: ``batch_size: 16`` becomes ``--batch-size 16``.

    Parameters
    ----------
    settings : mapping
        None leaves a flag out; true and false become --name and --no-name; a list becomes several words.

    Returns
    -------
    str
    """
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return " ".join(words)
