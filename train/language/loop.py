"""The loop of training."""

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from train.language.run_state import RunState, perplexity
from train.language.settings import Settings
from train.language.snapshots import save_snapshot
from train.language.trainer import Trainer
from train.runtime import checkpoints
from train.runtime.sample_order import epoch_order


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
    interval = evaluation_interval(s, n_batches)
    n_words = s.batch_size * s.tgt_len  # in a step
    trainer.start(s)
    noise = trainer.noise_estimator()
    identity, run_state = (
        {**asdict(s), "corpus_sha256": trainer.corpus.sha256, "n_ranks": ranks.size},
        RunState(),
    )
    if checkpoint and checkpoints.exists(checkpoint):
        state = checkpoints.load(checkpoint, identity, trainer.device)
        trainer.load_state_dict(state["trainer"])
        if noise:
            noise.load_state_dict(state["noise"])
        checkpoints.set_rng_state(state["rng"][ranks.rank])
        run_state = RunState(**state["run_state"])
        started -= run_state.seconds

    trainer.say_what_is_dropped()
    order = None
    bar = tqdm(total=n_steps, initial=run_state.step, unit="step", disable=not progress or ranks.rank > 0)
    while not run_state.end:
        epoch, i_batch = divmod(run_state.step, n_batches)
        if i_batch == 0 or order is None:
            order = epoch_order(n_windows, trainer.micro_batch_size, s.shuffle, s.seed, epoch).to(
                trainer.device
            )
        batch = order[i_batch * s.batch_size : (i_batch + 1) * s.batch_size]
        measured = noise if noise and run_state.step % s.noise_interval == 0 else None
        nll, run_state.memory = trainer.gradient(batch, run_state.memory if i_batch else None, measured)
        trainer.optimizer.step()
        run_state.add_step(nll, n_words)
        bar.update()

        if run_state.step % interval == 0 or run_state.step == n_steps:
            before = time.perf_counter()
            valid_loss = trainer.loss("valid")
            run_state.evaluation_seconds += time.perf_counter() - before
            if run_state.record(valid_loss, s, n_batches, noise.result().columns() if noise else {}):
                run_state.best_values = trainer.values.detach().clone()
            if snapshots and not ranks.rank:
                save_snapshot(snapshots / f"step-{run_state.step}.pt", trainer.snapshot(run_state.rows[-1]))
            bar.set_postfix(
                valid=f"{perplexity(valid_loss):.4g}", best=f"{perplexity(run_state.best_loss):.4g}"
            )
        run_state.seconds = time.perf_counter() - started
        if checkpoint and ranks.agree(time.perf_counter() - saved >= checkpoint_seconds):
            rng = ranks.gather(checkpoints.get_rng_state())
            state = {"trainer": trainer.state_dict(), "run_state": vars(run_state), "rng": rng}
            state["noise"] = noise.state_dict() if noise else None
            if not ranks.rank:
                checkpoints.save(checkpoint, {"settings": identity, **state})
            saved = time.perf_counter()
    bar.close()

    test_loss = math.nan
    if run_state.best_values is not None:
        trainer.load_values(run_state.best_values)
        test_loss = trainer.loss("test")
    return run_state.rows, outcome_of(trainer, run_state, test_loss)


def evaluation_interval(settings: Settings, n_batches: int) -> int:
    """Return the steps from one evaluation to the next.

    Parameters
    ----------
    settings : Settings
    n_batches : int
        Steps in an epoch.
    """
    n_steps = settings.n_epochs * n_batches
    return max(1, round(min(n_batches / settings.evaluations_per_epoch, n_steps)))


def outcome_of(trainer: Trainer, run_state: RunState, test_loss: float) -> dict[str, Any]:
    """Return what is said of a run as a whole.

    Parameters
    ----------
    trainer : Trainer
    run_state : RunState
        At the end.
    test_loss : float
        Nats a word, with the parameters of the least validation loss; nan if there are none.
    """
    n_words = trainer.settings.batch_size * trainer.settings.tgt_len
    training_seconds = run_state.seconds - run_state.evaluation_seconds
    return {
        "status": run_state.rows[-1]["status"],
        "ended_by": run_state.end,
        "min_valid_perplexity": perplexity(run_state.best_loss),
        "test_perplexity": perplexity(test_loss),
        "step_of_min": run_state.best_step,
        "epoch_of_min": run_state.best_step / trainer.n_batches,
        "n_steps": run_state.step,
        "n_params": trainer.n_params,
        "n_windows": len(trainer.inputs),
        "n_batches": trainer.n_batches,
        "n_dropped_windows": trainer.n_dropped,
        "seconds": run_state.seconds,
        "evaluation_seconds": run_state.evaluation_seconds,
        "tokens_per_second": run_state.step * n_words / training_seconds,
    }
