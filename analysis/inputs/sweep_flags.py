"""The flags by which programs read the runs of a sweep and the grid that was wanted."""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from analysis.reductions import sweeps
from common.settings import BETA, COUNT, POSITIVE

if TYPE_CHECKING:
    import pandas as pd


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add --tables and the grid, whose cells are reported even where there is no run."""
    add = parser.add_argument
    add("--tables", nargs="*", default=[], metavar="CSV", help="written by train.sweep, one row a run")
    add("--swept", choices=["beta1", "beta2"], default="beta2", help="the beta on the axis")
    add("--lr", type=POSITIVE, nargs="*", default=[], help="learning rates wanted beside those in the tables")
    add("--batch-size", type=COUNT, nargs="*", default=[], help="batch sizes wanted, likewise")
    add("--beta1", type=BETA, nargs="+", default=[0.9], help="values wanted; one value, if not swept")
    add("--beta2", type=BETA, nargs="+", default=[0.999], help="values wanted; one value, if not swept")


def read_cells(args: argparse.Namespace) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Read what the flags of `add_flags` name.

    Parameters
    ----------
    args : Namespace

    Returns
    -------
    runs : pandas.DataFrame
        See `sweeps.read_runs`; those at the fixed value of the beta that is not swept.
    cells : pandas.DataFrame
        See `sweeps.cells`.

    Raises
    ------
    InputError
        More than one value of the beta that is not swept; nothing measured and nothing wanted.
    """
    fixed = getattr(args, sweeps.OTHER[args.swept])
    if len(fixed) != 1:
        raise InputError(
            f"--{sweeps.OTHER[args.swept]} has {len(fixed)} values, allowed: 1 while {args.swept} is swept"
        )
    runs = sweeps.read_runs(args.tables)
    runs = runs[(runs[sweeps.OTHER[args.swept]] - fixed[0]).abs() < 1e-12]
    n_values = runs.groupby(["lr", "batch_size"])[args.swept].transform("nunique")
    is_wanted = runs["lr"].isin(args.lr) & runs["batch_size"].isin(args.batch_size)
    if n_values.max() > 1:  # those with one value are of another curve, which this one only crosses
        runs = runs[is_wanted | (n_values > 1)]
    wanted = {"lr": args.lr, "batch_size": args.batch_size, args.swept: getattr(args, args.swept)}
    table = sweeps.cells(runs, args.swept, fixed[0], wanted)
    if table.empty:
        raise InputError(
            "there is no run, allowed: tables with runs, or --lr and --batch-size of those wanted"
        )
    return runs, table
