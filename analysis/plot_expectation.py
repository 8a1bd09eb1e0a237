"""Draw the measured effect of batch noise on E[Corr] beside Proposition 3.3 and the exact second order.

Shown is |g_j| (E[Corr_j] - Corr_j without noise) / (d_j |g|_1 kappa), averaged over components: what C1 + C2 and
their smaller companions add up to. kappa = v mean(Sigma_jj / g_j^2).
"""

import argparse
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = ["problem", "n_samples", "n_params", "noise", "problem_seed", "batch_size", "beta1", "beta2"]
RESULTS = ["measured", "stderr", "predicted", "exact", "n_permutations", "excess"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.plot_expectation", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="CSV", help="written by sim.expectation"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="figure, .svg, .pdf or .png")
    parser.add_argument("--summary", metavar="CSV", help="also write the averages that are drawn")
    return parser


def noise_effects(table: "pd.DataFrame") -> list[dict[str, float]]:
    """Average the effect of noise over components, one row a setting.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `sim.expectation`, generated least squares only.

    Returns
    -------
    list of dict
        batch_size, beta1, beta2, n_batches, kappa; measured, stderr, predicted, exact (all without unit).
    """
    import numpy as np

    from adam_minibatch_noise.expansion.weight_sums import weight_sums
    from adam_minibatch_noise.theory import batch_variance_factor, expected_corr_terms, limit_constants
    from sim.losses.problems import GENERATORS

    if unknown := sorted(set(map(str, table["problem"])) - set(GENERATORS)):
        raise InputError(f"column 'problem' holds {unknown[0]!r}, allowed: {', '.join(GENERATORS)}")
    for name in ("n_samples", "n_params", "problem_seed", "batch_size", "n_permutations"):
        if ((bad := table[name]) % 1 != 0).any() or (bad < (name != "problem_seed")).any():
            raise InputError(f"column {name!r} holds {bad.min():g}, allowed: whole numbers of things")
    rows = []
    for key, part in table.groupby(SETTINGS, sort=True):
        name, n_samples, n_params, noise, seed, batch_size, beta1, beta2 = key
        n_samples, n_params, seed, batch_size = map(int, (n_samples, n_params, seed, batch_size))
        moments = GENERATORS[name](n_samples, n_params, noise, seed).moments()
        g, v = moments.gradient, float(batch_variance_factor(n_samples, batch_size))
        kappa = v * np.mean(np.diag(moments.covariance) / g**2)
        unit = np.abs(g) / (np.sign(g) @ moments.hessian) / kappa
        n_batches = n_samples // batch_size
        lag = weight_sums((beta1, beta2), n_batches, n_batches - 1).lag
        quiet = (lag[0] - lag[1]) * (np.sign(g) @ moments.hessian) / np.abs(g)
        limit = expected_corr_terms(moments, limit_constants(beta1, beta2), v)["FB"]
        row = {
            "batch_size": batch_size,
            "n_batches": n_batches,
            "beta1": beta1,
            "beta2": beta2,
            "kappa": kappa,
        }
        row["measured"] = float(np.mean(unit * (part["measured"] - quiet)))
        # components share the permutations: their errors add up at worst
        row["stderr"] = float(np.mean(np.abs(unit) * part["stderr"]))
        row["predicted"] = float(np.mean(unit * (part["predicted"] - limit)))
        row["exact"] = float(np.mean(unit * (part["exact"] - quiet)))
        row["n_permutations"] = int(part["n_permutations"].iloc[0])
        row["excess"] = float(part["excess"].max())
        rows.append(row)
    return rows


def main(argv: list[str] | None = None) -> None:
    """Average, draw, write."""
    args = parser().parse_args(argv)
    from analysis import tables

    with tables.as_written(args.tables):
        _draw(args)


def _draw(args: argparse.Namespace) -> None:
    import matplotlib.pyplot as plt
    import pandas as pd

    from analysis import style, tables
    from common.files import write_csv

    rows = noise_effects(tables.read(args.tables, [*SETTINGS, *RESULTS], finite=RESULTS))
    frame = pd.DataFrame(rows)
    style.apply()
    groups = list(frame.groupby("n_batches"))
    figure, axes = plt.subplots(
        1, len(groups), figsize=(style.WIDTH, 2.6), sharex=True, sharey=True, squeeze=False
    )
    for axis, (n_batches, part) in zip(axes[0], groups, strict=True):
        part = part.sort_values("beta2")
        memory = 1 / (1 - part["beta2"])
        axis.plot(memory, part["predicted"], "--", color=style.OKABE_ITO[1], label="Prop. 3.3 (n → ∞)")
        axis.plot(memory, part["exact"], color=style.OKABE_ITO[0], label="exact second order")
        axis.errorbar(
            memory,
            part["measured"],
            4 * part["stderr"],
            fmt="o",
            color="black",
            ms=3.5,
            label="measured ± 4 s.e.",
        )
        axis.axvline(n_batches, color="0.5", lw=0.8, ls=":", label="memory = one epoch")
        batch_size = part["batch_size"].iloc[0]
        axis.set(xscale="log", yscale="symlog", title=f"batch size {batch_size}, {n_batches} batches")
        ticks = [2, 10, 100, 1000]
        axis.set_xticks(ticks, [f"{1 - 1 / tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel(r"$\beta_2$")
    axes[0, 0].set_ylabel("effect of noise on E[Corr]\nper unit of relative variance")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    style.save(figure, args.out)
    if args.summary:
        write_csv(args.summary, rows)


if __name__ == "__main__":
    run(main)
