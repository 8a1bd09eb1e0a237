"""The loop of training."""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from train import checkpoints
from train.language.batches import epoch_order
from train.language.course import Course, perplexity
from train.language.settings import Settings
from train.language.snapshots import save_snapshot
from train.language.trainer import Trainer


def train(
    trainer: Trainer,
    settings: Settings,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    snapshots: Path | None = None,
    progress: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the loop; longer than other functions, so that all of it is in one place.

    Parameters
    ----------
    trainer : Trainer
        Is started anew, with `settings`.
    settings : Settings
    checkpoint : path, optional
        Where the state is kept, every `checkpoint_seconds`; a run goes on from there if the file exists.
    checkpoint_seconds : float
    snapshots : path, optional
        Folder that gets the parameters at each evaluation (`train.language.snapshots`).
    progress : bool
        Show a bar on standard error.

    Returns
    -------
    rows : list of dict
        One an evaluation: on the CPU the same numbers for the same settings and corpus, resumed or not.
    outcome : dict
        Minimal validation perplexity, test perplexity with the parameters of that evaluation, counts, seconds.

    Raises
    ------
    InputError
        Settings that do not fit the trainer; a damaged checkpoint, or one of another run.
    """
    s, started, saved = settings, time.perf_counter(), time.perf_counter()
    n_windows, n_batches, ranks = len(trainer.inputs), trainer.n_batches, trainer.ranks
    n_steps = s.n_epochs * n_batches
    interval = max(1, round(min(n_batches / s.evaluations_per_epoch, n_steps)))
    n_words = s.batch_size * s.tgt_len  # in a step
    trainer.start(s)
    noise = trainer.noise_estimator()
    identity, course = {**asdict(s), "corpus_sha256": trainer.corpus.sha256, "n_ranks": ranks.size}, Course()
    if checkpoint and checkpoints.exists(checkpoint):
        state = checkpoints.load(checkpoint, identity, trainer.device)
        trainer.load_state_dict(state["trainer"])
        if noise:
            noise.load_state_dict(state["noise"])
        checkpoints.set_rng_state(state["rng"][ranks.rank])
        course = Course(**state["course"])
        started -= course.seconds

    trainer.say_what_is_dropped()
    order = None
    bar = tqdm(total=n_steps, initial=course.step, unit="step", disable=not progress or ranks.rank > 0)
    while not course.end:
        epoch, i_batch = divmod(course.step, n_batches)
        if i_batch == 0 or order is None:
            order = epoch_order(n_windows, trainer.micro_batch_size, s.shuffle, s.seed, epoch).to(
                trainer.device
            )
        batch = order[i_batch * s.batch_size : (i_batch + 1) * s.batch_size]
        measured = noise if noise and course.step % s.noise_interval == 0 else None
        nll, course.memory = trainer.gradient(batch, course.memory if i_batch else None, measured)
        trainer.optimizer.step()
        course.add_step(nll, n_words)
        bar.update()

        if course.step % interval == 0 or course.step == n_steps:
            before = time.perf_counter()
            valid_loss = trainer.loss("valid")
            course.evaluation_seconds += time.perf_counter() - before
            if course.record(valid_loss, s, n_batches, noise.result().columns() if noise else {}):
                course.best_values = trainer.values.detach().clone()
            if snapshots and not ranks.rank:
                save_snapshot(snapshots / f"step-{course.step}.pt", trainer.snapshot(course.rows[-1]))
            bar.set_postfix(valid=f"{perplexity(valid_loss):.4g}", best=f"{perplexity(course.best_loss):.4g}")
        course.seconds = time.perf_counter() - started
        if checkpoint and ranks.agree(time.perf_counter() - saved >= checkpoint_seconds):
            rng = ranks.gather(checkpoints.get_rng_state())
            state = {"trainer": trainer.state_dict(), "course": vars(course), "rng": rng}
            state["noise"] = noise.state_dict() if noise else None
            if not ranks.rank:
                checkpoints.save(checkpoint, {"settings": identity, **state})
            saved = time.perf_counter()
    bar.close()

    test_loss = math.nan
    if course.best_values is not None:
        trainer.load_values(course.best_values)
        test_loss = trainer.loss("test")
    return course.rows, {
        "status": course.rows[-1]["status"],
        "ended_by": course.end,
        "min_valid_perplexity": perplexity(course.best_loss),
        "test_perplexity": perplexity(test_loss),
        "step_of_min": course.best_step,
        "epoch_of_min": course.best_step / n_batches,
        "n_steps": course.step,
        "n_params": trainer.n_params,
        "n_windows": n_windows,
        "n_batches": n_batches,
        "n_dropped_windows": trainer.n_dropped,
        "seconds": course.seconds,
        "evaluation_seconds": course.evaluation_seconds,
        "tokens_per_second": course.step * n_words / (course.seconds - course.evaluation_seconds),
    }
