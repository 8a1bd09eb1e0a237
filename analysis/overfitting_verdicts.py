"""Judge the runs of the study of the best betas by the rules that were fixed before them.

`analysis.reductions.overfitting.rules` says which. Reads tables of `sim.overfitting_study`, made here (--tables) and
recorded (--records), and recorded ones of `sim.overfitting_noise` (--noise); writes one JSON file with a part for each.
Recorded runs of the small Transformer-XL (--text; `train.small_study`) get a part of their own, by the same rules.
"""

import argparse

from common.cli import Parser, run
from common.files import write_json

COLUMNS = (
    "variant", "task", "n_samples", "optimizer", "batch_size", "lr", "beta1", "beta2", "seed", "status", "epoch_of_min",
    "min_valid_loss", "test_loss", "gradient_l1", "gradient_squared", "sharpness", "trace_covariance",
)  # fmt: skip
NOISE_COLUMNS = ("variant", "batch_size", "seed", "n_params", "median_noise", "largest_share")
"""Beside those that `analysis.reductions.overfitting.components` names."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.overfitting_verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="+", required=True, metavar="CSV", help="of sim.overfitting_study")
    parser.add_argument("--records", nargs="*", default=[], metavar="CSV", help="the same, recorded")
    parser.add_argument(
        "--noise", nargs="*", default=[], metavar="CSV", help="of sim.overfitting_noise, recorded"
    )
    parser.add_argument(
        "--text", nargs="*", default=[], metavar="CSV", help="of train.sweep --at-best, recorded"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read, judge, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import tables
    from analysis.reductions.overfitting.components import COLUMNS as COMPONENTS
    from analysis.reductions.overfitting.verdicts import judge

    result = {}
    for part, paths, noise in (("here", args.tables, []), ("records", args.records, args.noise)):
        with tables.refuse_malformed([*paths, *noise]):
            components = tables.read(noise, (*NOISE_COLUMNS, *COMPONENTS)) if noise else None
            result[part] = judge(tables.read(paths, COLUMNS), components) if paths else {}
    from analysis.reductions.overfitting import text_model

    with tables.refuse_malformed(args.text):
        result["text"] = text_model.judge(tables.read(args.text, text_model.COLUMNS)) if args.text else {}
    write_json(args.out, result)


if __name__ == "__main__":
    run(main)
