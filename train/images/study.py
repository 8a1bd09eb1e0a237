"""A study on images: every combination of its settings trained, one after the other."""

import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from train.images import loop
from train.images.batches import OnDevice
from train.images.settings import Settings, as_study
from train.runtime import checkpoints


def train_all(
    settings: list[Settings],
    data: OnDevice,
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
    for s in settings:
        s.check(len(data.train[1]))
    identity, done, cell = {**as_study(settings), "images_sha256": data.sha256}, [], None
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
