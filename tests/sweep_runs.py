"""Runs of a sweep made up for tests, as rows of `train.sweep`."""

import pandas as pd

from analysis.reductions.sweeps import SHARED

SETTINGS = dict.fromkeys(SHARED, 1) | {"corpus": "pydoc"}


def run_row(value, **settings):
    """Return the row of a run with a minimal validation perplexity; None: it diverged."""
    row = SETTINGS | {"lr": 0.001, "batch_size": 8, "beta1": 0.9, "beta2": 0.999, "seed": 0}
    outcome = {"status": "diverged" if value is None else "ok", "min_valid_perplexity": value}
    return row | outcome | {"epoch_of_min": 2.0, "n_windows": 1000} | settings


def curve(values, **settings):
    """Return rows of a curve: perplexities over seeds by beta2."""
    return [
        run_row(value, beta2=beta2, seed=seed, **settings)
        for beta2, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]


def write(path, rows):
    """Write rows as CSV."""
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
