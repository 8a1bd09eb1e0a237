"""Runs of a panel trained side by side in one program: a run that ends makes room for the next one.

Every run has its own order, optimiser, evaluations and end, and its numbers are those of `train.language.loop`, to
rounding. The state of all is kept in one file, and whenever a run ends: a killed program goes on to the same bytes.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.optimizers.adam import Adam
from train.language.loop import evaluation_interval, outcome_of
from train.language.run_state import RunState
from train.language.settings import SWEPT, Settings
from train.language.stacked import StackedModels, words_at_a_time
from train.language.trainer import ALIGNMENT, Trainer
from train.runtime import checkpoints
from train.runtime.sample_order import epoch_order


def n_side_by_side(most: int, settings: Settings, device: torch.device) -> int:
    """Return how many runs are worth training side by side: more than fill the caches gain nothing.

    Parameters
    ----------
    most : int
    settings : Settings
    device : torch.device
    """
    return max(1, min(most, words_at_a_time(device) // (settings.batch_size * settings.tgt_len)))


def check(settings: Settings, compiled: bool, n_processes: int) -> None:
    """Refuse what is trained one run after another only.

    Parameters
    ----------
    settings : Settings
    compiled : bool
    n_processes : int

    Raises
    ------
    InputError
    """
    s = settings
    refused = {
        "--dropout": (s.dropout, 0.0),
        "--dropatt": (s.dropatt, 0.0),
        "--mem-len": (s.mem_len, 0),
        "--noise-interval": (s.noise_interval, 0),
        "--dtype": (s.dtype, "float32"),
        "--compile": (compiled, False),
        "number of processes": (n_processes, 1),
    }
    for name, (value, allowed) in refused.items():
        if value != allowed:
            raise InputError(f"{name} is {value}, allowed with --side-by-side: {allowed}")


class Run:
    """A run under way; its parameters and gradients are rows of the arrays of `StackedModels`."""

    def __init__(self, settings: Settings, values: Tensor) -> None:
        s, self.settings, self.state = settings, settings, RunState()
        self.order: Tensor | None = None
        self.param = nn.Parameter(values)
        betas, tiny = (s.beta1, s.beta2), torch.finfo(values.dtype).tiny
        if s.eps_root or s.eps < tiny:  # what the fused kernel has no form for
            self.optimizer: torch.optim.Optimizer = Adam(
                [self.param], s.lr, betas, s.eps, s.eps_root, s.weight_decay
            )
        else:
            self.optimizer = torch.optim.AdamW(
                [self.param], s.lr, betas, s.eps, weight_decay=s.weight_decay, fused=True
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the run needs to go on."""
        return {
            "settings": asdict(self.settings),
            "values": self.param.detach().clone(),
            "optimizer": self.optimizer.state_dict(),
            "run_state": vars(self.state),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Run":
        """Return the run of `state_dict`."""
        run = cls(Settings(**state["settings"]), state["values"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.state = RunState(**state["run_state"])
        return run


def train(
    trainer: Trainer,
    runs: Sequence[Settings],
    n_stacked: int,
    checkpoint: Path,
    checkpoint_seconds: float = 60.0,
    progress: bool = False,
) -> Iterator[tuple[Settings, list[dict[str, Any]], dict[str, Any]]]:
    """Train runs side by side; longer than other functions, so that the loop is in one place.

    Parameters
    ----------
    trainer : Trainer
        Of the model and batch size of all; evaluates.
    runs : sequence of Settings
        Those that are not finished: the caller keeps what it was given before it asks for more.
    n_stacked : int
        At most so many at a time.
    checkpoint : path
        Where the state is kept, every `checkpoint_seconds` and whenever a run ends; removed at the end.
    checkpoint_seconds : float
    progress : bool
        Show a bar on standard error.

    Yields
    ------
    settings, rows, outcome
        As `train.language.loop.train`, in the order in which the runs end. Seconds are the run's share. The trainer
        holds the best parameters of the run.
    """
    s, waiting = trainer.settings, list(runs)
    active: list[Run] = []
    identity = {name: value for name, value in asdict(s).items() if name not in SWEPT}
    identity["corpus_sha256"] = trainer.corpus.sha256
    if checkpoints.exists(checkpoint):
        states = checkpoints.load(checkpoint, identity, trainer.device)["runs"]
        active = [Run.from_state(state) for state in states]
        waiting = [settings for settings in waiting if settings not in [run.settings for run in active]]
    trainer.say_what_is_dropped()
    models = StackedModels(trainer.model, ALIGNMENT, s)

    def arrange() -> None:
        while waiting and len(active) < n_stacked:
            trainer.start(settings := waiting.pop(0))
            active.append(Run(settings, trainer.values.detach().clone()))
        if active:
            models.arrange([run.param for run in active])
            for run, values, grads in zip(active, models.values, models.grads, strict=True):
                run.param.data, run.param.grad = values, grads

    def save() -> None:
        checkpoints.save(checkpoint, {"settings": identity, "runs": [run.state_dict() for run in active]})

    arrange()
    saved, n_words = time.perf_counter(), s.batch_size * s.tgt_len
    bar = tqdm(unit="step", disable=not progress)
    while active:
        started = time.perf_counter()
        batches = torch.stack([_next_batch(run, trainer) for run in active])
        nll = models.gradient(trainer.inputs[batches], trainer.targets[batches])
        for i, run in enumerate(active):
            run.optimizer.step()
            run.state.add_step(nll[i], n_words)
        due = [run for run in active if _is_due(run, trainer)]
        if due and trainer.device.type == "cuda":
            torch.cuda.synchronize()  # steps are still under way: their time is not that of the evaluation
        share = (time.perf_counter() - started) / len(active)
        ended = []
        for run in active:
            run.state.seconds += share
        for run in due:
            _evaluate(run, trainer)
            if run.state.end:
                ended.append(run)
        bar.update(len(active))
        for run in ended:
            active.remove(run)
            test_loss = math.nan
            if run.state.best_values is not None:
                trainer.load_values(run.state.best_values)
                test_loss = trainer.loss("test")
            if run.settings in runs:  # else it ended after the state was kept, and ends once more
                yield run.settings, run.state.rows, outcome_of(trainer, run.state, test_loss)
        if ended:
            arrange()
        if ended or time.perf_counter() - saved >= checkpoint_seconds:
            save()
            saved = time.perf_counter()
    bar.close()
    checkpoints.remove(checkpoint)


def _next_batch(run: Run, trainer: Trainer) -> Tensor:
    """Return the numbers of the windows of the next step of a run, (batch_size,)."""
    s = run.settings
    epoch, i_batch = divmod(run.state.step, trainer.n_batches)
    if i_batch == 0 or run.order is None:
        order = epoch_order(len(trainer.inputs), trainer.micro_batch_size, s.shuffle, s.seed, epoch)
        run.order = order.to(trainer.device)
    return run.order[i_batch * s.batch_size : (i_batch + 1) * s.batch_size]


def _is_due(run: Run, trainer: Trainer) -> bool:
    interval = evaluation_interval(run.settings, trainer.n_batches)
    return run.state.step % interval == 0 or run.state.step == run.settings.n_epochs * trainer.n_batches


def _evaluate(run: Run, trainer: Trainer) -> None:
    before = time.perf_counter()
    trainer.load_values(run.param)
    valid_loss = trainer.loss("valid")
    seconds = time.perf_counter() - before
    run.state.seconds += seconds
    run.state.evaluation_seconds += seconds
    if run.state.record(valid_loss, run.settings, trainer.n_batches):
        run.state.best_values = run.param.detach().clone()
