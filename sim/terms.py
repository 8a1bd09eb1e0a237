r"""Measure each term of E[Corr_n] by itself and hold it against its closed form, in the limit and exactly.

--study terms    FB and MBN1 .. MBN5 of Proposition 3.3 of Cattaneo and Shigida (2026): noise is switched on in the two
                 places where the two noises of a term meet (`expansion.noise_sources`). For SGD with momentum the two
                 terms of the modified loss, |g|^2 and tr(Sigma).
--study lines    every product behind them, Proposition A.6 (`expansion.proposition_a6`), the noise of a batch with
                 itself (measured with independent batches) apart from that of different batches (what is then
                 left); by enumeration.
--study moments  Lemma A.7, E d_i d_j = v Sigma_ij and E d_ij d_j = (v/2) dSigma_jj/dtheta_i, and -1/(m - 1) times
                 that for two batches; by enumeration.

Every order of the batches counts with its noise and with the opposite noise, so that odd orders of the noise cancel.
Accepted is, for every number: |measured - predicted_exact| <= 4 standard errors + a rigorous bound on noise of order
four and more + rounding. The bound is that of `expansion.bounds`: it majorises the power series of Corr_n,
coefficient by coefficient, so also any part of it; lines of different batches are a difference of two measurements
and get it twice. Lemma A.7 and SGD have no higher orders. Exit status 0: all accepted, or no bound exists because the
noise is too large, or one is off by fewer than 100 random orders, which decide nothing (both said on standard error);
1: a formula is violated; 2: bad usage.
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table
from common.settings import COUNT, POSITIVE, SEED, Number
from sim.losses.problem_flags import (
    FEWEST_PERMUTATIONS,
    TOO_FEW,
    add_problem_flags,
    n_permutations,
    problem_from_flags,
)

if TYPE_CHECKING:
    from sim.losses.problems import Quadratics

STUDIES = ("terms", "lines", "moments")
N_STDERR = 4.0
"""Accepted distance in standard errors, fixed before any run."""
ROUNDING = 1e-14
"""Accepted error of the arithmetic relative to the numbers that it subtracts (in Lemma A.7: 1e-12 of the moment)."""


def cnn_problem(n_samples: int, n_filters: int, patch_length: int, seed: int) -> "Quadratics":
    """Per-sample derivatives of the two-layer CNN of `sim.losses.cnn` at random weights.

    Parameters
    ----------
    n_samples, n_filters, patch_length : int
        Samples, filters a class, and length of a patch, >= 2.
    seed : int
        Of data and weights.

    Returns
    -------
    Quadratics
        With 2 n_filters patch_length parameters.
    """
    from sim.losses import cnn
    from sim.losses.problems import Quadratics

    data = cnn.make_data(
        n_samples, patch_length, n_noise=patch_length - 1, noise_std=0.7, feature_noise=0.2, seed=seed
    )
    weights = cnn.make_weights(n_filters, patch_length, init_std=0.5, seed=seed)
    return Quadratics(*cnn.gradients_and_hessians(weights, data))


def study_rows(problem: "Quadratics", args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and predict what the flags ask for, one row a term and component.

    Parameters
    ----------
    problem : Quadratics
    args : argparse.Namespace
        Flags of `parser`.

    Returns
    -------
    list of dict
        term, part, places, batches, component; measured, stderr; predicted_limit (m -> infinity),
        predicted_per_batch (the same with 1/b in place of v), predicted_exact; bound; excess, above 1 if violated.
    """
    from tqdm import tqdm

    from sim.monte_carlo import term_studies

    names = {"terms": f"{args.algorithm.replace('-', '_')}_terms", "lines": "lines", "moments": "moments"}
    study = getattr(term_studies, names[args.study])
    total = args.n_permutations if args.method == "montecarlo" else None
    with tqdm(total=total, unit=" orders", disable=None, leave=False) as bar:
        results = study(problem, args, bar.update)
    rows = []
    for result in results:
        accepted = N_STDERR * result.stderr + result.bound + ROUNDING * result.scale
        excess = abs(result.measured - result.predicted_exact) / accepted
        columns = {name: getattr(result, name) for name in ("measured", "stderr", *PREDICTIONS, "bound")}
        labels = {name: getattr(result, name) for name in ("term", "part", "places", "batches")}
        for j in range(result.measured.size):
            values = {name: float(value.ravel()[j]) for name, value in columns.items()}
            component = (
                str(j) if result.measured.ndim == 1 else f"{j // problem.n_params}:{j % problem.n_params}"
            )
            rows.append(labels | {"component": component} | values | {"excess": float(excess.ravel()[j])})
    return rows


