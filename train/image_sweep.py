"""Train networks to tell images apart, with Adam or AdamW, for every combination of the listed settings.

`--out FILE.csv` gets one row an evaluation, the same bytes for the same flags; FILE.json beside it gets how it was made
and how long it took. Both appear when the study is over, the CSV last; with `--checkpoint` a killed study goes on from
where it was. The test error is recorded at each evaluation and decides nothing here: choose by the validation error.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from adam_minibatch_noise.errors import InputError
from common.cli import Parser, allow_only, run
from common.files import locked, write_csv, write_json
from common.settings import add_flags, combinations
from train.images.settings import LISTS, Settings, as_study
from train.runtime import device_flags

if TYPE_CHECKING:
    pass


def main(argv: list[str] | None = None) -> int:
    """Read the flags, train, write FILE.json and FILE.csv."""
    arguments = parser().parse_args(argv)
    settings, out, checkpoint = combinations(Settings, arguments, LISTS), arguments.out, arguments.checkpoint
    device_flags.check_folders(arguments, settings[0].dataset)
    allow_only(arguments, ["checkpoint_seconds"], checkpoint is not None, "with --checkpoint")
    device_flags.check_out(out, checkpoint)

    import torch

    from common import provenance
    from train.images import datasets, loop, study
    from train.images.batches import to_device
    from train.runtime import checkpoints

    device, first = torch.device(device_flags.device_type(arguments)), settings[0]
    compiled = device_flags.compiled(arguments, device)
    if compiled and device.type == "cpu":  # before anything is read
        raise InputError(loop.NO_COMPILE)
    with locked(out):
        loaded = datasets.load(first.dataset, arguments.data_dir, arguments.cache_dir, first.split_seed)
        data = to_device(loaded, first.max_train_images, first.channels_last, device)
        seconds, progress = arguments.checkpoint_seconds, arguments.progress
        done = study.train_all(settings, data, checkpoint, seconds, progress, compiled)
        rows = [row for one in done for row in one.pop("rows")]
        outcomes = [asdict(s) | one for s, one in zip(settings, done, strict=True)]
        described = datasets.describe(loaded)
        made = {
            "images": described,
            "made_with": {**provenance.describe_device(device), "compiled": compiled},
        }
        write_json(out.with_suffix(".json"), {"study": as_study(settings), "cells": outcomes, **made})
        write_csv(out, rows)
        if checkpoint:
            checkpoints.remove(checkpoint)
    n_diverged = sum(one["status"] == "diverged" for one in done)
    print(f"{out}: {len(done)} trainings on {described['title']}, {n_diverged} diverged")
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m train.image_sweep",
        description=__doc__,
        examples=[
            "python -m train.image_sweep --batch-size 16 256 --lr 0.003 0.01 --seed 0 1 --out digits.csv",
            "python -m train.image_sweep --optimizer invariant-adamw --scaling invariant --reference-batch-size 32 "
            "--micro-batch-size 32 --batch-size 32 128 --out invariant.csv",
        ],
    )
    add_flags(parser, Settings, lists=LISTS)
    files = parser.add_argument_group("files and machine")
    files.add_argument(
        "--out", type=Path, required=True, metavar="FILE.csv", help="metrics, one row an evaluation"
    )
    files.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="keep the state here, and go on from it if it exists"
    )
    device_flags.add_flags(files)
    return parser


if __name__ == "__main__":
    run(main)
