"""Read tables of `sim.feature_noise_studies`, and say in columns of their own in what the cases of a study differ.

A table holds every setting of a run. What a study varies is some of them together, such as the coordinates and the
length of a noise patch; the columns added here name that, from the settings alone. Recorded tables and tables made
here are read by the same function, so that nothing else needs the name of a case.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from analysis.inputs import tables
from sim.feature_noise.studies import FORMS, SMALL

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("study", "case", "seed", "step", "optimizer", "batch_size", "train_error", "test_error", "noise_scale"),
    *("n_samples", "patch_length", "n_noise", "noise_std", "supports", "init_std", "q", "lr", "weight_decay"),
    *("beta1", "beta2", "eps", "eps_root", "bias_correction", "replacement", "n_steps"),
    *("signal_plus", "signal_minus", "noise"),
)
"""Columns that the reductions and figures use."""
LATER_COLUMNS = {"activation": "power", "micro_batch_size": 1}
"""Columns of later studies, and what holds in tables without them."""


def read(paths: Iterable[str]) -> "pd.DataFrame":
    """Read tables of studies, with the columns of `describe`.

    Parameters
    ----------
    paths : iterable of str

    Raises
    ------
    InputError
        See `tables.read`.
    """
    return describe(tables.read(paths, COLUMNS, later=LATER_COLUMNS))


def describe(table: "pd.DataFrame") -> "pd.DataFrame":
    """Add columns that name what the studies vary.

    Parameters
    ----------
    table : pandas.DataFrame
        With `COLUMNS` and `LATER_COLUMNS`.

    Returns
    -------
    pandas.DataFrame
        Also with batch: "small" or "large"; layout: "disjoint", "n s = d", "n s >> d", how the supports of the noise
        of n samples with s coordinates lie in patches of d; noise_norm: "same l2" or "same l1", the norm in which the
        noise is the published one; form: of `sim.feature_noise.studies.FORMS`, "other" if none; method: "rmsprop" where
        it is AdamW with beta1 = 0 and biased moments, else the optimizer; shape: "SiLU" or, for max(z, 0)^q, "q = 3".
    """
    full = (
        table["patch_length"] == table["n_samples"] * table["n_noise"] + 1
    )  # one coordinate is the signal's
    disjoint = table["supports"] == "disjoint"
    layout = full.map({True: "n s = d", False: "n s >> d"}).where(~disjoint, "disjoint")
    # On fewer coordinates than published, noise of the same 1-norm is larger in each than noise of the same 2-norm.
    least = table.groupby(["study", "n_noise"])["noise_std"].transform("min")
    return table.assign(
        batch=(table["batch_size"] == SMALL).map({True: "small", False: "large"}),
        layout=layout,
        noise_norm=(table["noise_std"] > least * (1 + 1e-9)).map({True: "same l1", False: "same l2"}),
        method=table["optimizer"].mask(
            (table["optimizer"] == "adamw") & (table["beta1"] == 0) & ~table["bias_correction"].astype(bool),
            "rmsprop",
        ),
        shape=("q = " + table["q"].astype(str)).mask(table["activation"] == "silu", "SiLU"),
        form=[_form(*row) for row in zip(table["eps"], table["eps_root"], table["batch_size"], strict=True)],
    )


def _form(eps, eps_root, batch_size):
    """Name where eps stands and whether losses are summed: a sum is an eps smaller by the batch size."""
    for name, (of_mean, inside, summed) in FORMS.items():
        outside = of_mean / batch_size if summed else of_mean
        if eps_root == inside and math.isclose(eps, outside, rel_tol=1e-9):
            return name
    return "other"
