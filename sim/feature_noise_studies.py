"""Run one study of stochastic Adam on the two-layer CNN: the published table, unstated choices, confounders, sweeps.

`sim.feature_noise.studies` says which runs a study has and what was to be concluded from them, written down before.
Every run is repeated for seeds --seed, --seed + 1, ...; the table has a row for each measurement of each run.
"""

import argparse
import sys
from dataclasses import replace

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table, write_json
from common.settings import COUNT, add_flags, from_flags
from sim.feature_noise.settings import Settings

STUDIES = ("table", "choices", "steps", "supports", "replacement", "betas", "batch", "decay")
SHOWN = ("case", "n_seeds", "train_error", "test_error", "test_error_std", "signal", "noise")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.feature_noise_studies", description=__doc__.split("\n\n")[0])
    parser.add_argument("--study", choices=STUDIES, required=True, help="which")
    parser.add_argument(
        "--n-seeds", type=COUNT, default=5, help="runs of each case, of seeds --seed, --seed + 1, ..."
    )
    parser.add_argument("--cases", nargs="+", metavar="TEXT", help="only the cases that contain one of these")
    parser.add_argument("--n-threads", type=COUNT, help="default: all cores; no effect on the result")
    add_flags(parser, Settings)
    add_output_flags(parser)
    parser.add_argument("--how", metavar="FILE", help="write there how --out was made, as JSON")
    return parser


def chosen_cases(args: argparse.Namespace) -> dict[str, Settings]:
    """Return the runs that the flags ask for, by name.

    Raises
    ------
    InputError
        If a run cannot be done, or no case is left.
    """
    from sim.feature_noise import studies

    cases = studies.STUDIES[args.study](from_flags(Settings, args))
    if args.cases:
        cases = {name: case for name, case in cases.items() if any(text in name for text in args.cases)}
        if not cases:
            raise InputError(f"--cases is {' '.join(args.cases)!r}, allowed: a part of the name of a case")
    for settings in cases.values():
        settings.check()
    return cases


def overview(rows: list[dict], n_seeds: int) -> list[list]:
    """Return a line a case: means over seeds of the last measurement."""
    import numpy as np

    last = {}
    for row in rows:
        last[row["case"], row["seed"]] = row
    lines = []
    for case in dict.fromkeys(name for name, _ in last):
        ends = [row for (name, _), row in last.items() if name == case]
        error = np.array([end["test_error"] for end in ends])
        signal = np.mean([min(end["signal_plus"], end["signal_minus"]) for end in ends])
        train, noise = (np.mean([end[name] for end in ends]) for name in ("train_error", "noise"))
        lines.append([case, n_seeds, train, error.mean(), error.std(), signal, noise])
    return [[float(cell) if isinstance(cell, np.floating) else cell for cell in line] for line in lines]


def main(argv: list[str] | None = None) -> None:
    """Run, write."""
    args = parser().parse_args(argv)
    if args.how and not args.out:
        raise InputError("--how says how the file of --out was made, which is missing")
    cases = chosen_cases(args)
    from tqdm import tqdm

    from sim.feature_noise.training import train
    from sim.feature_noise_run import columns
    from sim.monte_carlo.parallel_mean import in_threads

    seeds = range(args.seed, args.seed + args.n_seeds)
    runs = [(name, replace(case, seed=seed)) for name, case in cases.items() for seed in seeds]
    total = sum(settings.total_steps for _, settings in runs)
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        records = list(in_threads(lambda run: train(run[1], bar.update), runs, args.n_threads))
    rows = [
        {"study": args.study, "case": name} | columns(settings) | row
        for (name, settings), measured in zip(runs, records, strict=True)
        for row in measured
    ]
    lines = overview(rows, args.n_seeds)
    value = [dict(zip(SHOWN, line, strict=True)) for line in lines]
    write_result(args, rows=rows, value={"study": args.study, "cases": value}, table=to_table(SHOWN, lines))
    if args.how:
        from common import provenance

        words = sys.argv[1:] if argv is None else argv
        write_json(args.how, provenance.describe_table("sim.feature_noise_studies", words, args.out))


if __name__ == "__main__":
    run(main)
