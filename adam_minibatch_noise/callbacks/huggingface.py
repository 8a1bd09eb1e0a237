"""The noise scale of a run of Hugging Face's `Trainer`. Needs the extra ``huggingface``."""

from typing import Any

from transformers import TrainerCallback

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate
from adam_minibatch_noise.noise_scale.meter import NoiseScaleMeter


class NoiseScaleCallback(TrainerCallback):  # type: ignore[misc]  # without annotations where it is not installed
    """Measures while `Trainer` accumulates gradients; logs noise_scale, noise_scale_low and noise_scale_high.

        noise = NoiseScaleCallback()
        Trainer(..., args=TrainingArguments(gradient_accumulation_steps=8), callbacks=[noise]).train()
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
        When training begins: fewer than two gradient accumulation steps.

    Notes
    -----
    `Trainer` clips gradients before it tells anyone, so the meter looks at them by hooks, before. An epoch's last step
    is left out if its last micro-batch is not full. Losses weighted by tokens count as if each micro-batch had as many.
    """

    def __init__(self, n_samples: float | None = None, **settings: Any) -> None:
        self.n_samples, self.settings = n_samples, settings
        self.meter: NoiseScaleMeter | None = None
        self._loader: Any = None
        self._n_micro = self._n_in_epoch = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Make the meter."""
        if args.gradient_accumulation_steps < 2:
            raise InputError(
                f"gradient_accumulation_steps is {args.gradient_accumulation_steps}, needed: at least 2, as a callback "
                "sees no smaller batch"
            )
        self._loader = found.get("train_dataloader")
        dataset: Any = getattr(self._loader, "dataset", None)
        n_samples = self.n_samples or (len(dataset) if hasattr(dataset, "__len__") else None)
        self._micro_size = args.train_batch_size * args.world_size
        self.meter = NoiseScaleMeter(
            found["model"],
            self._micro_size * args.gradient_accumulation_steps,
            n_samples,
            n_processes=args.world_size,
            scaler=getattr(found.get("optimizer"), "scaler", None),
            watch=True,
            **self.settings,
        )
        self._short = self._last_is_short(dataset)

    def _last_is_short(self, dataset: Any) -> bool:
        """Whether the last micro-batch of an epoch has fewer samples than the others."""
        whole = hasattr(dataset, "__len__") and len(dataset) % self._micro_size == 0
        return not whole and not getattr(self._loader, "drop_last", False)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Count the micro-batches of an epoch from its beginning."""
        self._n_in_epoch = 0

    def on_substep_end(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Look at all micro-batches of a step but the last."""
        self._look()

    def _look(self) -> NoiseScaleMeter:
        assert self.meter is not None
        self.meter.micro_batch()
        self._n_micro += 1
        self._n_in_epoch += 1
        return self.meter

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Look at the last micro-batch, and compare."""
        meter = self._look()
        ends = hasattr(self._loader, "__len__") and self._n_in_epoch == len(self._loader)
        size, self._n_micro = self._n_micro * self._micro_size, 0
        if (ends and self._short) or size == self._micro_size:
            meter.skip(size)
        else:
            meter.step(size)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **found: Any) -> None:
        """Add what is known so far."""
        if logs is None or "loss" not in logs or self.meter is None:
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
        logs.update(numbers)
        if state.log_history:
            state.log_history[-1].update(numbers)

    def on_train_end(self, args: Any, state: Any, control: Any, **found: Any) -> None:
        """Take the hooks off."""
        if self.meter is not None:
            self.meter.close()

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
            raise InputError("the meter is read before training has begun, needed: Trainer.train()")
        return self.meter.result(level)
