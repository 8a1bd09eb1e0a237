"""Measure E[Corr_n] of an optimiser over batch orders and hold it against Proposition 3.3 or its counterpart.

Accepted is: measured - predicted equals what the formula leaves out at second order (finite epoch,
correlated batches, eps; computed exactly), within 4 standard errors plus a rigorous bound on noise of order
three and more (`expansion.bounds`). Exit status 0: accepted, or no bound exists because the noise is too large or none
is known for the optimiser's formula, or it is off by fewer than 100 random orders, which decide nothing (all said on
standard error); 1: the formula is violated; 2: bad usage. Every batch size is measured with every beta2.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.cli import Parser, make_parser, run, write_result
from common.files import to_table
from common.settings import combinations, setting
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


LISTS = ("batch_size", "beta2")
"""Settings of which the program takes lists: it measures every combination, the last running fastest."""
EXAMPLES = (
    "python -m sim.expectation --method enumerate --n-samples 8 --n-params 2 --batch-size 2 --format json",
    "python -m sim.expectation --optimizer lion-smooth --delta 0.1 --n-samples 256 --n-params 8 --n-permutations 2000",
)


def parser() -> Parser:
    """Return the parser of the command line."""
    return make_parser("sim.expectation", __doc__, Settings, EXAMPLES, lists=LISTS, threads=True)


def main(argv: list[str] | None = None) -> int:
    """Measure, compare, write; return 1 if the formula is violated."""
    args = parser().parse_args(argv)
    cells = [(make_problem(s, s.batch_size), s) for s in combinations(Settings, args, LISTS)]
    for _, settings in cells:
        rule_of(settings)  # refused before any work is done
    from tqdm import tqdm

    from sim.losses.noise_summary import NO_BOUND_KNOWN, range_notice, summarize_noise
    from sim.monte_carlo.expectation_check import compare

    made: list[tuple[str, dict[str, Any]]] = []
    notices: dict[str, None] = {}
    total = sum(count_orders(problem, settings) for problem, settings in cells)
    with tqdm(total=total, unit=" permutations", disable=None, leave=False) as bar:
        for problem, settings in cells:
            rule, micro = rule_of(settings), settings.micro_batch_size
            mean, stderr, n_orders = measure(problem, settings, bar.update, args.n_threads)
            n_random = n_orders if settings.method == "montecarlo" else None
            comparison = compare(problem, rule, settings.batch_size, mean, stderr, n_random, micro)
            noise = summarize_noise(problem, settings.batch_size, rule, 1, micro)
            made.append((comparison.verdict, forms(comparison, noise, columns(settings, problem, n_orders))))
            if comparison.verdict == "no bound":
                known = noise.inside_range is False
                notices[range_notice(noise.rho, noise.rho_max) if known else NO_BOUND_KNOWN] = None
            if comparison.verdict == "too few orders":
                notices[TOO_FEW] = None
    write_result(args, **together([form for _, form in made]))
    for notice in notices:
        print(notice, file=sys.stderr)
    return int(any(verdict == "violated" for verdict, _ in made))


def together(made: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the forms of several cells (see `forms`) into one; of one cell they stay as they are."""
    if len(made) == 1:
        return made[0]
    titles = [" ".join(f"{name} {form['value'][name]}" for name in LISTS) for form in made]
    tables = [f"{title}\n{form['table']}" for title, form in zip(titles, made, strict=True)]
    rows = [row for form in made for row in form["rows"]]
    return {"rows": rows, "value": [form["value"] for form in made], "table": "\n\n".join(tables)}


def count_orders(problem: "Problem", settings: Settings) -> int:
    """Return over how many orders `measure` averages."""
    from sim.monte_carlo.sampling import n_ordered_partitions

    if settings.method == "montecarlo":
        return settings.n_permutations
    return n_ordered_partitions(problem.n_samples, settings.micro_batch_size or settings.batch_size)


def measure(
    problem: "Problem", settings: Settings, update: Callable[[int], Any], n_threads: int | None
) -> tuple["Array", "Array", int]:
    """Return mean and standard error of Corr_n, (n_params,) each, and the number of orders; `update` hears of them."""
    import numpy as np

    from sim.monte_carlo.expectation_check import measure_by_enumeration, measure_by_sampling

    corr = (problem, rule_of(settings), settings.batch_size, settings.micro_batch_size)
    n_orders = count_orders(problem, settings)
    if settings.method == "enumerate":
        mean = measure_by_enumeration(*corr, update)
        return mean, np.zeros_like(mean), n_orders
    sampling = (settings.n_permutations, settings.seed, settings.control_variate)
    return *measure_by_sampling(*corr, *sampling, update, n_threads), n_orders


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
        to_table(names, table),
        verdict,
        f"the limit n -> infinity leaves out up to {share:.3g} times the exact second-order value here",
        *noise.lines(),
    ]
    value = {name: [row[name] for row in table] for name in names if name != "component"}
    value |= {"verdict": comparison.verdict} | noise.entries() | settings
    return {"rows": [settings | row for row in table], "value": value, "table": "\n".join(lines)}


if __name__ == "__main__":
    run(main)
