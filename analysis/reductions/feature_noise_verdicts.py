"""What each study of feature noise says, by the rules of `sim.feature_noise.studies`, written down before the runs."""

from typing import TYPE_CHECKING, Any

from analysis.inputs import tables
from analysis.reductions.confounders import (
    summarize_betas,
    summarize_replacement,
    summarize_steps,
    summarize_supports,
)
from analysis.reductions.published_table import summarize_choices, summarize_table
from analysis.reductions.rescue import summarize_activations, summarize_optimizers
from analysis.reductions.usable_ranges import summarize_batch, summarize_decay

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = {
    "table": summarize_table,
    "choices": summarize_choices,
    "steps": summarize_steps,
    "supports": summarize_supports,
    "replacement": summarize_replacement,
    "betas": summarize_betas,
    "batch": summarize_batch,
    "decay": summarize_decay,
    "optimizers": summarize_optimizers,
    "activations": summarize_activations,
}
"""By names of studies."""


def verdicts(table: "pd.DataFrame") -> dict[str, Any]:
    """Return what each study in a table says.

    Parameters
    ----------
    table : pandas.DataFrame
        See `analysis.inputs.feature_noise.read`.

    Returns
    -------
    dict
        Keys: names of studies.
    """
    tables.check_words(table, "study", VERDICTS)
    return {study: VERDICTS[study](part) for study, part in table.groupby("study", sort=False)}
