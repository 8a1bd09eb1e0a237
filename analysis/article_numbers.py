"""Assemble the numbers that the article's text quotes, from the files the studies wrote.

`analysis.reductions` says how each of them is computed.
"""

import argparse

from common.cli import Parser, run
from common.files import write_json


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.article_numbers", description=__doc__)
    add = parser.add_argument
    add("--expectation", required=True, metavar="CSV", help="summary of plot_expectation")
    add("--best", required=True, nargs="+", metavar="CSV", help="tables of best_betas")
    add("--critical", required=True, metavar="JSON", help="summary of plot_best_beta2")
    add("--noise-scale", required=True, nargs="+", metavar="CSV", help="tables of train.noise_scale")
    add("--recorded", required=True, nargs="+", metavar="CSV", help="--best, of the records")
    add("--recorded-critical", required=True, metavar="JSON", help="--critical, of the records")
    add("--recorded-noise-scale", nargs="*", default=[], metavar="CSV", help="--noise-scale, of the records")
    add("--certify", required=True, metavar="CSV", help="table of certify")
    add("--closeness", required=True, metavar="CSV", help="table of sim.closeness")
    add("--map", required=True, metavar="CSV", help="table of sim.turning")
    add("--turning", required=True, metavar="CSV", help="turning points of sim.turning")
    add("--terms", required=True, nargs="+", metavar="CSV", help="tables of sim.terms")
    add("--runs", required=True, nargs="+", metavar="JSON", help="records of train.sweep")
    add("--recorded-runs", nargs="*", default=[], metavar="JSON", help="--runs, of records drawn with them")
    add("--out", required=True, metavar="JSON", help="numbers of the article")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Collect and write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables, titles
    from analysis.reductions import (
        certificates,
        closeness,
        expectation,
        noise_scales,
        sweep_numbers,
        terms,
        training_runs,
        turning,
    )

    with tables.refuse_malformed(path for name, path in vars(args).items() if name != "out"):
        judged = expectation.JUDGED
        columns = [*expectation.EFFECTS, *judged, *judged.values()]
        effects = tables.read([args.expectation], columns, expectation.EFFECTS, judged)
        slopes = tables.read([args.closeness], closeness.COLUMNS, finite=closeness.FINITE)
        of_map = tables.read([args.map], turning.MAP, finite=turning.MAP[1:])
        points = tables.read([args.turning], turning.TURNING)
        numbers = {
            "expectation": expectation.summarize(effects),
            "sweep": sweep_numbers.summarize(args.best),
            "noise_scale": noise_scales.summarize(args.noise_scale, args.critical),
            "recorded": sweep_numbers.summarize(args.recorded),
            "recorded_noise_scale": noise_scales.summarize(args.recorded_noise_scale, args.recorded_critical),
            "closeness": closeness.summarize(slopes),
            "turning": turning.summarize(of_map, points),
            "terms": terms.summarize(args.terms),
            "runs": training_runs.summarize(args.runs, args.recorded_runs),
            "certify": certificates.summarize(tables.read([args.certify], certificates.COLUMNS)),
            "titles": {"optimizers": titles.OPTIMIZERS, "corpora": titles.CORPORA},
        }
    write_json(args.out, numbers)


if __name__ == "__main__":
    run(main)
