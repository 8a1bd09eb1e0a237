"""Train networks to tell images apart, with Adam or AdamW, for every combination of the listed settings.

`--out FILE.csv` gets one row an evaluation, the same bytes for the same flags; FILE.json beside it gets how it was made
and how long it took. Both appear when the study is over, the CSV last; with `--checkpoint` a killed study goes on from
where it was. The test error is recorded at each evaluation and decides nothing here: choose by the validation error.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import Parser, run
from common.files import locked, write_csv, write_json
from common.settings import add_flags, combinations
from train.images.settings import LISTS, Settings, study
from train.runtime import device_flags

if TYPE_CHECKING:
    from train.images.batches import OnDevice


def train_all(
    settings: list[Settings],
    data: "OnDevice",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = False,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """Train every cell of a study, one after the other.

    Parameters
    ----------
    settings : list of Settings
    data : OnDevice
    checkpoint : path, optional
        Where finished cells and the state of the present one are kept, at the evaluations that are at least
        `checkpoint_seconds` apart; a study goes on from there if the file exists.
    checkpoint_seconds : float
    progress : bool
        Show a bar on standard error.
    compiled : bool
        Let torch compile the network.

    Returns
    -------
    list of dict
        What `train.images.loop.train` returned for each cell.

    Raises
    ------
    InputError
        Settings that do not fit the images; a damaged checkpoint, or one of another study.
    """
    from tqdm import tqdm

    from train.images import loop
    from train.runtime import checkpoints

    for s in settings:
        s.check(len(data.train[1]))
    identity, done, cell = {**study(settings), "images_sha256": data.sha256}, [], None
    if checkpoint and checkpoints.exists(checkpoint):
        kept = checkpoints.load(checkpoint, identity, data.mean.device)
        done, cell = kept["done"], kept["cell"]
    saved = time.perf_counter()

    def save(cell: dict[str, Any] | None) -> None:
        nonlocal saved
        if checkpoint and time.perf_counter() - saved >= checkpoint_seconds:
            checkpoints.save(checkpoint, {"settings": identity, "done": done, "cell": cell})
            saved = time.perf_counter()

    n_steps = [s.count_steps(len(data.train[1])) for s in settings]
    with tqdm(total=sum(n_steps), unit="step", disable=not progress) as bar:
        bar.update(sum(n_steps[: len(done)]))
        for s in settings[len(done) :]:
            bar.set_postfix({"B": s.batch_size, "lr": s.lr, "lambda": s.weight_decay, "seed": s.seed})
            done.append(loop.train(s, data, cell, save, bar.update, compiled))
            cell = None
            save(None)
    return done


def main(argv: list[str] | None = None) -> int:
    """Read the flags, train, write FILE.json and FILE.csv."""
    arguments = parser().parse_args(argv)
    settings, out, checkpoint = combinations(Settings, arguments, LISTS), arguments.out, arguments.checkpoint
    device_flags.check_out(out, checkpoint)

    import torch

    from common import provenance
    from train.images import datasets
    from train.images.batches import to_device
    from train.runtime import checkpoints

    device, first = torch.device(device_flags.device_type(arguments)), settings[0]
    compiled = device_flags.compiled(arguments, device)
    with locked(out):
        loaded = datasets.load(first.dataset, arguments.data_dir, arguments.cache_dir, first.split_seed)
        data = to_device(loaded, first.max_train_images, first.channels_last, device)
        seconds, progress = arguments.checkpoint_seconds, arguments.progress
        done = train_all(settings, data, checkpoint, seconds, progress, compiled)
        rows = [row for one in done for row in one.pop("rows")]
        outcomes = [asdict(s) | one for s, one in zip(settings, done, strict=True)]
        described = datasets.describe(loaded)
        made = {
            "images": described,
            "made_with": {**provenance.describe_device(device), "compiled": compiled},
        }
        write_json(out.with_suffix(".json"), {"study": study(settings), "cells": outcomes, **made})
        write_csv(out, rows)
        if checkpoint:
            checkpoints.remove(checkpoint)
    n_diverged = sum(one["status"] == "diverged" for one in done)
    print(f"{out}: {len(done)} trainings on {described['title']}, {n_diverged} diverged")
    return 0


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(prog="python -m train.image_sweep", description=__doc__)
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
