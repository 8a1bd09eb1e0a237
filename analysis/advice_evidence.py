"""Write what the study of the best betas found of each rule into the library, where `adam-noise advise` reads it.

Takes the recorded runs if there are any, otherwise those made here.
"""

import argparse

from common.cli import Parser, run
from common.files import write_json

FILE = "adam_minibatch_noise/advice/evidence.json"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.advice_evidence", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--verdicts",
        default="results/analysis/overfitting.json",
        metavar="JSON",
        help="written by analysis.overfitting_verdicts",
    )
    parser.add_argument("--out", default=FILE, metavar="FILE", help="JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read, collect, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import verdicts
    from analysis.reductions.advice_evidence import summarize

    part, judged = verdicts.read(args.verdicts)
    source = {
        verdicts.RECORDS: "records/overfitting",
        verdicts.HERE: "a small study, made by the workflow",
    }[part]
    text = verdicts.read(args.verdicts, verdicts.TEXT)[1]
    write_json(args.out, summarize(source, judged, text))


if __name__ == "__main__":
    run(main)
