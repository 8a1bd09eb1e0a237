"""Measure the gradient noise scale B_simple = tr(Sigma)/|g|^2 at snapshots of a run, without dropout.

`exact` takes the gradient of every training window by itself; `two-batch` draws batches of two sizes at the same
parameters and gives an estimate with its confidence interval (Fieller's). One row a snapshot: the settings of its
run, where it stood, and what was measured; what the method does not measure is nan.
"""

import sys
from argparse import BooleanOptionalAction
from pathlib import Path

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, add_output_flags, run, write_result
from common.files import to_table
from common.settings import add_flags, from_flags
from train.language.noise_measurements import Settings, measure
from train.runtime import device_flags

SHOWN = (
    "batch_size lr beta2 seed epoch valid_perplexity b_simple component_q50 b_simple_estimate b_simple_low"
)
"""Columns of the table for the eye."""


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m train.noise_scale",
        description=__doc__,
        examples=[
            "python -m train.run --batch-size 32 --n-epochs 4 --snapshots snapshots --out run.csv",
            "python -m train.noise_scale --snapshots snapshots/*.pt --method exact",
        ],
    )
    parser.add_argument("--snapshots", type=Path, nargs="+", required=True, metavar="FILE", help="of runs")
    add_flags(parser, Settings)
    files = parser.add_argument_group("files and machine").add_argument
    files("--data-dir", type=Path, help="folder that holds wikitext-2/{train,valid,test}.txt; else: download")
    files("--cache-dir", type=Path, help="folder of downloads; None: ~/.cache/adam-minibatch-noise")
    files("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: cuda where there is one")
    files("--n-threads", type=device_flags.threads, default=1, metavar="N", help="of the CPU")
    files("--progress", action=BooleanOptionalAction, default=sys.stderr.isatty(), help="show a bar")
    add_output_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Read the snapshots, measure each, write one row a snapshot."""
    args = parser().parse_args(argv)
    settings = from_flags(Settings, args)
    import torch

    from train.language.snapshots import load_snapshot

    device = torch.device(device_flags.device_type(args))
    rows = []
    for path in args.snapshots:
        snapshot = load_snapshot(path, device)
        try:
            device_flags.check_folders(args, snapshot.settings.corpus)
            rows.append(measure(snapshot, settings, device, args.data_dir, args.cache_dir, args.progress))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    shown = [*SHOWN.split(), "b_simple_high"]
    table = to_table(shown, rows)
    write_result(args, rows=rows, value=rows, table=table)


if __name__ == "__main__":
    run(main)
