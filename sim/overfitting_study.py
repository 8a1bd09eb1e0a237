"""Train the networks of the study of the best betas, a row a run (`sim.small_networks.study` lists them).

A killed command goes on where it was when it is given again. Twenty seeds of a variant take 10 minutes to an hour of
two cores; records/overfitting/measure.sh runs all.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from common.cli import Parser, run
from common.settings import COUNT, SEED, add_flags, from_flags, setting
from sim.small_networks.study import CURVES, VARIANTS


@dataclass(frozen=True)
class Settings:
    """Which part of the study."""

    variant: str = setting("digits", "task and kind of noise", choices=tuple(VARIANTS))
    first_seed: int = setting(0, "first seed", SEED)
    n_seeds: int = setting(20, "seeds", COUNT)
    batch_sizes: tuple[int, ...] = setting(
        (), "batch sizes; default: those of the variant", COUNT, unit="samples"
    )
    curves: tuple[str, ...] = setting(
        (), "curves of betas; default: those of the variant", choices=tuple(CURVES)
    )


EXAMPLES = (
    "python -m sim.overfitting_study --variant regression --batch-sizes 64 128 --n-seeds 2 --out regression.csv",
    "python -m sim.overfitting_study --variant digits --batch-sizes 16 256 --curves beta2 --n-seeds 2 --out digits.csv",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.overfitting_study", description=__doc__, examples=EXAMPLES)
    add_flags(parser, Settings)
    files = parser.add_argument_group("files and machine")
    files.add_argument("--n-threads", type=COUNT, help="default: all cores; no effect on the result")
    files.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table (.gz: compressed)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Train, write."""
    arguments = parser().parse_args(argv)
    s = from_flags(Settings, arguments)
    from tqdm import tqdm

    from sim.small_networks.runs import run_all, summary, write_table
    from sim.small_networks.study import settings_of

    settings = settings_of(s.variant, range(s.first_seed, s.first_seed + s.n_seeds), s.batch_sizes, s.curves)
    with tqdm(total=len(settings), unit="run", disable=None) as bar:
        rows = run_all(settings, arguments.out, arguments.n_threads, progress=bar.update)
    write_table(arguments.out, [{"variant": s.variant} | row for row in rows])
    print(summary(arguments.out, rows))


if __name__ == "__main__":
    run(main)
