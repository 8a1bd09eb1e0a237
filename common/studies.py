"""The simulator's studies that run once each: a section of the configuration, a program and a rule of the same name."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Study:
    """How the workflow runs ``python -m sim.NAME``.

    Attributes
    ----------
    outputs : mapping of str to str
        Flags that name a file, without dashes, and that file's name below ``sim`` of the results.
    n_threads : int, optional
        Cores that it uses; None for a program without ``--n-threads``. With one, other jobs run beside its imports and
        compilation, which use no more.
    """

    outputs: Mapping[str, str]
    n_threads: int | None = None


STUDIES = {
    "expectation": Study({"out": "expectation.csv"}, n_threads=1),
    "closeness": Study({"out": "closeness.csv"}, n_threads=1),
    "turning": Study({"out": "turning.csv", "turning_out": "turning_points.csv"}),
    "optimizer_bias": Study({"out": "optimizer_bias.csv"}),
    "invariance": Study({"out": "invariance.csv", "spread_out": "invariance_spread.csv"}, n_threads=1),
}
"""By name. Its rule, its section of the schema and its settings in docs/settings.md are made from this line."""
