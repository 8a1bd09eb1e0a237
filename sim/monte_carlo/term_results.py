"""One number of a study term by term, measured and predicted, and the rule by which it is accepted."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from adam_minibatch_noise.theory import Array
from sim.monte_carlo.averaging_settings import N_STDERR

ROUNDING = 1e-14
"""Accepted error of the arithmetic relative to the numbers that it subtracts (in Lemma A.7: 1e-12 of the moment)."""


@dataclass(frozen=True)
class Result:
    """One quantity, measured and predicted; arrays of one shape.

    Attributes
    ----------
    term, part, places, batches : str
        What it is; empty where it does not apply.
    measured, stderr : ndarray
    predicted_limit, predicted_per_batch, predicted_exact : ndarray
        As m -> infinity, the same with 1/b in place of v, and for this problem.
    bound : ndarray
        On noise of order four and more (order three cancels: every order counts with its mirror image); 0 where there
        is no such noise, inf where there is no bound.
    scale : ndarray
        What rounding errors are relative to.
    """

    term: str
    part: str
    places: str
    batches: str
    measured: Array
    stderr: Array
    predicted_limit: Array
    predicted_per_batch: Array
    predicted_exact: Array
    bound: Array
    scale: Array

    @property
    def excess(self) -> Array:
        """|measured - predicted_exact| over what is accepted; above 1 if violated, nan where there is no bound."""
        accepted = N_STDERR * self.stderr + self.bound + ROUNDING * self.scale
        excess = np.abs(self.measured - self.predicted_exact) / accepted
        return np.where(np.isinf(self.bound), np.nan, excess)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a component, of matrices "i:j"; excess is None where there is no bound."""
        labels = {name: getattr(self, name) for name in ("term", "part", "places", "batches")}
        names = ("measured", "stderr", "predicted_limit", "predicted_per_batch", "predicted_exact", "bound")
        columns = {name: getattr(self, name) for name in (*names, "excess")}
        rows = []
        for place in np.ndindex(self.measured.shape):
            values: dict[str, Any] = {name: float(column[place]) for name, column in columns.items()}
            if np.isinf(values["bound"]):
                values["excess"] = None
            rows.append(labels | {"component": ":".join(map(str, place))} | values)
        return rows


def off(rows: list[dict[str, Any]]) -> bool:
    """Whether a formula is off in one of the rows of `Result`: what is no number is not accepted."""
    return any(row["excess"] is not None and not row["excess"] <= 1 for row in rows)
