"""The small Transformer-XL across its critical batch size: print the commands of the panels that are not there yet.

The most telling first: one learning rate after the other, so that each gives a verdict by itself, and of each the
smallest and the full batch before those between. records/train/small_sweep/measure.sh runs them; each goes on where it
was when it is given again. `analysis.reductions.overfitting.text_model` holds the rules by which they are judged.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.cli import Parser, run
from common.settings import COUNT
from train.language.settings import Settings

BETA2 = (0.769, 0.9, 0.972, 0.99, 0.999)
BETA1 = (0.0, 0.5, 0.8, 0.95, 0.972)
DIAGONAL = (0.769, 0.95, 0.972, 0.99, 0.999)
CURVES = {"beta2": ((0.9,), BETA2), "beta1": (BETA1, (0.999,)), "diagonal": ((), DIAGONAL)}
"""Values of beta1 and of beta2 of each curve; on the diagonal beta1 is beta2, and (0.9, 0.9) is on the first curve."""
LRS = (0.002, 0.006, 0.001)
FURTHER_LRS = {8: 0.0003, 4217: 0.018, 1024: 0.018, 128: 0.0003}
"""A factor of three beyond `LRS`, on the side where the best one of the batch size is to be expected."""
SEEDS = (0, 2)
"""First seeds of the panels, each of two: 0 to 3 in all; even and odd ones are the two halves of the rules."""
MODEL: dict[str, Any] = {
    "corpus": "pydoc", "n_layer": 2, "n_head": 2, "d_model": 64, "d_head": 32, "d_inner": 128, "tgt_len": 16,
    "eps": 1e-6,
}  # fmt: skip
"""That of config/config.yaml. Published: 54.6 million parameters; here 380 thousand."""
LENGTH: dict[int, dict[str, Any]] = {
    8: {"n_epochs": 24, "patience": 4, "evaluations_per_epoch": 2.0},
    128: {"n_epochs": 80, "patience": 6, "evaluations_per_epoch": 2.0},
    1024: {"n_epochs": 300, "patience": 12, "evaluations_per_epoch": 1.0, "micro_batch_size": 128},
    4217: {"n_epochs": 1200, "patience": 24, "evaluations_per_epoch": 0.5, "micro_batch_size": 128},
}
"""By batch size, 4217 being all windows: a run ends two epochs or 48 to 96 steps after its last best evaluation."""
BATCH_SIZES = (8, 4217, 128, 1024)
"""In the order of the panels."""
WITH_DROPOUT = 0.1
"""For one panel, in a folder of its own."""


@dataclass(frozen=True)
class Panel:
    """Runs of one table: a curve of betas at two seeds.

    Attributes
    ----------
    curve : str
        One of `CURVES`.
    settings : Settings
        Of its first run.
    """

    curve: str
    settings: Settings

    @property
    def name(self) -> str:
        """Table within the folder of the records, without its suffix; what is on no curve is in a folder of its own."""
        s = self.settings
        folder = f"dropout-{s.dropout}/" if s.dropout else "diagonal/" if self.curve == "diagonal" else ""
        if s.lr not in LRS:
            folder = "further_rates/"
        return f"{folder}{self.curve}_b{s.batch_size}_lr{s.lr}_seeds-{s.seed}"

    def command(self, folder: Path, device: str = "cpu") -> list[str]:
        """Return the arguments of Python that make the table in `folder` on `device`."""
        s, defaults = self.settings, Settings()
        beta1, beta2 = CURVES[self.curve]
        flags = [
            f"--{name.replace('_', '-')} {getattr(s, name)}"
            for name in Settings.__dataclass_fields__
            if name not in ("beta1", "beta2", "seed")
            and (name == "lr" or getattr(s, name) != getattr(defaults, name))
        ]
        first = f"--beta1 {' '.join(map(str, beta1))}" if beta1 else "--diagonal"
        swept = f"{first} --beta2 {' '.join(map(str, beta2))} --seed {s.seed} {s.seed + 1}"
        stacked = not s.dropout and (s.batch_size <= 32 or device == "cuda")
        how = "--at-best" + (" --side-by-side 10" if stacked else " --no-compile") + f" --device {device}"
        return f"-m train.sweep {' '.join(flags)} {swept} {how} --out {folder / self.name}.csv".split()


def panels() -> Iterator[Panel]:
    """List the panels of the study, the most valuable first."""

    def panel(curve: str, batch_size: int, lr: float, seed: int, dropout: float = 0.0) -> Panel:
        shared = {**MODEL, **LENGTH[batch_size], "dropout": dropout}
        return Panel(curve, Settings(**shared, batch_size=batch_size, lr=lr, seed=seed))

    def curve(name: str, lrs: Sequence[float]) -> Iterator[Panel]:
        for lr in lrs:
            for seed in SEEDS:
                for batch_size in BATCH_SIZES:
                    yield panel(name, batch_size, lr, seed)

    yield from curve("beta2", LRS)
    for batch_size, lr in FURTHER_LRS.items():
        for seed in SEEDS:
            yield panel("beta2", batch_size, lr, seed)
    for seed in SEEDS:
        yield panel("beta2", 128, LRS[0], seed, WITH_DROPOUT)
    for lr in LRS:
        yield from curve("diagonal", [lr])
        yield from curve("beta1", [lr])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m train.small_study",
        description=__doc__,
        examples=["python -m train.small_study --n-panels 3", "bash records/train/small_sweep/measure.sh"],
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("records/train/small_sweep"),
        help="of the tables; one that is there is not listed",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that the commands name")
    parser.add_argument("--n-panels", type=COUNT, metavar="N", help="list the next so many; default: all")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Print a line a panel: the arguments of Python."""
    args = parser().parse_args(argv)
    missing = [panel for panel in panels() if not (args.folder / f"{panel.name}.csv").exists()]
    for panel in missing[: args.n_panels]:
        print(*panel.command(args.folder, args.device))
    print(f"{len(missing)} of {sum(1 for _ in panels())} panels are missing", file=sys.stderr)


if __name__ == "__main__":
    run(main)
