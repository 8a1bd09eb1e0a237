"""Print the constants of Proposition 3.3 for one pair of betas: ``python -m sim.constants --help``."""

import argparse
from dataclasses import dataclass

from common.cli import Parser, run
from common.files import to_json, to_table
from common.settings import BETA, NONNEGATIVE, add_flags, from_flags, setting


@dataclass(frozen=True)
class Settings:
    """Betas and noise."""

    beta1: float = setting(0.9, "decay rate of the first moment", BETA)
    beta2: float = setting(0.999, "decay rate of the second moment", BETA)
    lam: float = setting(0.5, "noise-to-signal ratio of a batch", NONNEGATIVE)


EXAMPLES = (
    "python -m sim.constants --beta1 0.9 --beta2 0.99 --lam 1.5",
    "python -m sim.constants --format json",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.constants", description=__doc__, examples=EXAMPLES)
    add_flags(parser, Settings)
    parser.add_argument("--format", choices=["table", "json"], default="table", help="form of the output")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print FB, C1..C5 and C_total (n -> infinity, then eps -> 0) as a table or as one JSON object."""
    args = parser().parse_args(argv)
    settings = from_flags(Settings, args)
    from adam_minibatch_noise.theory import c_total, limit_constants

    values = vars(settings) | vars(limit_constants(settings.beta1, settings.beta2))
    values |= {"C_total": float(c_total(**vars(settings)))}
    print(to_json(values) if args.format == "json" else to_table(["name", "value"], list(values.items())))


if __name__ == "__main__":
    run(main)
