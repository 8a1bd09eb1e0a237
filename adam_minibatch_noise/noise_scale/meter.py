"""The noise scale of a training loop that is not ours: three lines in it, and an honest interval.

References
----------
.. [1] S. McCandlish, J. Kaplan, D. Amodei, "An empirical model of large-batch training", 2018, arXiv 1812.06162.
.. [2] M. D. Cattaneo, B. Shigida, "The effect of mini-batch noise on the implicit bias of Adam", 2026,
   arXiv 2602.01642.
"""

import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate
from adam_minibatch_noise.noise_scale.fieller import NEEDS_SCIPY
from adam_minibatch_noise.noise_scale.live_gradients import LiveGradients, Squares, Watch, add_up, undisturbed
from adam_minibatch_noise.noise_scale.measurements import Measurement, Measurements

HALF_EVERY = 16
"""Steps from one extra backward pass to the next: half a batch in 16 steps is 1/32 of the work of training, 3.1 %."""
WINDOW_STEPS = 1000
"""Steps that the default window spans."""
Metric = Literal["plain", "adam"]


class NoiseScaleMeter:
    """B_simple = tr(Sigma)/|g|² of the batch gradient, measured while any loop trains.

    A gradient over b samples has E|G_b|² = |g|² + v(b) tr(Sigma), v(b) = (N/b - 1)/(N - 1): Appendix A.1 of [1]_, for
    batches drawn without replacement (Lemma A.7 of [2]_). The meter compares each step's gradient with those of its
    parts: micro-batches, the ranks of data-parallel training, or half of the batch, whose gradient it takes itself.

        meter = NoiseScaleMeter(model, batch_size=512, n_samples=50_000)
        for batch in loader:
            for micro_batch in batch.split(64):
                (loss(model, micro_batch) / 8).backward()
                meter.micro_batch()
            meter.step()
            optimizer.step()
            optimizer.zero_grad()
        print(meter.result())

    Parameters
    ----------
    model : Module, or iterable of Tensors
        Whose gradients are measured. Of a module, parameters made later count too. `DistributedDataParallel` is
        recognised: each rank's gradient before the all-reduce is a small batch, with `no_sync` or without.
    batch_size : int
        Samples of an optimiser step, over all micro-batches and processes; >= 2. Samples of equal loss weight.
    n_samples : int, optional
        N, training samples that are drawn without replacement, epoch by epoch. Default: so many that none comes twice.
    loss_divided : bool
        Whether the loss of a micro-batch is divided by their number, as accumulation needs for a mean. Scales
        `grad_sq_norm` and `tr_sigma` alone: their ratio is the same either way.
    window : int, optional
        Samples that the estimate looks back on; older gradients belong to other parameters. Default: those of
        1000 steps.
    every : int, optional
        Measure one step out of so many. Default: each; with `half_batch` one in 16.
    n_processes : int, optional
        Processes whose gradients are averaged into one. Default: those of `DistributedDataParallel`, 1 without it. If
        you average gradients yourself, call `micro_batch` before, and `step` after.
    optimizer : Optimizer, optional
        One with `exp_avg_sq`: also measures in the metric in which Adam sees gradients, divided by sqrt(v).
    by_parameter : bool
        Also keep every parameter's share, for `by_parameter` and `quantiles`.
    scaler : GradScaler, optional
        Of mixed precision. Its scale is undone, if `step` comes before `scaler.unscale_`; steps that overflow are left
        out.
    watch : bool
        Look at gradients by hooks, right after each backward pass: then `step` may come after clipping and
        unscaling, as in trainers that offer no other place. Not with torch's double backward.

    Raises
    ------
    InputError
        A value outside its range.
    ImportError
        SciPy is missing.

    Notes
    -----
    A measured micro-batch costs about six passes over the gradients: next to nothing beside many samples, a fifth to a
    half of a step for 32 samples of a small dense network, of which ``every=10`` leaves a tenth. No call but `result`,
    `by_parameter`, `quantiles` and `state_dict` waits for the device. Memory: one more gradient at most. What makes the
    parts of a batch alike or unlike on purpose (sorted, grouped or stratified batches), and batch normalisation, is
    outside of the formula. Dropout counts as noise of samples.
    """

    def __init__(
        self,
        model: nn.Module | Iterable[Tensor],
        batch_size: int,
        n_samples: float | None = None,
        *,
        loss_divided: bool = True,
        window: int | None = None,
        every: int | None = None,
        n_processes: int | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        by_parameter: bool = False,
        scaler: "torch.amp.GradScaler | None" = None,
        watch: bool = False,
    ) -> None:
        if find_spec("scipy") is None:
            raise ImportError(NEEDS_SCIPY)
        self.batch_size = _whole("batch_size", batch_size, 2)
        self.n_samples = (
            math.inf if n_samples is None or n_samples == math.inf else _whole("n_samples", n_samples, 2)
        )
        if self.batch_size > self.n_samples:
            raise InputError(f"batch_size is {batch_size}, allowed: at most n_samples = {n_samples}")
        self.window = (
            self.batch_size * WINDOW_STEPS if window is None else _whole("window", window, self.batch_size)
        )
        self._every = None if every is None else _whole("every", every, 1)
        self._ddp = isinstance(model, nn.parallel.DistributedDataParallel)
        self.n_processes = self._processes(n_processes)
        self.loss_divided, self._scaler, self._watches = loss_divided, scaler, watch
        self._live = LiveGradients(model, optimizer, by_parameter)
        self._group = model.process_group if isinstance(model, nn.parallel.DistributedDataParallel) else None
        self._watch = Watch(self._live, lambda: self.due) if watch or self._ddp else None
        self._measurements = Measurements(self.n_samples, self.window, skip_infinite=scaler is not None)
        self.n_steps = 0
        self._uses_half = False
        self._begin()

    def _processes(self, asked: int | None) -> int:
        running = torch.distributed.is_available() and torch.distributed.is_initialized()
        there = torch.distributed.get_world_size() if running else 1
        if asked is not None:
            n_processes = _whole("n_processes", asked, 1)
            if n_processes not in (1, there):
                raise InputError(f"n_processes is {asked}, allowed: 1 or {there}, the processes that run")
            return n_processes
        if there > 1 and not self._ddp:
            raise InputError(
                f"model is no DistributedDataParallel, but {there} processes run, needed: n_processes={there} if their "
                "gradients are averaged between micro_batch() and step(), n_processes=1 if each trains for itself"
            )
        return there

    @property
    def n_skipped(self) -> int:
        """Steps left out, as their parts cannot have been equal."""
        return self._measurements.n_skipped

    def _begin(self) -> None:
        self._parts: list[Squares] = []
        self._half: tuple[Squares, int] | None = None
        if self._watch is not None:
            self._watch.reset()

    @property
    def due(self) -> bool:
        """Whether the step under way is measured."""
        return self.n_steps % (self._every or (HALF_EVERY if self._uses_half else 1)) == 0

    def micro_batch(self) -> None:
        """Look at the gradient of a micro-batch; call it after each backward pass.

        Raises
        ------
        InputError
            A gradient that is sparse or sharded; with hooks, no backward pass since the last call.
        """
        if self.due:
            self._parts.append((self._watch or self._live).part(first=not self._parts))

    def half_batch(self, loss_of: Callable[[slice], Tensor], batch_size: int | None = None) -> None:
        """Take the gradient of the first half of a batch, for loops with one backward pass a step.

        Call it in every step before `step`: it does nothing but in one step out of `every`, 16 by default,
        where it takes half as long as a forward and backward pass: 3.1 % of training. The parameters' gradients, the
        buffers of a module and the random numbers are left as they were.

        Parameters
        ----------
        loss_of : callable
            Of a slice of the batch; returns its mean loss, such as
            ``lambda half: loss(model(inputs[half]), targets[half])``.
        batch_size : int, optional
            Samples of this batch, if it is not of the usual size.

        Raises
        ------
        InputError
            Several processes, or a batch of one sample.
        """
        self._uses_half = True
        if self.n_processes > 1:
            raise InputError(
                f"half_batch() with {self.n_processes} processes, allowed: 1 (each process's own gradient is a small "
                "batch: call micro_batch() after the backward pass instead)"
            )
        if not self.due:
            return
        size = self.batch_size if batch_size is None else _whole("batch_size", batch_size, 2)
        devices = {param.device for _, param in self._live.trainable()}
        with undisturbed(self._live.module, devices), torch.enable_grad():
            loss = loss_of(slice(0, size // 2))
            if self._scaler is not None:
                loss = self._scaler.scale(loss)
            self._half = self._live.of_loss(loss), size // 2

    def step(self, batch_size: int | None = None) -> None:
        """Compare the gradient of the step with those of its parts; call it right before `optimizer.step`.

        Before gradients are clipped or unscaled, unless `watch` is set.

        Parameters
        ----------
        batch_size : int, optional
            Samples of this step, if it was not of the usual size, such as the last one of an epoch. A step whose parts
            cannot have been equal is left out, and counted by `n_skipped`; see also `skip`.

        Raises
        ------
        InputError
            No smaller batch to compare with.
        """
        size = self.batch_size if batch_size is None else _whole("batch_size", batch_size, 1)
        n_seen = self._measurements.n_seen = self._measurements.n_seen + size
        if self.due:
            measured = self._compare(size)
            if measured is None:
                self._measurements.n_skipped += 1
            else:
                self._measurements.add(Measurement(n_seen, *measured))
        self.n_steps += 1
        self._begin()

    def skip(self, batch_size: int | None = None) -> None:
        """Leave a step out, in place of `step`: one whose micro-batches are not of one size.

        Parameters
        ----------
        batch_size : int, optional
            As in `step`.
        """
        self._measurements.n_seen += (
            self.batch_size if batch_size is None else _whole("batch_size", batch_size, 1)
        )
        self._measurements.n_skipped += 1
        self.n_steps += 1
        self._begin()

    def _compare(self, size: int) -> tuple[float, float, tuple[str, ...], Tensor, Tensor] | None:
        """Return what `Measurement` holds beside `n_seen`; None for a step that is left out."""
        n_parts = len(self._parts)
        local = self._watches and self.n_processes > 1  # what the hooks see of one process alone
        n_small = n_parts * self.n_processes
        self._check_parts(n_parts, local)
        if not 2 <= size <= self.n_samples or (n_parts and size % n_small):
            return None
        live = self._live
        whole = self._watch.whole() if self._watches and self._watch is not None else live.whole()
        if not whole:
            return None
        small, small_size = self._half or (add_up(self._parts), size // n_small)
        zero = torch.zeros_like(next(iter(whole.values())))
        pairs = [torch.stack([small.get(group, zero), square], -1) for group, square in whole.items()]
        squares = torch.stack(pairs)  # (n_groups, n_metrics, 2)
        if n_parts:
            factors = (n_parts, 1.0) if self.loss_divided else (1 / n_parts, 1 / n_parts**2)
            squares[..., 0] *= factors[0]
            squares[..., 1] *= factors[1]
        changed = torch.zeros_like(zero[0])
        if n_parts and self.n_processes == 1 and not self._watches:
            changed = live.changed()
        if self._scaler is not None:
            scale = self._scaler.scale(torch.ones((), dtype=torch.float32, device=squares.device))
            squares /= scale.double() ** 2
        if self.n_processes > 1:
            own = squares if local else squares[..., 0].contiguous()
            torch.distributed.all_reduce(own, group=self._group)
            (squares if local else squares[..., 0]).copy_(own / self.n_processes)
        return small_size, size / (self.n_processes if local else 1), tuple(whole), squares, changed

    def _check_parts(self, n_parts: int, local: bool) -> None:
        if self._half is not None and n_parts:
            raise InputError("micro_batch() and half_batch() in one step, allowed: one of them")
        if self._half is not None:
            return
        if not n_parts:
            raise InputError("step() without micro_batch() or half_batch() before it, needed: one of them")
        if n_parts == 1 and (local or self.n_processes == 1):
            other = "as hooks see one process alone" if local else "or half_batch()"
            raise InputError(f"this step has one micro-batch, needed: two at least, {other}")

    def result(self, level: float = 0.95, metric: Metric = "plain") -> NoiseEstimate:
        """Estimate the noise scale over the window.

        Parameters
        ----------
        level : float, 0 < level < 1
            Of the interval.
        metric : {"plain", "adam"}
            "adam": with every component divided by sqrt(v), which needs `optimizer`.

        Returns
        -------
        NoiseEstimate
            Its text gives a lower bound where |g|² cannot be told from zero.

        Raises
        ------
        InputError
            Before the first measurement; gradients that contradict what the meter was told.
        """
        index = self._metric(metric)
        return self._measurements.estimate(level, index)

    def by_parameter(self, level: float = 0.95, metric: Metric = "plain") -> dict[str, NoiseEstimate]:
        """Estimate the noise scale of each parameter by itself; needs ``by_parameter=True``.

        Parameters
        ----------
        level, metric
            As in `result`.

        Raises
        ------
        InputError
            As in `result`, or a meter that does not keep the shares.
        """
        if not self._live.by_parameter:
            raise InputError("by_parameter of the meter is False, needed: by_parameter=True when it is made")
        index = self._metric(metric)
        return self._measurements.estimate_groups(level, index)

    def quantiles(
        self, levels: Iterable[float] = (0.05, 0.25, 0.5, 0.75, 0.95), metric: Metric = "plain"
    ) -> Any:
        """Quantiles of the parameters' noise scales, each parameter counted by its number of components.

        Parameters
        ----------
        levels : iterable of float
            In [0, 1].
        metric
            As in `result`.

        Returns
        -------
        (n_levels,) ndarray
            The smallest noise scale that is not below the share `levels` of all components, in samples.

        Raises
        ------
        InputError
            As in `by_parameter`.
        """
        found = self.by_parameter(metric=metric)
        counts = {name: param.numel() for name, param in self._live.trainable()}
        names = [name for name in found if name in counts and not math.isnan(found[name].b_simple)]
        wanted = np.asarray(list(levels), float)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise InputError(f"levels are {wanted.tolist()}, allowed: >= 0 and <= 1")
        if not names:
            return np.full(len(wanted), math.nan)
        scales = np.array([found[name].b_simple for name in names])
        weights = np.array([float(counts[name]) for name in names])
        return np.quantile(scales, wanted, weights=weights, method="inverted_cdf")

    def _metric(self, metric: str) -> int:
        metrics = ("plain", "adam")
        if metric not in metrics:
            raise InputError(f"metric is {metric!r}, allowed: {', '.join(metrics)}")
        if metrics.index(metric) >= self._live.n_metrics:
            raise InputError("metric is 'adam', needed: optimizer=... when the meter is made")
        return metrics.index(metric)

    def close(self) -> None:
        """Take the hooks off the parameters, if there are any."""
        if self._watch is not None:
            self._watch.remove()

    def state_dict(self) -> dict[str, Any]:
        """Everything a checkpoint between two steps must hold."""
        settled = {"n_steps": self.n_steps, "uses_half": self._uses_half}
        return {**settled, "measurements": self._measurements.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises
        ------
        InputError
            It is of a meter for another number of samples, or with other metrics.
        """
        self._measurements.load_state_dict(state["measurements"], self._live.n_metrics)
        self.n_steps, self._uses_half = state["n_steps"], state["uses_half"]


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (least <= number < math.inf and number == int(number)):
        raise InputError(f"{name} is {value}, allowed: a whole number >= {least}")
    return int(number)
