"""Write what the study of betas found of each rule into the library, where `adam-noise advise` reads it.

Reads the part "rules" of the study's verdicts: a list of objects with rule, task and verdict.
"""

import argparse

from common.cli import Parser, run
from common.files import write_json

FILE = "adam_minibatch_noise/advice/evidence.json"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.advice_evidence", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--verdicts", default="results/analysis/overfitting.json", metavar="JSON", help="of the study"
    )
    parser.add_argument("--source", default="this repository's study of betas", help="named in the file")
    parser.add_argument("--out", default=FILE, metavar="FILE", help="JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read, collect, write."""
    args = parser().parse_args(argv)
    import json

    from adam_minibatch_noise.errors import InputError
    from analysis.reductions.advice_evidence import summarize

    with open(args.verdicts, encoding="utf-8") as file:
        try:
            verdicts = json.load(file)
        except ValueError as error:
            raise InputError(f"{args.verdicts}: is no JSON") from error
    rows = verdicts.get("rules") if isinstance(verdicts, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{args.verdicts}: has no list of objects called 'rules'")
    write_json(args.out, summarize(args.source, rows))


if __name__ == "__main__":
    run(main)
