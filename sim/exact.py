"""Print E[Corr_t] over batch orders, exact to second order in the noise, without sampling.

Any optimiser with exponential averages (--optimizer help), finite epochs, any number of them: see
`expansion.second_order`. Below the table, and in JSON: B_simple,
lambda and C_total of the problem, and whether its noise is inside the range of the expansion (said on standard error,
too, if not). Exit status 0, or 2 for bad usage.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, make_parser, run, write_result
from common.files import to_table
from common.settings import COUNT, from_flags, setting
from sim.losses.optimizer_settings import OPTIMIZER_COLUMNS, OptimizerSettings, rule_of, used_by
from sim.losses.problem_settings import ProblemSettings, make_problem

if TYPE_CHECKING:
    from adam_minibatch_noise.expansion.expectation import ExpectedCorr
    from sim.losses.noise_summary import NoiseSummary

MAX_STEPS = 10_000_000
"""Largest number of steps accepted; time and memory grow in proportion to it."""


@dataclass(frozen=True)
class Settings(OptimizerSettings, ProblemSettings):
    """A problem, an optimiser, and the step at which Corr is taken."""

    n_epochs: int = setting(
        1, "epochs, reshuffled; Corr is that of the last step", COUNT, unit="epochs", group="expectation"
    )


EXAMPLES = (
    "python -m sim.exact --batch-size 4 --beta2 0.99 --n-epochs 5",
    "python -m sim.exact --optimizer nadam --beta1 0.9 --beta2 0.99 --n-samples 64 --n-params 4 --format json",
)


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser("sim.exact", __doc__, Settings, EXAMPLES)


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
    from adam_minibatch_noise.expansion.expectation import expected_corr
    from sim.losses.noise_summary import range_notice, summarize_noise

    rule, s = rule_of(settings), settings
    result = expected_corr(
        rule,
        problem.moments(),
        problem.n_samples,
        s.batch_size,
        s.n_epochs,
        s.micro_batch_size,
        problem.theta,
    )
    noise = summarize_noise(problem, s.batch_size, rule, s.n_epochs, s.micro_batch_size)
    write_result(
        args, **forms(result, noise, {"n_batches": n_batches, "t": n_steps - 1} | recorded(settings))
    )
    if noise.inside_range is False:
        print(range_notice(noise.rho, noise.rho_max), file=sys.stderr)


def forms(result: "ExpectedCorr", noise: "NoiseSummary", settings: dict[str, Any]) -> dict[str, Any]:
    """Return the expectation as `write_result` takes it, in every form."""
    columns = {"zeroth": result.zeroth, "second_order": result.second_order}
    columns |= result.terms if len(result.terms) > 1 else {}
    lines = list(zip(*(values.tolist() for values in columns.values()), strict=True))
    table = to_table(["component", *columns], [[j, *line] for j, line in enumerate(lines)])
    rows = [
        settings | {"component": j} | dict(zip(columns, line, strict=True)) for j, line in enumerate(lines)
    ]
    constants = {"constants": vars(result.constants)} if result.constants else {}
    value = columns | constants | noise.entries() | settings
    return {"rows": rows, "value": value, "table": "\n".join([table, *noise.lines()])}


def recorded(settings: Settings) -> dict[str, Any]:
    """Return the settings that were used as columns of a table, the others empty."""
    row = used_by(settings) | {"problem": settings.problem_name}
    names = ("problem", "noise", "problem_seed", "batch_size", *OPTIMIZER_COLUMNS, "n_epochs")
    return {name: row[name] for name in names}


if __name__ == "__main__":
    run(main)
