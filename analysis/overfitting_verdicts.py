"""Judge the runs of the study of the best betas by the rules that were fixed before them.

`analysis.reductions.overfitting.rules` says which. Reads tables of `sim.overfitting_study`, made here (--tables) and
recorded (--records); writes one JSON file with a part for each.
"""

import argparse

from common.cli import Parser, run
from common.files import write_json

COLUMNS = (
    "variant", "task", "n_samples", "optimizer", "batch_size", "lr", "beta1", "beta2", "seed", "status", "epoch_of_min",
    "min_valid_loss", "test_loss", "gradient_l1", "gradient_squared", "sharpness", "trace_covariance",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.overfitting_verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", required=True, metavar="CSV", help="of sim.overfitting_study")
    parser.add_argument("--records", nargs="*", default=[], metavar="CSV", help="the same, recorded")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read, judge, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables
    from analysis.reductions.overfitting.verdicts import judge

    result = {}
    for part, paths in (("here", args.tables), ("records", args.records)):
        with tables.refuse_malformed(paths):
            result[part] = judge(tables.read(paths, COLUMNS)) if paths else {}
    write_json(args.out, result)


if __name__ == "__main__":
    run(main)
