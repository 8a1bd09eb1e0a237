"""What the Snakemake rules ask of Python: a checked configuration, command lines, the sources of a program."""

import functools
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.files import atomic_write

MAIN = "config/config.yaml"
"""The configuration that names everything; the others change only what differs."""


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
    validator = _validator(Path(schema).read_text(encoding="utf-8"))
    try:
        plain = json.loads(json.dumps(config))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"configuration, top level: {error}; allowed: what JSON can say") from error
    for fault in sorted(validator.iter_errors(plain), key=lambda fault: (-len(fault.path), str(fault.path))):
        key = ".".join(map(str, fault.absolute_path)) or "top level"
        allowed = f"{fault.validator} {fault.validator_value}"
        limit = "" if fault.validator == "additionalProperties" else f"; allowed: {allowed}"
        raise InputError(f"configuration, {key}: {fault.message}{limit}")


@functools.cache
def _validator(schema: str) -> Any:
    """Return the validator of the text of a schema, which takes longer to read than a configuration to check."""
    import jsonschema
    import yaml

    return jsonschema.Draft202012Validator(yaml.safe_load(schema))


def read_yaml(path: str) -> Any:
    """Read a YAML file, of which every mapping names a key once: YAML itself would take the last.

    Parameters
    ----------
    path : str

    Raises
    ------
    InputError
        No YAML, or a key that stands twice in a mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            given = [key.value for key, _ in node.value]
            if twice := [key for i, key in enumerate(given) if key in given[:i]]:
                line = node.start_mark.line + 1
                raise InputError(
                    f"{path}: {twice[0]} stands twice in the mapping from line {line}, allowed: once"
                )
            return super().construct_mapping(node, deep)

    with open(path, encoding="utf-8") as file:
        try:
            return yaml.load(file, Loader)
        except InputError:
            raise
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not YAML ({error})") from error


def load(*paths: str) -> dict[str, Any]:
    """Read configuration files as Snakemake does: each changes only what it names, section by section.

    Parameters
    ----------
    *paths : str
        The first is the one that names everything.

    Raises
    ------
    InputError
        A file that is not a mapping in YAML, or names a setting twice.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        section = read_yaml(path)
        if not isinstance(section, Mapping):
            raise InputError(f"{path}: holds {type(section).__name__}, allowed: a mapping of names to values")
        _update(merged, section)
    return merged


def _update(old, new):
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping):
            _update(old[key], value)
        else:
            old[key] = value


def write_html(path: str, config: Mapping[str, Any]) -> None:
    """Write a configuration as a page for the report."""
    import html

    import yaml

    text = yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False, width=float("inf"))
    with atomic_write(path) as file:
        file.write(f"<!doctype html><pre>{html.escape(text)}</pre>\n")


def report_entry(name: str, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return how the report shows a figure: under its title, with its caption from `paper/figures.yaml`.

    Parameters
    ----------
    name : str
        Of the file without ".svg", wildcards in braces.
    titles : mapping of str to str
        Title of each file (`common.captions.titles`).
    """

    def labels(wildcards: Mapping[str, str]) -> dict[str, str]:
        file = name.format(**wildcards)
        return {"figure": titles[file], "file": f"{file}.svg"}

    return {"caption": "../paper/captions/figure.rst", "category": "Figures", "labels": labels}


def recorded_tables(folder: str | None) -> list[str]:
    """Return the tables of measurements that are kept in a folder of `records`, without those of evaluations.

    Parameters
    ----------
    folder : str or None
        May be missing; None: no tables.
    """
    if folder is None:
        return []
    paths = sorted([*Path(folder).glob("*.csv"), *Path(folder).glob("*.csv.gz")])
    return [str(path) for path in paths if not path.stem.endswith("_evaluations")]


def flags(settings: Mapping[str, Any]) -> str:
    """Write settings as a person would type them: ``batch_size: 16`` becomes ``--batch-size 16``.

    Parameters
    ----------
    settings : mapping
        None leaves a flag out; true and false become --name and --no-name; a list or tuple becomes several words.

    Returns
    -------
    str
        For a shell: what holds blanks or other signs is quoted.
    """
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(str, value)]
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def sources(module: str) -> list[str]:
    """Return the files of a module and of all it imports, so that a changed import re-runs its rule.

    Parameters
    ----------
    module : str
        Dotted name, for example "sim.expectation".

    Returns
    -------
    list of str
        Paths below the project's root.
    """
    found = {module} | _imports().find_upstream_modules(module)
    paths = [Path(name.replace(".", "/")) for name in found]
    return sorted(str(path / "__init__.py" if path.is_dir() else path.with_suffix(".py")) for path in paths)


PACKAGES = ("adam_minibatch_noise", "common", "sim", "train", "analysis")
"""The project's packages, the lowest first: each may import those before it, but `analysis` does not import `train`."""


@functools.cache
def _imports():
    import grimp

    return grimp.build_graph(*PACKAGES, cache_dir=None)
