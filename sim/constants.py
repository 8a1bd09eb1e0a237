"""Print the constants of Proposition 3.3 for one pair of betas: ``python -m sim.constants --help``."""

import argparse

from common.cli import Parser, run
from common.files import to_json, to_table
from common.settings import BETA, NONNEGATIVE


def constants(beta1: float, beta2: float, lam: float) -> dict[str, float]:
    """Collect FB, C1..C5 and C_total (n -> infinity, then eps -> 0).

    Parameters
    ----------
    beta1, beta2 : float
        In [0, 1).
    lam : float
        Noise-to-signal ratio of a batch gradient, >= 0.

    Returns
    -------
    dict of str to float
        Keys beta1, beta2, lam, FB, C1, C2, C3, C4, C5, C_total.
    """
    from adam_minibatch_noise.theory import c_total, limit_constants

    values = vars(limit_constants(beta1, beta2))
    return (
        {"beta1": beta1, "beta2": beta2, "lam": lam} | values | {"C_total": float(c_total(beta1, beta2, lam))}
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.constants", description=__doc__)
    parser.add_argument("--beta1", type=BETA, default=0.9, help="decay rate of the first moment, [0, 1)")
    parser.add_argument("--beta2", type=BETA, default=0.999, help="decay rate of the second moment, [0, 1)")
    parser.add_argument("--lam", type=NONNEGATIVE, default=0.5, help="noise-to-signal ratio of a batch, >= 0")
    parser.add_argument("--format", choices=["table", "json"], default="table", help="form of the output")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print the constants as a table or as one JSON object."""
    args = parser().parse_args(argv)
    values = constants(args.beta1, args.beta2, args.lam)
    print(to_json(values) if args.format == "json" else to_table(["name", "value"], list(values.items())))


if __name__ == "__main__":
    run(main)
