"""Train many small networks past their best validation loss, a run on one core, and write a row a run.

Every combination of the listed values is a run. Rows hold the settings, the least validation loss and where it was, and
what was measured there: test loss and error, training loss, the 1-norm of its gradient, its rise along the sign of the
gradient (`sharpness`), tr(Sigma) and the noise scale `b_simple` of single-sample gradients, exactly. `status` is ok,
unfinished (the best point may be still to come: raise --max-epochs) or diverged (never better than at the start).

The same flags give the same bytes, for any number of threads and on any processor that fuses multiply and add. With
--out FILE finished runs are kept beside FILE, and the same command goes on after it was killed.
"""

import argparse
from pathlib import Path

from common.cli import Parser, run
from common.settings import COUNT, add_flags, combinations
from sim.small_networks.settings import Settings

LISTS = ("label_noise", "batch_size", "lr", "beta1", "beta2", "seed")
EXAMPLES = (
    "python -m sim.overfitting --task digits --batch-size 4 64 0 --lr 1e-3 3e-3 --beta2 0.9 0.99 0.999 --seed 0 1 "
    "--out digits.csv",
    "python -m sim.overfitting --task words --optimizer invariant-adamw --micro-batch-size 4 --batch-size 64",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.overfitting", description=__doc__, examples=EXAMPLES)
    add_flags(parser, Settings, lists=LISTS)
    files = parser.add_argument_group("files and machine")
    files.add_argument("--n-threads", type=COUNT, help="default: all cores; no effect on the result")
    files.add_argument(
        "--out", type=Path, metavar="FILE", help="the table, in place of standard output (.gz: compressed)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Train, write."""
    arguments = parser().parse_args(argv)
    settings = combinations(Settings, arguments, LISTS)
    import sys

    from tqdm import tqdm

    from common.files import to_csv
    from sim.small_networks.runs import run_all, summary, write_table

    with tqdm(total=len(settings), unit="run", disable=None) as bar:
        rows = run_all(settings, arguments.out, arguments.n_threads, progress=bar.update)
    if arguments.out is None:
        sys.stdout.write(to_csv(rows))
    else:
        write_table(arguments.out, rows)
        print(summary(arguments.out, rows))


if __name__ == "__main__":
    run(main)
