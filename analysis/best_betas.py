"""Find the best beta of each learning rate and batch size, and its gain over a baseline (Table 1).

`analysis.reductions.best_betas` says how.
"""

import argparse

from analysis.inputs import sweep_flags
from common.cli import Parser, run
from common.files import write_csv
from common.settings import BETA


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.best_betas", description=__doc__)
    sweep_flags.add_flags(parser)
    parser.add_argument("--baseline", type=BETA, default=0.999, help="value of the swept beta to gain over")
    parser.add_argument("--published", metavar="CSV", help="also give the published bests and gains")
    parser.add_argument("--out", required=True, metavar="CSV", help="one row a learning rate and batch size")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read, reduce, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables

    with tables.refuse_malformed(args.tables):
        _reduce(args)


def _reduce(args: argparse.Namespace) -> None:
    from analysis.reductions.best_betas import best_rows, join_published

    runs, cells = sweep_flags.read_cells(args)
    rows = best_rows(runs, cells, args.swept, args.baseline)
    write_csv(args.out, join_published(rows, args.published) if args.published else rows)


if __name__ == "__main__":
    run(main)
