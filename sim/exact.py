"""Print E[Corr_t] over batch orders, exact to second order in the noise, without sampling.

Finite epochs, any number of them, any eps_root: see `expansion.second_order`. Below the table, and in JSON: B_simple,
lambda and C_total of the problem, and whether its noise is inside the range of the expansion (said on standard error,
too, if not). Exit status 0, or 2 for bad usage.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table
from common.settings import COUNT, add_flags, from_flags, setting, used
from sim.losses.problem_settings import AlgorithmSettings, ProblemSettings, make_problem

if TYPE_CHECKING:
    from adam_minibatch_noise.expansion.expected_corr import ExpectedCorr
    from sim.losses.noise_summary import NoiseSummary

MAX_STEPS = 10_000_000
"""Largest number of steps accepted; time and memory grow in proportion to it."""


@dataclass(frozen=True)
class Settings(AlgorithmSettings, ProblemSettings):
    """A problem, an algorithm, and the step at which Corr is taken."""

    n_epochs: int = setting(
        1, "epochs, reshuffled; Corr is that of the last step", COUNT, unit="epochs", group="expectation"
    )


EXAMPLES = (
    "python -m sim.exact --batch-size 4 --beta2 0.99 --n-epochs 5",
    "python -m sim.exact --algorithm sgd-momentum --n-samples 64 --n-params 4 --format json",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.exact", description=__doc__.split("\n\n")[0], examples=EXAMPLES)
    add_flags(parser, Settings)
    add_output_flags(parser.add_argument_group("files"))
    return parser


def main(argv: list[str] | None = None) -> None:
    """Compute and write."""
    args = parser().parse_args(argv)
    settings = from_flags(Settings, args)
    problem = make_problem(settings, settings.batch_size)
    n_batches = problem.n_samples // settings.batch_size
    n_steps = n_batches * settings.n_epochs
    if n_steps > MAX_STEPS:
        raise InputError(
            f"--n-epochs is {settings.n_epochs}, allowed: at most {MAX_STEPS} steps, this is {n_steps}"
        )
    from adam_minibatch_noise.expansion.expected_corr import expected_corr
    from sim.losses.noise_summary import range_notice, summarize_noise

    s = settings
    result = expected_corr(
        problem.moments(),
        problem.n_samples,
        s.batch_size,
        s.beta1,
        s.beta2,
        s.eps_root,
        s.n_epochs,
        s.algorithm,
    )
    betas = (s.beta1, s.beta2) if s.algorithm == "adam" else None
    noise = summarize_noise(problem, s.batch_size, betas, s.n_epochs)
    write(result, noise, {"n_batches": n_batches, "t": n_steps - 1} | recorded(settings), args)
    if noise.inside_range is False:
        print(range_notice(noise.rho), file=sys.stderr)


def write(
    result: "ExpectedCorr", noise: "NoiseSummary", settings: dict[str, Any], args: argparse.Namespace
) -> None:
    """Write the expectation in the form that the flags ask for."""
    columns = {"zeroth": result.zeroth, "second_order": result.second_order} | result.terms
    lines = list(zip(*(values.tolist() for values in columns.values()), strict=True))
    table = to_table(["component", *columns], [[j, *line] for j, line in enumerate(lines)])
    rows = [
        settings | {"component": j} | dict(zip(columns, line, strict=True)) for j, line in enumerate(lines)
    ]
    constants = {"constants": vars(result.constants)} if result.constants else {}
    value = columns | constants | noise.entries() | settings
    write_result(args, rows=rows, value=value, table="\n".join([table, *noise.lines()]))


def recorded(settings: Settings) -> dict[str, Any]:
    """Return the settings that were used as columns of a table, the others empty."""
    row = used(settings) | {"problem": settings.problem_name}
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
    return {name: row[name] for name in names}


if __name__ == "__main__":
    run(main)
