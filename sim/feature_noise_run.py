"""Train the two-layer CNN by Adam or AdamW, and measure what it fits: the signal, or the noise of its samples.

The defaults are the published study (arXiv:2510.11354), batch 2, AdamW. A sample counts as an error if its margin is
not positive, so a tie is an error. Alignments are max_r <w_jr, j v>, the smaller of the two classes, and
min_i max_r <w_{y_i r}, xi_i>. With --n-seeds, runs of consecutive seeds; threads are shared among them.
"""

import argparse
from dataclasses import asdict, replace
from typing import Any

from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table
from common.settings import COUNT, add_flags, from_flags, names
from sim.feature_noise.settings import Settings

LEFT_OUT = ("n_epochs", "n_test", "n_records")
"""Settings that are no column of a table: lengths are in steps there."""
SHOWN = ("seed", "step", "loss", "train_error", "test_error", "signal_plus", "signal_minus", "noise")


def columns(settings: Settings) -> dict[str, Any]:
    """Return the settings as columns of a table."""
    row = {name: getattr(settings, name) for name in names(Settings) if name not in LEFT_OUT}
    return row | {"n_steps": settings.total_steps}


def summary(settings: Settings, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the last measurement of a run and its settings, as `--format json` prints them."""
    last = rows[-1]
    return {
        **{name: last[name] for name in ("train_error", "test_error", "loss", "noise_scale")},
        "signal_alignment": min(last["signal_plus"], last["signal_minus"]),
        "noise_alignment": last["noise"],
        "settings": asdict(settings) | {"n_steps": settings.total_steps},
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m sim.feature_noise_run", description=__doc__.split("\n\n")[0])
    add_flags(parser, Settings)
    parser.add_argument("--n-seeds", type=COUNT, default=1, help="runs, of seeds --seed, --seed + 1, ...")
    parser.add_argument("--n-threads", type=COUNT, help="default: all cores; no effect on the result")
    add_output_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run, write."""
    args = parser().parse_args(argv)
    first = from_flags(Settings, args)
    first.check()
    from tqdm import tqdm

    from sim.feature_noise.training import train
    from sim.monte_carlo.parallel_mean import in_threads

    runs = [replace(first, seed=first.seed + i) for i in range(args.n_seeds)]
    total = sum(settings.total_steps for settings in runs)
    with tqdm(total=total, unit=" steps", unit_scale=True, disable=None, leave=False) as bar:
        records = list(in_threads(lambda settings: train(settings, bar.update), runs, args.n_threads))
    every = [columns(settings) | row for settings, rows in zip(runs, records, strict=True) for row in rows]
    ends = [summary(settings, rows) for settings, rows in zip(runs, records, strict=True)]
    write_result(
        args,
        rows=every,
        value=ends[0] if args.n_seeds == 1 else {"runs": ends},
        table=to_table(list(SHOWN), [[row[name] for name in SHOWN] for row in every]),
    )


if __name__ == "__main__":
    run(main)
