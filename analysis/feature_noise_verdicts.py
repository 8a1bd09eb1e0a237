"""Hold the studies of feature noise against what was published, by the rules of the studies.

The rules are those of `sim.feature_noise.studies`, written down before the runs. Reads tables of
`sim.feature_noise_studies`, made here (--tables) and recorded at the published size (--records); writes one JSON file
with a part for each, a key a study.
"""

import argparse

from common.cli import Parser, run
from common.files import write_json


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m analysis.feature_noise_verdicts", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--tables", nargs="+", required=True, metavar="CSV", help="of sim.feature_noise_studies"
    )
    parser.add_argument(
        "--records", nargs="*", default=[], metavar="CSV", help="the same at the published size"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read, judge, write."""
    args = parser().parse_args(argv)
    from analysis.inputs import feature_noise, tables
    from analysis.reductions.feature_noise_verdicts import verdicts

    with tables.refuse_malformed(args.tables):
        result = {"here": verdicts(feature_noise.read(args.tables))}
    with tables.refuse_malformed(args.records):
        result["published_size"] = verdicts(feature_noise.read(args.records)) if args.records else {}
    write_json(args.out, result)


if __name__ == "__main__":
    run(main)
