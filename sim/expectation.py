"""Measure E[Corr_n] of an optimiser over batch orders and hold it against Proposition 3.3 or its counterpart.

Accepted is: measured - predicted equals what the formula leaves out at second order (finite epoch,
correlated batches, eps; computed exactly), within 4 standard errors plus a rigorous bound on noise of order
three and more (`expansion.bounds`). Exit status 0: accepted, or no bound exists because the noise is too large or none
is known for the optimiser's formula, or it is off by fewer than 100 random orders, which decide nothing (all said on
standard error); 1: the formula is violated; 2: bad usage.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table
from common.settings import COUNT, add_flags, from_flags, setting
from sim.losses.optimizer_settings import OPTIMIZER_COLUMNS, OptimizerSettings, rule_of, used_by
from sim.losses.problem_settings import ProblemSettings, make_problem
from sim.monte_carlo.averaging_settings import TOO_FEW, AveragingSettings

if TYPE_CHECKING:
    from adam_minibatch_noise.theory import Array
    from sim.losses.noise_summary import NoiseSummary
    from sim.losses.problems import Problem
    from sim.monte_carlo.expectation_check import Comparison


@dataclass(frozen=True)
class Settings(AveragingSettings, OptimizerSettings, ProblemSettings):
    """A problem, an optimiser, and how to average."""

    control_variate: bool = setting(
        True,
        "subtract from Corr_n its part linear in the noise, whose expectation is 0",
        group="measurement",
        only_with={"method": ("montecarlo",), "optimizer": ("adam",), "eps": (None, 0.0)},
    )


EXAMPLES = (
    "python -m sim.expectation --method enumerate --n-samples 8 --n-params 2 --batch-size 2 --format json",
    "python -m sim.expectation --optimizer lion-smooth --delta 0.1 --n-samples 256 --n-params 8 --n-permutations 2000",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.expectation", description=__doc__.split("\n\n")[0], examples=EXAMPLES)
    add_flags(parser, Settings)
    group = parser.add_argument_group("files and machine")
    group.add_argument("--n-threads", type=COUNT, help="default: all cores; the result does not depend on it")
    add_output_flags(group)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure, compare, write; return 1 if the formula is violated."""
    args = parser().parse_args(argv)
    settings = from_flags(Settings, args)
    problem = make_problem(settings, settings.batch_size)
    from sim.losses.noise_summary import NO_BOUND_KNOWN, range_notice, summarize_noise
    from sim.monte_carlo.expectation_check import compare

    rule = rule_of(settings)
    mean, stderr, n_orders = measure(problem, settings, args.n_threads)
    n_permutations = n_orders if settings.method == "montecarlo" else None
    comparison = compare(
        problem, rule, settings.batch_size, mean, stderr, n_permutations, settings.micro_batch_size
    )
    noise = summarize_noise(problem, settings.batch_size, rule, 1, settings.micro_batch_size)
    write_result(args, **forms(comparison, noise, columns(settings, problem, n_orders)))
    if comparison.verdict == "no bound":
        outside = range_notice(noise.rho, noise.rho_max) if noise.inside_range is False else NO_BOUND_KNOWN
        print(outside, file=sys.stderr)
    if comparison.verdict == "too few orders":
        print(TOO_FEW, file=sys.stderr)
    return int(comparison.verdict == "violated")


def measure(problem: "Problem", settings: Settings, n_threads: int | None) -> tuple["Array", "Array", int]:
    """Return mean and standard error of Corr_n, (n_params,) each, and the number of orders, showing progress."""
    import numpy as np
    from tqdm import tqdm

    from sim.monte_carlo.expectation_check import measure_by_enumeration, measure_by_sampling
    from sim.monte_carlo.sampling import n_ordered_partitions

    corr = (problem, rule_of(settings), settings.batch_size, settings.micro_batch_size)
    enumerated = settings.method == "enumerate"
    total = (
        n_ordered_partitions(problem.n_samples, settings.micro_batch_size or settings.batch_size)
        if enumerated
        else settings.n_permutations
    )
    with tqdm(total=total, unit=" permutations", disable=None, leave=False) as bar:
        if enumerated:
            mean = measure_by_enumeration(*corr, bar.update)
            return mean, np.zeros_like(mean), total
        sampling = (settings.n_permutations, settings.seed, settings.control_variate)
        return *measure_by_sampling(*corr, *sampling, bar.update, n_threads), total


def columns(settings: Settings, problem: "Problem", n_orders: int) -> dict[str, Any]:
    """Return the settings that were used as columns of a table, the others empty."""
    row = used_by(settings)
    names = ("noise", "problem_seed", "batch_size", *OPTIMIZER_COLUMNS, "method", "control_variate", "seed")
    return {
        "problem": settings.problem_name,
        "n_samples": problem.n_samples,
        "n_params": problem.n_params,
        **{name: row[name] for name in names},
        "n_permutations": n_orders,
    }


def forms(comparison: "Comparison", noise: "NoiseSummary", settings: dict[str, Any]) -> dict[str, Any]:
    """Return the comparison as `write_result` takes it, in every form."""
    table = comparison.rows()
    names = list(table[0])
    share = abs(comparison.left_out).max() / (abs(comparison.exact).max() or 1.0)
    verdict = comparison.verdict
    if verdict != "no bound":
        verdict += f": largest excess {comparison.excess.max():.3g} (violated above 1)"
    lines = [
        to_table(names, [["-" if cell is None else cell for cell in row.values()] for row in table]),
        verdict,
        f"the limit n -> infinity leaves out up to {share:.3g} times the exact second-order value here",
        *noise.lines(),
    ]
    value = {name: [row[name] for row in table] for name in names if name != "component"}
    value |= {"verdict": comparison.verdict} | noise.entries() | settings
    return {"rows": [settings | row for row in table], "value": value, "table": "\n".join(lines)}


if __name__ == "__main__":
    run(main)
