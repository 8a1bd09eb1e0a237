"""The loop of training on images."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.optimizers.adam import rounded
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW
from common.settings import used
from train.images.batches import OnDevice, augmented, evaluate, layout
from train.images.make_optimizer import make
from train.images.networks import build
from train.images.settings import Settings
from train.runtime.checkpoints import get_rng_state, set_rng_state
from train.runtime.sample_order import epoch_order

NO_COMPILE = "--compile is on, allowed on a CPU: --no-compile (torch's compiled networks spoil memory there)"
REPEATED = (
    "dataset max_train_images model norm width augment optimizer scaling reference_batch_size batch_size "
    "micro_batch_size lr beta1 beta2 eps weight_decay n_epochs n_steps seed"
)
"""Settings that every row repeats; a cell is empty where a setting was not used."""


def train(
    settings: Settings,
    data: OnDevice,
    state: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] = lambda state: None,
    tick: Callable[[int], object] = lambda n_steps: None,
    compiled: bool = False,
) -> dict[str, Any]:
    """Run the loop; longer than other functions, so that all of it is in one place.

    Parameters
    ----------
    settings : Settings
    data : OnDevice
    state : dict, optional
        What `save` was given: go on from there.
    save : callable
        Called after each evaluation but the last with the state.
    tick : callable
        Called with the number of steps taken since its last call.
    compiled : bool
        Let torch compile the network.

    Returns
    -------
    dict
        rows (one an evaluation: on the CPU the same numbers for the same settings and images, resumed or not), status,
        n_steps, n_params, seconds, images_per_second (of training, median over the rows).

    Raises
    ------
    InputError
        Settings that do not fit the images, or a network to be compiled for a CPU.
    """
    s, device, n_images = settings, data.mean.device, len(data.train[1])
    s.check(n_images)
    if compiled and device.type == "cpu":
        raise InputError(NO_COMPILE)
    n_batches, n_steps = n_images // s.batch_size, s.count_steps(n_images)
    micro_batch_size = min(s.micro_batch_size or s.batch_size, s.batch_size)
    squares_apart = s.optimizer == "invariant-adamw"
    repeated = used(s)

    torch.manual_seed(s.seed)
    n_channels, size = data.train[0].shape[1:3]
    model = build(s.model, s.norm, s.width, n_channels, size, data.n_classes)
    model = model.to(device, memory_format=layout(s.channels_last))  # type: ignore[call-overload]  # has no annotation
    params = list(model.parameters())
    optimizer = make(s, params)
    step, rows, speeds, seconds = 0, [], [], 0.0
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        set_rng_state(state["rng"])
        step, rows, speeds, seconds = (state[name] for name in ("step", "rows", "speeds", "seconds"))
        tick(step)

    def forward(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=s.dtype == "bfloat16"):
            return model(data.normalised(images)).float()

    if compiled:
        torch.compiler.reset()  # the code of the cell before, which would count against the limit of recompilations
        forward = torch.compile(forward, dynamic=False)
    order, n_trained, started = None, 0, time.perf_counter()
    total = torch.zeros(2, dtype=torch.float64, device=device)  # loss, wrong answers
    while step < n_steps:
        epoch, i_batch = divmod(step, n_batches)
        if i_batch == 0 or order is None:
            order = epoch_order(n_images, 1, True, s.seed, epoch).to(device)
        for indices in order[i_batch * s.batch_size : (i_batch + 1) * s.batch_size].split(micro_batch_size):
            images, labels = data.batch(indices)
            logits = forward(augmented(images) if s.augment else images)
            loss = cross_entropy(logits, labels, reduction="sum")
            (loss / (len(indices) if squares_apart else s.batch_size)).backward()
            if isinstance(optimizer, BatchSizeInvariantAdamW):
                optimizer.accumulate()
            total[0] += loss.detach()
            total[1] += (logits.detach().argmax(1) != labels).sum()
        if s.optimizer == "adam" and s.weight_decay:  # L2: lambda theta is part of the gradient
            decay = rounded(s.weight_decay, params[0].dtype)
            torch._foreach_add_([p.grad for p in params], [p.detach() for p in params], alpha=decay)
        optimizer.step()
        optimizer.zero_grad()
        step, n_trained = step + 1, n_trained + s.batch_size
        tick(1)

        if step % (s.evaluate_every * n_batches) == 0 or step == n_steps:
            train_loss, train_error = (total / n_trained).tolist()
            speeds.append(n_trained / (time.perf_counter() - started))
            valid_loss, valid_error = evaluate(model, forward, data.valid)
            test_loss, test_error = evaluate(model, forward, data.test)
            finite = math.isfinite(train_loss) and math.isfinite(valid_loss)
            rows.append(
                {name: repeated[name] for name in REPEATED.split()}
                | {"epoch": step / n_batches, "step": step, "n_images": step * s.batch_size}
                | {"train_loss": train_loss, "train_error": train_error, "valid_loss": valid_loss}
                | {"valid_error": valid_error, "test_loss": test_loss, "test_error": test_error}
                | {"status": "ok" if finite else "diverged"}
            )
            seconds += time.perf_counter() - started
            if not finite:
                tick(n_steps - step)
                break
            if step < n_steps:
                course = {"step": step, "rows": rows, "speeds": speeds, "seconds": seconds}
                parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                save({**course, **parts, "rng": get_rng_state()})
            n_trained, started = 0, time.perf_counter()
            total.zero_()
    return {
        "rows": rows,
        "status": rows[-1]["status"],
        "n_params": sum(param.numel() for param in params),
        "seconds": seconds,
        "images_per_second": statistics.median(speeds),
    }
