"""How figures and article call what the tables name: the registries of `common.names`, and a check of a column."""

from collections.abc import Iterable, Mapping

from adam_minibatch_noise.errors import InputError
from common.names import CORPORA, DATASETS, NETWORKS, NORMS, OPTIMIZERS, PROBLEMS, SCALINGS

__all__ = [
    "CORPORA",
    "DATASETS",
    "NETWORKS",
    "NORMS",
    "OPTIMIZERS",
    "PROBLEMS",
    "SCALINGS",
    "known",
]


def known(values: Iterable[str], registry: Mapping[str, str], column: str) -> list[str]:
    """Return the names that occur, in the order of their registry.

    Parameters
    ----------
    values : iterable of str
        A column of a table.
    registry : mapping
        Of `common.names`.
    column : str
        Its name, for the message.

    Raises
    ------
    InputError
        If a value is none of the registry's names.
    """
    found = set(map(str, values))
    if others := sorted(found - set(registry)):
        raise InputError(f"column {column!r} holds {others[0]!r}, allowed: {', '.join(registry)}")
    return [name for name in registry if name in found]
