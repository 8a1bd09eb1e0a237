r"""Find the batch size at which the monotonicity of C_total in beta2 (and in beta1) turns, for finite epochs too.

Compares `theory.c_total`, the limit n -> infinity of Cattaneo and Shigida (2026), with its exact counterpart of
`expansion.second_order` at the last step of epoch 1, 2, 5, ..., for the true geometry of an experiment: N
samples, batches of b, m = floor(N/b) of them an epoch, the N - m b samples that are left over dropped.

C_total is linear in lam, and its noise part linear in the correlation of two batches of an epoch; both depend on b
only, everything else on m = floor(N/b). As m takes few values, every whole b is looked at: no bisection, and
nothing is assumed about how often the monotonicity changes. While one beta is swept over a grid,

    turns_after  is the largest b up to which C_total moves all along the grid as it does for small batches
                 (beta2: increases; beta1: decreases), and
    turned_at    the smallest b from which on it moves as it does for large ones (beta2: decreases; beta1: increases).

Between the two it is not monotone. Both ends of the grid get a close neighbour, for the slope there. Empty: no such
b at or above --min-batch-size.
"""

import argparse
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table, write_csv
from common.settings import BETA, COUNT, POSITIVE

if TYPE_CHECKING:
    from adam_minibatch_noise.theory import Array

GRID = [1 - 10 ** (-1 - k / 11) for k in range(-4, 23)]
"""Betas of the map: every second one is in the sweeps of the paper, from 0.769 to 0.999."""
LOW, HIGH = 0.9, 0.999
"""Ends of the grid on which monotonicity is judged."""
NEIGHBOUR = 1e-4
"""Distance of the neighbours of the ends, as a share of 1 - beta."""
MAX_STEPS = 100_000
"""Largest number of steps accepted; memory grows in proportion to it."""


def epoch_geometry(n_samples: int, batch_size: int) -> tuple[int, float, float]:
    """Return the number of batches an epoch, v, and the correlation of two of them.

    Parameters
    ----------
    n_samples, batch_size : int
        >= 1; a batch size above n_samples means the full batch.

    Returns
    -------
    n_batches : int
    variance_factor : float
        v of `theory.batch_variance_factor`.
    correlation : float
        See `expansion.weight_sums.batch_correlation`; 0 where an epoch has one batch.
    """
    from adam_minibatch_noise.expansion.weight_sums import batch_correlation
    from adam_minibatch_noise.theory import batch_variance_factor

    batch_size = min(batch_size, n_samples)
    n_batches = n_samples // batch_size
    correlation = batch_correlation(n_samples, batch_size) if n_batches > 1 else 0.0
    return n_batches, float(batch_variance_factor(n_samples, batch_size)), correlation


def coefficients(beta1: "Array", beta2: "Array", n_batches: int, n_epochs: int) -> tuple["Array", "Array"]:
    """FB and C1 + C2 at the last step of an epoch, without anything that depends on lam or the correlation.

    Parameters
    ----------
    beta1, beta2 : (n_betas,) ndarray
    n_batches, n_epochs : int

    Returns
    -------
    forward : (n_betas,) ndarray
        FB.
    noise : (2, n_betas) ndarray
        C1 + C2 at correlation 0, and what a correlation of 1 adds to it.
    """
    import numpy as np

    from adam_minibatch_noise.expansion.second_order import main_constants
    from adam_minibatch_noise.expansion.weight_sums import main_sums

    sums = main_sums((beta1, beta2), n_batches, n_batches * n_epochs - 1, np.array([0.0, 1.0]))
    forward, c1, c2 = main_constants(*sums)
    noise = c1 + c2
    noise[1] -= noise[0]
    return forward, noise


def sweep_betas(which: str, grid: "Array", args: argparse.Namespace) -> tuple["Array", "Array"]:
    """Return beta1 and beta2 along a sweep of `which`, (n_betas,) each."""
    import numpy as np

    grid = np.asarray(grid, float)
    if which == "beta2":
        return np.full_like(grid, args.beta1), grid
    return grid, np.full_like(grid, args.beta2)


def map_rows(which: str, args: argparse.Namespace, progress) -> list[dict[str, Any]]:
    """C_total along a sweep at every batch size, noise scale and number of epochs, one row a value."""
    from adam_minibatch_noise.theory import c_total

    beta1, beta2 = sweep_betas(which, args.grid, args)
    rows = []
    for batch_size in args.batch_sizes:
        n_batches, v, correlation = epoch_geometry(args.n_samples, batch_size)
        for n_epochs in args.n_epochs:
            forward, noise = coefficients(beta1, beta2, n_batches, n_epochs)
            progress(n_batches * n_epochs)
            for noise_scale in args.noise_scales:
                lam = v * noise_scale
                limit = c_total(beta1, beta2, lam)
                exact = forward + lam * (noise[0] + correlation * noise[1])
                settings = {"which": which, "batch_size": batch_size, "n_batches": n_batches}
                settings |= {"noise_scale": noise_scale, "lam": lam, "n_epochs": n_epochs}
                names = ("beta1", "beta2", "c_total_limit", "c_total_exact")
                columns = [values.tolist() for values in (beta1, beta2, limit, exact)]
                rows += [
                    settings | dict(zip(names, line, strict=True)) for line in zip(*columns, strict=True)
                ]
    return rows


