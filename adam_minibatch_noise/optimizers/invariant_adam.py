r"""Batch-size invariant Adam: an optimizer that squares micro-batch gradients before it averages them.

References
----------
.. [1] X. Wang, L. Aitchison, "Batch size invariant Adam", arXiv 2402.18824, 2024.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from adam_minibatch_noise.optimizers.adam import bias_correction, rounded
from adam_minibatch_noise.optimizers.scaling import check_settings


class BatchSizeInvariantAdamW(torch.optim.Optimizer):
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

    `accumulate` takes the gradients away, so `zero_grad` is not needed. A `step` before which nothing was accumulated
    takes the gradients at hand as those of a single micro-batch.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Parameters or parameter groups.
    lr : float, > 0
        Learning rate; it and `betas` are read from the group at every step.
    betas : (float, float)
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

    Raises
    ------
    InputError
        A value outside its range.

    Notes
    -----
    Clip before `accumulate`: a bound on the norm of each micro-batch gradient (`torch.nn.utils.clip_grad_norm_`)
    treats a micro-batch alike in every batch and so keeps the invariance; a bound on the mean of a batch would act
    more rarely the larger the batch. Undo a loss scale (`GradScaler.unscale_`) before `accumulate` too.

    State of a parameter: `step`, `exp_avg` (m), `exp_avg_sq` (v), and `grad_sum`, `square_sum` over the micro-batches
    so far, all of its shape and type: twice the arrays of AdamW. The number of those micro-batches is kept in the group
    as `n_micro_batches`, so that a `state_dict` taken between micro-batches resumes exactly. A parameter without a
    gradient in any micro-batch is left alone; without one in some of them, it has gradient 0 there.
    """

    process_group = None  # also of an optimizer that was unpickled

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        eps_root: float = 0.0,
        weight_decay: float = 1e-2,
        foreach: bool | None = None,
        process_group: "dist.ProcessGroup | None" = None,
    ) -> None:
        self.process_group = process_group
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "eps_root": eps_root}
        super().__init__(
            params, defaults | {"weight_decay": weight_decay, "foreach": foreach, "n_micro_batches": 0}
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with its own settings if it has any (see `torch.optim.Optimizer.add_param_group`)."""
        settings = self.defaults | param_group
        names = ("eps", "eps_root", "weight_decay")
        check_settings(settings["lr"], settings["betas"], {name: settings[name] for name in names})
        super().add_param_group(param_group)

    @torch.no_grad()
    def accumulate(self) -> None:
        """Count the gradients at hand as those of one micro-batch, and clear them.

        Raises
        ------
        RuntimeError
            If no parameter has a gradient, or one has a sparse gradient.
        """
        grads = [param.grad for group in self.param_groups for param in group["params"]]
        if all(grad is None for grad in grads):
            raise RuntimeError("no parameter has a gradient, needed: backward() before accumulate()")
        if any(grad is not None and grad.is_sparse for grad in grads):
            raise RuntimeError("a gradient is sparse, allowed: dense gradients")
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            group["n_micro_batches"] += 1
            for batch in _batches(group, params):
                states, grads = [self._state(param) for param in batch], [param.grad for param in batch]
                torch._foreach_add_([state["grad_sum"] for state in states], grads)
                torch._foreach_addcmul_([state["square_sum"] for state in states], grads, grads)
                for param, state in zip(batch, states, strict=True):
                    state["has_gradient"] = True
                    param.grad = None

    def _state(self, param: Tensor) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"], state["has_gradient"] = 0, False
            for name in ("exp_avg", "exp_avg_sq", "grad_sum", "square_sum"):
                state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
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
            If there are gradients that were not accumulated although others were.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        pending = any(param.grad is not None for group in self.param_groups for param in group["params"])
        if pending and closure is None and any(group["n_micro_batches"] for group in self.param_groups):
            raise RuntimeError(
                "step() found gradients that were not accumulated, allowed: accumulate() after every backward(), "
                "or no accumulate() at all"
            )
        if pending:
            self.accumulate()
        for group in self.param_groups:
            n_micro_batches = group["n_micro_batches"]
            if self.process_group is not None and group["params"]:
                n_micro_batches = self._sum_over_ranks(group)
            params = [param for param in group["params"] if self.state.get(param, {}).get("has_gradient")]
            for batch in _batches(group, params):
                states = [self.state[param] for param in batch]
                for state in states:
                    state["step"] += 1
                    state["has_gradient"] = False
                _move(batch, states, n_micro_batches, group)
            group["n_micro_batches"] = 0
        return loss

    def _sum_over_ranks(self, group: dict[str, Any]) -> int:
        """Add up the sums, which parameters have a gradient, and the count over ranks; in one message a group."""
        states = [self._state(param) for param in group["params"]]
        sums = [state[name] for state in states for name in ("grad_sum", "square_sum")]
        counts = [*(float(state["has_gradient"]) for state in states), float(group["n_micro_batches"])]
        message = torch.cat([*(array.reshape(-1) for array in sums), sums[0].new_tensor(counts)])
        dist.all_reduce(message, group=self.process_group)
        *parts, counts = message.split([*(array.numel() for array in sums), len(counts)])
        for array, part in zip(sums, parts, strict=True):
            array.copy_(part.view_as(array))
        *has_gradient, n_micro_batches = counts.tolist()
        for state, value in zip(states, has_gradient, strict=True):
            state["has_gradient"] = value > 0
        return round(n_micro_batches)


def _batches(group: dict[str, Any], params: list[Tensor]) -> list[list[Tensor]]:
    """Parameters that one call an operation handles: all of them with `foreach`, else one at a time."""
    foreach = group["foreach"]
    if not params:
        return []
    if foreach is None:
        foreach = all(param.device.type not in ("cpu", "meta") for param in params)
    return [params] if foreach else [[param] for param in params]


def _move(params: list[Tensor], states: list[dict[str, Any]], n: int, group: dict[str, Any]) -> None:
    """Take a step of `BatchSizeInvariantAdamW` by the sums over `n` micro-batches, and clear the sums."""
    lr, (beta1, beta2) = float(group["lr"]), map(float, group["betas"])
    names = ("exp_avg", "exp_avg_sq", "grad_sum", "square_sum")
    exp_avgs, exp_avg_sqs, grad_sums, square_sums = ([state[name] for state in states] for name in names)
    steps = [state["step"] for state in states]
    torch._foreach_mul_(exp_avgs, beta1)
    torch._foreach_add_(exp_avgs, grad_sums, alpha=(1 - beta1) / n)  # m_t
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_add_(exp_avg_sqs, square_sums, alpha=(1 - beta2) / n)  # v_t
    roots = torch._foreach_div(exp_avg_sqs, [bias_correction(beta2, step) for step in steps])
    torch._foreach_add_(roots, group["eps_root"])
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, group["eps"])
    dtype = params[0].dtype
    if max(group["eps"], group["eps_root"]) < torch.finfo(dtype).tiny:
        for root in roots:
            root.masked_fill_(root == 0, math.inf)  # no gradient yet: 0/0 becomes 0/inf = 0
    torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    step_sizes = [rounded(-lr / bias_correction(beta1, step), dtype) for step in steps]
    torch._foreach_addcdiv_(params, exp_avgs, roots, step_sizes)
    torch._foreach_zero_(grad_sums)
    torch._foreach_zero_(square_sums)
