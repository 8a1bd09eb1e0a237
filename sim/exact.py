"""Print E[Corr_t] over batch orders, exact to second order in the noise, without sampling.

Finite epochs, any number of them, any eps_root: see `expansion.second_order`. Exit status 0, or 2 for bad usage.
"""

import argparse
from typing import Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table
from common.settings import COUNT
from sim.losses.problem_flags import add_problem_flags, problem_from_flags

MAX_STEPS = 10_000_000
"""Largest number of steps accepted; time and memory grow in proportion to it."""


def expectation(args: argparse.Namespace) -> dict[str, Any]:
    """Compute the expectation that the flags ask for.

    Returns
    -------
    dict
        `zeroth`, `second_order` and the terms it is the sum of, (n_params,) each; for Adam also `constants`, the
        finite-epoch FB and C1..C5; then the settings.
    """
    from dataclasses import asdict

    from adam_minibatch_noise.expansion.second_order import (
        adam_constants,
        adam_expectation,
        sgd_momentum_expectation,
    )
    from adam_minibatch_noise.expansion.weight_sums import weight_sums
    from adam_minibatch_noise.theory import batch_variance_factor

    problem = problem_from_flags(args)
    n_batches = problem.n_samples // args.batch_size
    n_steps = n_batches * args.n_epochs
    if n_steps > MAX_STEPS:
        raise InputError(
            f"--n-epochs is {args.n_epochs}, allowed: at most {MAX_STEPS} steps, this is {n_steps}"
        )
    v = float(batch_variance_factor(problem.n_samples, args.batch_size))
    settings = {"n_batches": n_batches, "t": n_steps - 1}
    names = (
        "problem",
        "noise",
        "problem_seed",
        "batch_size",
        "algorithm",
        "beta1",
        "beta2",
        "eps_root",
        "n_epochs",
    )
    settings |= {name: getattr(args, name) for name in names}
    settings["problem"] = args.problem_file or args.problem
    if args.algorithm == "sgd-momentum":
        zeroth, terms = sgd_momentum_expectation(problem.moments(), args.beta1, n_batches, n_steps - 1, v)
        return {"zeroth": zeroth, "second_order": terms} | settings
    sums = weight_sums((args.beta1, args.beta2), n_batches, n_steps - 1)
    zeroth, terms = adam_expectation(problem.moments(), sums, v, args.eps_root)
    result = {"zeroth": zeroth, "second_order": sum(terms.values())} | terms
    return result | {"constants": asdict(adam_constants(sums))} | settings


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.exact", description=__doc__.split("\n\n")[0])
    add_problem_flags(parser)
    group = parser.add_argument_group("expectation")
    group.add_argument(
        "--n-epochs", type=COUNT, default=1, help="epochs, reshuffled; Corr is that of the last step"
    )
    algorithms = ["adam", "sgd-momentum"]
    group.add_argument(
        "--algorithm", choices=algorithms, default="adam", help="sgd-momentum has momentum beta1"
    )
    add_output_flags(group)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Compute and write."""
    args = parser().parse_args(argv)
    result = expectation(args)
    columns = [name for name, value in result.items() if hasattr(value, "tolist")]
    lines = list(zip(*(result[name].tolist() for name in columns), strict=True))
    settings = {name: value for name, value in result.items() if name not in (*columns, "constants")}
    write_result(
        args,
        rows=[
            settings | {"component": j} | dict(zip(columns, line, strict=True))
            for j, line in enumerate(lines)
        ],
        value=result,
        table=to_table(["component", *columns], [[j, *line] for j, line in enumerate(lines)]),
    )


if __name__ == "__main__":
    run(main)