PREDICTIONS = ("predicted_limit", "predicted_per_batch", "predicted_exact")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.terms", description=__doc__.split("\n\n")[0])
    add_problem_flags(parser)
    parser.set_defaults(n_samples=64, n_params=8, batch_size=4, problem="quadratics")
    group = parser.add_argument_group("two-layer CNN")
    group.add_argument(
        "--cnn", action="store_true", help="instead of --problem: n_samples samples of the CNN"
    )
    group.add_argument("--n-filters", type=COUNT, default=2, help="filters a class")
    group.add_argument("--patch-length", type=Number(int, 2), default=4, help="length of a patch")
    group = parser.add_argument_group("measurement")
    group.add_argument("--study", choices=STUDIES, default="terms", help="what to measure")
    group.add_argument(
        "--rho",
        type=POSITIVE,
        nargs="+",
        help="scale the noise so that the largest relative noise of a batch is this; default: leave it",
    )
    group.add_argument(
        "--n-epochs", type=COUNT, default=1, help="epochs, reshuffled; Corr is that of the last step"
    )
    algorithms = ["adam", "sgd-momentum"]
    group.add_argument(
        "--algorithm", choices=algorithms, default="adam", help="of terms; SGD has momentum beta1"
    )
    group.add_argument(
        "--method", choices=["montecarlo", "enumerate"], default="montecarlo", help="how to average terms"
    )
    group.add_argument("--n-permutations", type=n_permutations, default=2000, help="of montecarlo")
    group.add_argument("--seed", type=SEED, default=0, help="seed of the permutations")
    add_output_flags(group)
    return parser


def make_problem(args: argparse.Namespace) -> "Quadratics":
    """Make the problem that the flags name, every Hessian written out."""
    from sim.losses.problems import LeastSquares
    from sim.monte_carlo.orders import CHUNK

    if args.cnn:
        args.n_params = 2 * args.n_filters * args.patch_length
    if args.problem_file is None and args.n_samples * args.n_params**2 > 64 * CHUNK:
        raise InputError(f"--n-samples is {args.n_samples}, allowed: n_samples n_params^2 <= {64 * CHUNK}")
    if not args.cnn:
        problem = problem_from_flags(args)
        return problem.quadratics() if isinstance(problem, LeastSquares) else problem
    if args.n_samples % args.batch_size:
        raise InputError(
            f"--batch-size is {args.batch_size}, allowed: a divisor of the {args.n_samples} samples"
        )
    return cnn_problem(args.n_samples, args.n_filters, args.patch_length, args.problem_seed)


def main(argv: list[str] | None = None) -> int:
    """Measure, compare, write; return 1 if a formula is violated."""
    args = parser().parse_args(argv)
    if args.study != "terms":
        args.method = "enumerate"
    from sim.monte_carlo.term_studies import largest_noise

    problem = make_problem(args)
    own = largest_noise(problem, args.batch_size)
    names = [
        "problem_seed",
        "batch_size",
        "n_epochs",
        "algorithm",
        "beta1",
        "beta2",
        "eps_root",
        "method",
        "seed",
    ]
    settings = {
        "study": args.study,
        "problem": "cnn" if args.cnn else args.problem_file or args.problem,
        "n_samples": problem.n_samples,
        "n_params": problem.n_params,
    } | {name: getattr(args, name) for name in names}
    rows = []
    for rho in args.rho or [own]:
        if args.rho is not None and own < 1e-12:
            raise InputError("--rho cannot scale a problem without noise")
        scaled = problem if args.rho is None else problem.with_noise(rho / own)
        rows += [settings | {"rho": rho} | row for row in study_rows(scaled, args)]
    write(rows, settings, args)
    if any(row["bound"] == float("inf") for row in rows):
        print(
            "no bound where rho is 0.414 or more: the formulas are held to account below only",
            file=sys.stderr,
        )
    off = not all(row["excess"] <= 1 for row in rows)  # what is no number is not accepted
    if off and args.method == "montecarlo" and args.n_permutations < FEWEST_PERMUTATIONS:
        print(TOO_FEW, file=sys.stderr)
        return 0
    return int(off)


def write(rows: list[dict[str, Any]], settings: dict[str, Any], args: argparse.Namespace) -> None:
    """Write the rows in the form that the flags ask for."""
    columns = [name for name in rows[0] if name not in settings]
    worst = max(row["excess"] for row in rows)
    text = to_table(columns, [[row[name] for name in columns] for row in rows])
    write_result(
        args,
        rows=rows,
        value=settings | {"rows": [{name: row[name] for name in columns} for row in rows]},
        table=f"{text}\nlargest excess {worst:.3g} (violated above 1)",
    )


if __name__ == "__main__":
    run(main)
