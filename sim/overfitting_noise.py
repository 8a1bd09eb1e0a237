"""Measure the noise of every component of the gradient at best points of the study of the best betas.

Trains the runs of the study at beta1 = 0.9, beta2 = 0.999 again, and sums Proposition 3.3 over the network's own
gradient, Hessian and covariance at the best point (`sim.small_networks.moments`): a row a run. C_total takes one
noise-to-signal ratio for all components; here each has its own.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, run
from common.settings import COUNT, POSITIVE, SEED, add_flags, from_flags, setting
from sim.small_networks.settings import Settings as RunSettings
from sim.small_networks.study import settings_of

VARIANTS = ("regression", "digits", "digits-wrong-30")
BETAS = 0.9, 0.999
COLUMNS = ("batch_size", "lr", "seed", "status", "epoch_of_min", "min_valid_loss")
"""Columns taken from the run."""


@dataclass(frozen=True)
class Settings:
    """Which part of the study."""

    variant: str = setting("digits", "task and kind of noise", choices=VARIANTS)
    first_seed: int = setting(0, "first seed", SEED)
    n_seeds: int = setting(20, "seeds", COUNT)
    batch_sizes: tuple[int, ...] = setting(
        (), "batch sizes; default: those of the variant", COUNT, unit="samples"
    )
    lrs: tuple[float, ...] = setting(
        (), "learning rate of each batch size, in their order; default: all of the study", POSITIVE
    )


EXAMPLES = (
    "python -m sim.overfitting_noise --variant regression --n-seeds 2 --out regression.csv",
    "python -m sim.overfitting_noise --variant digits --batch-sizes 4 --lrs 0.003 --n-seeds 2 --out digits.csv",
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.overfitting_noise", description=__doc__, examples=EXAMPLES)
    add_flags(parser, Settings)
    files = parser.add_argument_group("files and machine")
    files.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table (.gz: compressed)")
    return parser


def runs_of(
    variant: str, seeds: Sequence[int], batch_sizes: Sequence[int] = (), lrs: Sequence[float] = ()
) -> list[RunSettings]:
    """List the runs of a variant of the study that have the library's default betas.

    Raises
    ------
    InputError
        The variant has no such batch size, or it has not this learning rate there.
    """
    if lrs and len(lrs) != len(batch_sizes):
        raise InputError(f"lrs has {len(lrs)} values, allowed: {len(batch_sizes)}, one a batch size")
    runs = [
        one for one in settings_of(variant, seeds, batch_sizes, ["beta2"]) if (one.beta1, one.beta2) == BETAS
    ]
    wanted = dict(zip(batch_sizes, lrs, strict=False))
    for size, lr in wanted.items():
        allowed = sorted({one.lr for one in runs if one.batch_size == size})
        if lr not in allowed:
            raise InputError(
                f"lr is {lr}, allowed for {variant} at batch size {size}: {' '.join(map(str, allowed))}"
            )
    return [one for one in runs if wanted.get(one.batch_size, one.lr) == one.lr]


def main(argv: list[str] | None = None) -> None:
    """Train, measure, write."""
    arguments = parser().parse_args(argv)
    s = from_flags(Settings, arguments)
    from tqdm import tqdm

    from sim.small_networks.moments import noise_at_best
    from sim.small_networks.runs import write_table

    runs = runs_of(s.variant, range(s.first_seed, s.first_seed + s.n_seeds), s.batch_sizes, s.lrs)
    rows = []
    with tqdm(total=len(runs), unit="run", disable=None) as bar:
        for one in runs:
            result, noise = noise_at_best(one)
            row = vars(one) | result
            rows.append({"variant": s.variant} | {name: row[name] for name in COLUMNS} | noise)
            bar.update()
    write_table(arguments.out, rows)
    print(f"{arguments.out}: {len(rows)} runs")


if __name__ == "__main__":
    run(main)