def turning_rows(which: str, args: argparse.Namespace, progress) -> list[dict[str, Any]]:
    """Turning points along a sweep for every noise scale and number of epochs, limit and exact, one row each."""
    import numpy as np

    from adam_minibatch_noise.theory import c_total

    inside = [value for value in args.grid if LOW < value < HIGH]
    ends = [LOW, LOW + NEIGHBOUR * (1 - LOW), HIGH - NEIGHBOUR * (1 - HIGH), HIGH]
    beta1, beta2 = sweep_betas(which, sorted({*inside, *ends}), args)
    small = 1 if which == "beta2" else -1  # C_total rises with beta2, falls with beta1 at small batch sizes
    sizes = np.arange(args.min_batch_size, args.n_samples + 1)
    geometry = [epoch_geometry(args.n_samples, int(size)) for size in sizes]
    n_batches, v, correlation = (np.array(column) for column in zip(*geometry, strict=True))
    limit = {
        noise_scale: turning_point(c_total(beta1, beta2, noise_scale * v[:, None]), sizes, small)
        for noise_scale in args.noise_scales
    }
    rows = []
    for n_epochs in args.n_epochs:
        forward, noise = np.empty((2, len(sizes), len(beta1)))
        for m in np.unique(n_batches):
            same = n_batches == m
            fb, (c0, c1) = coefficients(beta1, beta2, int(m), n_epochs)
            forward[same], noise[same] = fb, c0 + np.multiply.outer(correlation[same], c1)
            progress(int(m) * n_epochs)
        for noise_scale in args.noise_scales:
            exact = turning_point(forward + noise_scale * v[:, None] * noise, sizes, small)
            points = {"limit": limit[noise_scale], "exact": exact}
            rows.append(
                {"which": which, "noise_scale": noise_scale, "n_epochs": n_epochs}
                | {f"turns_after_{theory}": after for theory, (after, _) in points.items()}
                | {f"turned_at_{theory}": at for theory, (_, at) in points.items()}
            )
    return rows


def turning_point(values: "Array", sizes: "Array", small: int) -> tuple[int | None, int | None]:
    """Return `turns_after` and `turned_at` (module docstring), each None if there is none.

    Parameters
    ----------
    values : (n_sizes, n_betas) ndarray
        C_total along the sweep at every batch size.
    sizes : (n_sizes,) ndarray of int
        Ascending.
    small : {1, -1}
        Direction of C_total at small batch sizes.
    """
    import numpy as np

    steps = small * np.diff(values, axis=1)
    constant = (steps == 0).all(axis=1)  # the very first step has no memory: C_total = 0
    n_small = int(np.argmin([*(steps > 0).all(axis=1), False]))
    n_large = int(np.argmin([*((steps < 0).all(axis=1) | constant)[::-1], False]))
    return int(sizes[n_small - 1]) if n_small else None, int(sizes[-n_large]) if n_large else None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.turning", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--n-samples", type=COUNT, default=16_317, help="samples N; default: the windows of WikiText-2")
    sizes = [2**k for k in range(7, 15)]
    add("--batch-sizes", type=COUNT, nargs="+", default=sizes, help="of the map; above N: full batch")
    add("--noise-scales", type=POSITIVE, nargs="+", default=[1e2, 2e2, 3e2, 5e2, 1e3], help="B_simple")
    add(
        "--n-epochs", type=COUNT, nargs="+", default=[1, 2, 5, 10, 20, 50], help="of the last step: its epoch"
    )
    add("--sweeps", choices=["beta1", "beta2"], nargs="+", default=["beta2", "beta1"], help="what to sweep")
    add("--beta1", type=BETA, default=0.9, help="while beta2 is swept")
    add("--beta2", type=BETA, default=0.999, help="while beta1 is swept")
    add("--grid", type=BETA, nargs="+", default=GRID, help="values of the beta that is swept, ascending")
    add("--min-batch-size", type=COUNT, default=64, help="smallest batch size looked at for turning points")
    add("--turning-out", metavar="FILE", help="also write the turning points as CSV")
    add_output_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Compute the map and the turning points, and write them."""
    args = parser().parse_args(argv)
    if args.min_batch_size > args.n_samples:
        raise InputError(f"--min-batch-size is {args.min_batch_size}, allowed: 1 to {args.n_samples}")
    if sorted(set(args.grid)) != args.grid:
        raise InputError("--grid is not ascending")
    from tqdm import tqdm

    of_map = [epoch_geometry(args.n_samples, b)[0] for b in args.batch_sizes]
    scanned = {args.n_samples // b for b in range(args.min_batch_size, args.n_samples + 1)}
    longest = max(*of_map, *scanned) * max(args.n_epochs)
    if longest > MAX_STEPS:
        raise InputError(f"--n-epochs is {max(args.n_epochs)}, allowed: {MAX_STEPS} steps, this is {longest}")
    n_steps = (sum(of_map) + sum(scanned)) * sum(args.n_epochs) * len(args.sweeps)
    rows, turning = [], []
    with tqdm(total=n_steps, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        for which in args.sweeps:
            rows += map_rows(which, args, bar.update)
            turning += turning_rows(which, args, bar.update)
    if args.turning_out:
        write_csv(args.turning_out, turning)
    longest_memory = [row for row in rows if row[row["which"]] == args.grid[-1]]
    table = f"{tables(turning)}\n\n{tables(longest_memory)}"
    write_result(args, rows=rows, value={"turning": turning, "map": rows}, table=table)


def tables(rows: list[dict[str, Any]]) -> str:
    """Lay out rows that share their keys; a dash for what does not exist."""
    lines = [["-" if value is None else value for value in row.values()] for row in rows]
    return to_table(list(rows[0]), lines)


if __name__ == "__main__":
    run(main)
