r"""Batch-size invariant Adam: an optimizer that squares micro-batch gradients before it averages them.

Longer than other modules by the docstring of the class, which is its manual.

References
----------
.. [1] X. Wang, L. Aitchison, "Batch size invariant Adam", arXiv 2402.18824, 2024.
"""

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adam_minibatch_noise.optimizers.adam import bias_correction, rounded
from adam_minibatch_noise.optimizers.base import (
    CheckedOptimizer,
    alike,
    as_real,
    new_array,
    numbers_of,
    wide_gradients,
    wide_values,
)
from adam_minibatch_noise.optimizers.ranks import OfThisProcess, sum_over_ranks

if TYPE_CHECKING:
    import torch.distributed as dist


class BatchSizeInvariantAdamW(CheckedOptimizer):
    r"""Batch-size invariant Adam [1]_ with decoupled weight decay.

    With g_{t,1}, ..., g_{t,kappa} the mean gradients of the micro-batches of batch t = 1, 2, ..., elementwise,

        m_t = beta1 m_{t-1} + (1 - beta1) 1/kappa sum_a g_{t,a},
        v_t = beta2 v_{t-1} + (1 - beta2) 1/kappa sum_a g_{t,a}^2,
        theta_t = (1 - lr weight_decay) theta_{t-1} - lr m_t/(1 - beta1^t) / (sqrt(v_t/(1 - beta2^t) + eps_root) + eps).

    With one micro-batch a batch it is `torch.optim.AdamW`. Use::

        for batch in batches:
            for micro_batch in batch:
                loss(micro_batch).backward()  # mean over the micro-batch
                optimizer.accumulate()
            optimizer.step()

    `accumulate` takes the gradients away, so nobody needs to zero them. A `step` before which nothing was accumulated
    takes the gradients at hand as those of a single micro-batch.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        Parameters, named or not, or parameter groups, each with settings of its own if it has any.
    lr : float or Tensor, > 0
        Learning rate; it and `betas` are read from the group at every step, and may be tensors with one element. A
        schedule may set `lr` to 0.
    betas : two floats or Tensors
        In [0, 1).
    eps, eps_root, weight_decay : float, >= 0
        `eps` is added to the root, `eps_root` inside it, both at the step only: v_t itself holds neither.
    foreach : bool, optional
        One call an operation for all parameters of a group, which is faster, or for one parameter at a time, which
        needs less memory; default: all where they are on an accelerator.
    process_group : torch.distributed.ProcessGroup, optional
        Ranks whose micro-batches form one batch; `torch.distributed.group.WORLD` for all. Sums of gradients and of
        squares over all ranks are formed in `step`; ranks may differ in their number of micro-batches, and every one
        must call `step`. Do not average gradients over ranks before (`DistributedDataParallel` does so outside
        `no_sync`): their mean would be squared, not they. Default: a single process.
    skip_nonfinite : bool
        Leave out a batch of which a gradient is infinite or nan in any micro-batch, on any rank: neither parameters
        nor averages nor step numbers change. For loss scaling, see the notes. Default: such a gradient shows in the
        parameters.

    Raises
    ------
    InputError
        A value outside its range, in any group, also one added or loaded later.

    Notes
    -----
    Clip before `accumulate`: a bound on the norm of each micro-batch gradient (`torch.nn.utils.clip_grad_norm_`)
    treats a micro-batch alike in every batch and so keeps the invariance; a bound on the mean of a batch would act
    more rarely the larger the batch.

    A loss scale is undone, and adapted, at every micro-batch::

        optimizer = BatchSizeInvariantAdamW(model.parameters(), skip_nonfinite=True)
        scaler = torch.amp.GradScaler(device)
        for batch in batches:
            for micro_batch in batch:
                scaler.scale(loss(micro_batch)).backward()
                scaler.unscale_(optimizer)  # clip after it
                optimizer.accumulate()
                scaler.update()
            optimizer.step()  # not scaler.step(optimizer), which looks for gradients that `accumulate` has taken

    The growth interval of the scaler then counts micro-batches. On several ranks each has a scaler of its own.

    State of a parameter: `step`, `exp_avg` (m), `exp_avg_sq` (v), and `grad_sum`, `square_sum` over the micro-batches
    so far, all of its shape and float32 at least: twice the arrays of AdamW. Steps of parameters in float16 or bfloat16
    are computed in float32 and rounded once. A complex parameter counts as two real ones. The number of micro-batches
    is kept in the group as `n_micro_batches`, so that a state dictionary taken between micro-batches resumes exactly;
    on several ranks each then has sums of its own, and needs a state dictionary of its own. A parameter without a
    gradient in any micro-batch is left alone; without one in some of them, it has gradient 0 there.

    A copy in the same process has the same `process_group`; one with a `process_group` cannot be pickled. Sparse
    gradients are refused before anything is added or moves. Not offered, and refused in a group: amsgrad, maximize
    (negate the loss), differentiable, capturable, fused.
    """

    arrays = ("exp_avg", "exp_avg_sq", "grad_sum", "square_sum")
    process_group = None
    skip_nonfinite = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        eps_root: float = 0.0,
        weight_decay: float = 1e-2,
        foreach: bool | None = None,
        process_group: "dist.ProcessGroup | None" = None,
        skip_nonfinite: bool = False,
    ) -> None:
        self.process_group, self.skip_nonfinite = process_group, skip_nonfinite
        defaults = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root}
        super().__init__(
            params, defaults | {"weight_decay": weight_decay, "foreach": foreach, "n_micro_batches": 0}
        )

    def __getstate__(self) -> dict[str, Any]:
        group = self.process_group if self.process_group is None else OfThisProcess(self.process_group)
        return super().__getstate__() | {"process_group": group, "skip_nonfinite": self.skip_nonfinite}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("process_group"), OfThisProcess):
            state = state | {"process_group": state["process_group"].value}
        super().__setstate__(state)

    @torch.no_grad()
    def accumulate(self) -> None:
        """Count the gradients at hand as those of one micro-batch, and clear them.

        Raises
        ------
        RuntimeError
            If no parameter has a gradient, or one has a sparse gradient; nothing is added then.
        """
        if not self._holds_gradients():
            raise RuntimeError("no parameter has a gradient, needed: backward() before accumulate()")
        self.refuse_sparse_gradients()
        for group in self.param_groups:
            group["n_micro_batches"] += 1
            for params in _lists(group, [p for p in group["params"] if p.grad is not None]):
                states, grads = [self._state(param) for param in params], wide_gradients(params)
                torch._foreach_add_([as_real(state["grad_sum"]) for state in states], grads)
                torch._foreach_addcmul_([as_real(state["square_sum"]) for state in states], grads, grads)
                for param, state in zip(params, states, strict=True):
                    state["has_gradient"] = True
                    param.grad = None

    def _holds_gradients(self) -> bool:
        return any(param.grad is not None for group in self.param_groups for param in group["params"])

    def _state(self, param: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[param]
        for name in self.arrays:
            if name not in state:
                state[name] = new_array(param)
        state.setdefault("step", 0)
        state.setdefault("has_gradient", False)
        return state

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the parameters by the mean over the micro-batches accumulated since the last step.

        Parameters
        ----------
        closure : callable, optional
            Computes gradients and returns the loss; they count as one more micro-batch.

        Returns
        -------
        object
            What `closure` returned, or None.

        Raises
        ------
        RuntimeError
            If there are gradients that were not accumulated although others were, or sparse ones; nothing has moved
            then, and the sums are as they were.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        settings = [numbers_of(group) for group in self.param_groups]
        if self._holds_gradients():
            if closure is None and any(group["n_micro_batches"] for group in self.param_groups):
                raise RuntimeError(
                    "step() found gradients that were not accumulated, allowed: accumulate() after every "
                    "backward(), or no accumulate() at all"
                )
            self.accumulate()
        if self.process_group is not None:
            self._sum_over_ranks(self.process_group)
        work = [
            (params, group["n_micro_batches"], numbers)
            for group, numbers in zip(self.param_groups, settings, strict=True)
            for params in _lists(group, [p for p in group["params"] if self._has_gradient(p)])
        ]
        finite = not self.skip_nonfinite or self._sums_are_finite([p for params, *_ in work for p in params])
        for params, n_micro_batches, numbers in work:
            states = [self.state[param] for param in params]
            if finite:
                _move(params, states, n_micro_batches, numbers)
            for state in states:
                state["has_gradient"] = False
                state["grad_sum"].zero_(), state["square_sum"].zero_()
        for group in self.param_groups:
            group["n_micro_batches"] = 0
        return loss

    def _has_gradient(self, param: Tensor) -> bool:
        return bool(self.state.get(param, {}).get("has_gradient", False))

    def _sums_are_finite(self, params: list[Tensor]) -> bool:
        """Whether every gradient was: where one is not, its square is not. Waits for the device."""
        flags = [
            torch.stack([torch.isfinite(self.state[param]["square_sum"]).all() for param in same]).all()
            for same in alike(params)
        ]
        return all(flag.item() for flag in flags)

    def _sum_over_ranks(self, process_group: "dist.ProcessGroup") -> None:
        """Add up the sums, which parameters have a gradient, and the numbers of micro-batches."""
        states = {param: self._state(param) for group in self.param_groups for param in group["params"]}
        if not states:
            return
        counts = [int(state["has_gradient"]) for state in states.values()]
        counts += [group["n_micro_batches"] for group in self.param_groups]
        counts = sum_over_ranks(states, ("grad_sum", "square_sum"), counts, process_group)
        for state, count in zip(states.values(), counts, strict=False):
            state["has_gradient"] = count > 0
        for group, count in zip(self.param_groups, counts[len(states) :], strict=True):
            group["n_micro_batches"] = count


def _lists(group: dict[str, Any], params: list[Tensor]) -> list[list[Tensor]]:
    """Parameters that one call an operation handles: all that are alike with `foreach`, else one at a time."""
    foreach = group["foreach"]
    if foreach is None:
        foreach = all(param.device.type not in ("cpu", "meta") for param in params)
    return alike(params) if foreach else [[param] for param in params]


def _move(params: list[Tensor], states: list[dict[str, Any]], n: int, numbers: dict[str, float]) -> None:
    """Take a step of `BatchSizeInvariantAdamW` by the sums over `n` micro-batches."""
    lr, beta1, beta2, eps, eps_root = (numbers[name] for name in ("lr", "beta1", "beta2", "eps", "eps_root"))
    exp_avgs, exp_avg_sqs, grad_sums, square_sums = (
        [as_real(state[name]) for state in states] for name in BatchSizeInvariantAdamW.arrays
    )
    for state in states:
        state["step"] += 1
    steps = [state["step"] for state in states]
    torch._foreach_mul_(exp_avgs, beta1)
    torch._foreach_add_(exp_avgs, grad_sums, alpha=(1 - beta1) / n)  # m_t
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_add_(exp_avg_sqs, square_sums, alpha=(1 - beta2) / n)  # v_t
    roots = torch._foreach_div(exp_avg_sqs, [bias_correction(beta2, step) for step in steps])
    torch._foreach_add_(roots, eps_root)
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, eps)
    dtype = roots[0].dtype
    if max(eps, eps_root) < torch.finfo(dtype).tiny:
        for root in roots:
            root.masked_fill_(root == 0, math.inf)  # no gradient yet: 0/0 becomes 0/inf = 0
    step_sizes = [rounded(-lr / bias_correction(beta1, step), dtype) for step in steps]
    with wide_values(params) as values:
        torch._foreach_mul_(values, 1 - lr * numbers["weight_decay"])
        torch._foreach_addcdiv_(values, exp_avgs, roots, step_sizes)
