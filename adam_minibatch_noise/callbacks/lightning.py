"""The noise scale of a run of Lightning's `Trainer`. Needs the extra ``lightning``."""

from typing import Any

import torch
from lightning.pytorch import Callback

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate
from adam_minibatch_noise.noise_scale.meter import NoiseScaleMeter


class NoiseScaleCallback(Callback):  # type: ignore[misc]  # without annotations where it is not installed
    """Measures while `Trainer` accumulates gradients; logs noise_scale, noise_scale_low and noise_scale_high.

        noise = NoiseScaleCallback()
        Trainer(accumulate_grad_batches=8, callbacks=[noise]).fit(module, loader)
        print(noise.result())

    Parameters
    ----------
    n_samples : float, optional
        Of the training set; default: its length, or infinitely many where it has none.
    **settings
        Of `adam_minibatch_noise.noise_scale.NoiseScaleMeter`: window, every, by_parameter.

    Raises
    ------
    InputError
        When training begins: fewer than two accumulated batches, or manual optimisation.

    Notes
    -----
    Gradients are looked at by hooks, before they are unscaled and clipped. Steps whose micro-batches differ in size are
    left out. The meter is saved in checkpoints.
    """

    def __init__(self, n_samples: float | None = None, **settings: Any) -> None:
        self.n_samples, self.settings = n_samples, settings
        self.meter: NoiseScaleMeter | None = None
        self._saved: dict[str, Any] | None = None
        self._sizes: list[int] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Check what accumulates."""
        if not pl_module.automatic_optimization:
            raise InputError(
                "automatic_optimization is False, needed: True, or a NoiseScaleMeter in your own loop"
            )
        if trainer.accumulate_grad_batches < 2:
            raise InputError(
                f"accumulate_grad_batches is {trainer.accumulate_grad_batches}, needed: at least 2, as a callback sees "
                "no smaller batch"
            )

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note the size of a micro-batch; make the meter at the first, which says what is a full one."""
        size = n_rows(batch)
        if self.meter is None:
            dataset: Any = getattr(trainer.train_dataloader, "dataset", None)
            n_samples = self.n_samples or (len(dataset) if hasattr(dataset, "__len__") else None)
            self.meter = NoiseScaleMeter(
                pl_module,
                size * trainer.accumulate_grad_batches * trainer.world_size,
                n_samples,
                n_processes=trainer.world_size,
                scaler=getattr(trainer.precision_plugin, "scaler", None),
                watch=True,
                **self.settings,
            )
            if self._saved is not None:
                self.meter.load_state_dict(self._saved)
        self._sizes.append(size * trainer.world_size)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Look at a micro-batch."""
        assert self.meter is not None
        self.meter.micro_batch()

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Compare, and log once in `log_every_n_steps`."""
        assert self.meter is not None
        sizes, self._sizes = self._sizes, []
        if len(sizes) > 1 and len(set(sizes)) == 1:
            self.meter.step(sum(sizes))
        else:
            self.meter.skip(sum(sizes))
        if trainer.logger is None or trainer.global_step % trainer.log_every_n_steps:
            return
        try:
            noise = self.meter.result()
        except InputError:
            return  # nothing measured yet, or something that `result` says when one asks
        numbers = {
            "noise_scale": noise.b_simple,
            "noise_scale_low": noise.low,
            "noise_scale_high": noise.high,
        }
        trainer.logger.log_metrics(numbers, step=trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the hooks off."""
        if self.meter is not None:
            self.meter.close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"meter": None if self.meter is None else self.meter.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._saved = state_dict["meter"]

    def result(self, level: float = 0.95) -> NoiseEstimate:
        """Estimate as `adam_minibatch_noise.noise_scale.NoiseScaleMeter.result` does.

        Parameters
        ----------
        level : float
            In (0, 1).

        Raises
        ------
        InputError
            Before training has begun, and as there.
        """
        if self.meter is None:
            raise InputError("the meter is read before training has begun, needed: Trainer.fit()")
        return self.meter.result(level)


def n_rows(batch: Any) -> int:
    """Rows of the first tensor in a batch of tensors, tuples, lists and dicts.

    Parameters
    ----------
    batch : object

    Raises
    ------
    InputError
        There is none.
    """
    waiting = [batch]
    while waiting:
        entry = waiting.pop(0)
        if isinstance(entry, torch.Tensor) and entry.ndim:
            return len(entry)
        if isinstance(entry, dict):
            waiting += entry.values()
        elif isinstance(entry, list | tuple):
            waiting += entry
    raise InputError("the batch holds no tensor with rows, needed: one, whose rows are the samples")
