"""Adam with both ways to keep its denominator from zero: `eps` outside the square root, `eps_root` inside it.

Longer than other modules by the docstring of the class, which is its manual.

References
----------
.. [1] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
.. [2] I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
.. [3] M. D. Cattaneo, B. Shigida, "The effect of mini-batch noise on the implicit bias of Adam", 2026,
   arXiv 2602.01642.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from adam_minibatch_noise.optimizers.base import (
    CheckedOptimizer,
    alike,
    as_real,
    check_group,
    new_array,
    numbers_of,
    wide_gradients,
    wide_values,
)


class Adam(CheckedOptimizer):
    """Adam [1]_ with decoupled weight decay [2]_, all parameters of a group in one call an operation.

    With g_t the gradient at step t = 1, 2, ..., elementwise,

        m_t = β₁ m_{t-1} + (1 - β₁) g_t,            M_t = m_t / (1 - β₁^t),
        v_t = β₂ v_{t-1} + (1 - β₂) g_t²,           R_t² = v_t / (1 - β₂^t) + eps_root,
        θ_t = (1 - lr weight_decay) θ_{t-1} - lr M_t / (R_t + eps).

    `eps_root` alone is Definition 3.1 of [3]_; `eps` alone is `torch.optim.Adam` (`AdamW` with decay). With both
    zero a component whose v_t is zero, which has had no gradient yet, has 0/0 for its step: it is not moved.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        Parameters, named or not, or parameter groups, each with settings of its own if it has any.
    lr : float or Tensor, > 0
        Learning rate. `lr` and `betas` are read from the group at every step, so they may be changed in
        the parameter groups between steps, and may be tensors with one element; a schedule may set `lr` to 0.
    betas : tuple of two floats or Tensors, 0 <= beta < 1
        beta1 of the first, beta2 of the second moment.
    eps, eps_root, weight_decay : float, >= 0
        `eps` has the unit of a gradient, `eps_root` its square, `weight_decay` is a factor of lr.
    compiled : bool
        One fused kernel a parameter, for devices with more arithmetic than bandwidth. Learning rate and betas reach
        it as tensors: their values never make it compile anew.

    Raises
    ------
    InputError
        A value outside its range, in any group, also one added or loaded later.

    Notes
    -----
    State of a parameter: `step` (t), `exp_avg` (m), `exp_avg_sq` (v). The arrays have the shape of the parameter and
    float32 at least: in bfloat16 an average with beta2 = 0.999 would never fall. The step of a parameter in float16 or
    bfloat16 is computed in float32 and rounded once; a change below half of its last digit is lost, as with every
    optimiser that keeps no float32 copy of the parameters. A complex parameter counts as two real ones.

    A parameter without a gradient is left alone, its step number too. A sparse gradient is refused before anything
    moves. Not offered, and refused in a group: amsgrad, maximize (negate the loss), differentiable, capturable, fused.
    """

    arrays = ("exp_avg", "exp_avg_sq")
    compiled = False
    _formula: Callable[..., None] | None = None  # made at the first step, by each copy for itself

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 0.0,
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        compiled: bool = False,
    ) -> None:
        self.compiled = compiled
        defaults = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root}
        super().__init__(params, defaults | {"weight_decay": weight_decay})

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"compiled": self.compiled}

    def reset(
        self,
        lr: float | Tensor,
        betas: tuple[float | Tensor, float | Tensor],
        eps: float,
        eps_root: float,
        weight_decay: float,
    ) -> None:
        """Forget the moments and begin anew, with settings as in `Adam`, the same for every group."""
        settings = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root, "weight_decay": weight_decay}
        check_group(settings)
        for group in self.param_groups:
            group.update(settings)
        for state in self.state.values():
            state["step"] = 0
            for name in self.arrays:
                state[name].zero_()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that holds a gradient once.

        Parameters
        ----------
        closure : callable, optional
            Computes the gradients and returns the loss.

        Returns
        -------
        object
            What `closure` returned, or None.

        Raises
        ------
        RuntimeError
            If a gradient is sparse; nothing has moved then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.refuse_sparse_gradients()
        work = [
            (params, numbers_of(group))
            for group in self.param_groups
            for params in alike((p for p in group["params"] if p.grad is not None), self._n_steps)
        ]
        for params, settings in work:
            self._move(params, settings)
        return loss

    def _n_steps(self, param: Tensor) -> int:
        n_steps: int = self.state.get(param, {}).get("step", 0)
        return n_steps

    def _move(self, params: list[Tensor], settings: dict[str, float]) -> None:
        """Take a step of parameters that are alike and have had the same number of steps."""
        states = [self.state[param] for param in params]
        for param, state in zip(params, states, strict=True):
            for name in self.arrays:
                if name not in state:
                    state[name] = new_array(param)
            state["step"] = state.get("step", 0) + 1
        grads, step = wide_gradients(params), states[0]["step"]
        exp_avgs, exp_avg_sqs = ([as_real(state[name]) for state in states] for name in self.arrays)
        with wide_values(params) as values:
            if not self.compiled:
                adam_step(values, grads, exp_avgs, exp_avg_sqs, step=step, **settings)
                return
            if self._formula is None:
                self._formula = torch.compile(adam_formula, dynamic=False)
            numbers = coefficients(step=step, **settings)
            for tensors in zip(values, grads, exp_avgs, exp_avg_sqs, strict=True):
                self._formula(*tensors, numbers.to(tensors[0], non_blocking=True))


def adam_step(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    eps_root: float,
    weight_decay: float,
) -> None:
    """Take step number `step` (the first is 1) of `Adam` in place.

    Parameters
    ----------
    params, grads, exp_avgs, exp_avg_sqs : lists of Tensor
        Equally long, of matching shapes: θ, g, m, v.
    step, lr, beta1, beta2, eps, eps_root, weight_decay
        See `Adam`.
    """
    torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)  # m_t
    torch._foreach_mul_(exp_avg_sqs, beta2)
    torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - beta2)  # v_t
    # M_t / (R_t + eps) with the bias corrections taken out of the arrays: fewer passes over them.
    correction1, correction2 = bias_correction(beta1, step), bias_correction(beta2, step)
    if eps_root:
        denominators = torch._foreach_add(exp_avg_sqs, eps_root * correction2)
        torch._foreach_sqrt_(denominators)
    else:
        denominators = torch._foreach_sqrt(exp_avg_sqs)
    torch._foreach_div_(denominators, math.sqrt(correction2))
    if eps:
        torch._foreach_add_(denominators, eps)
    dtype = params[0].dtype
    if max(eps, eps_root * correction2) < torch.finfo(dtype).tiny:
        for denominator in denominators:
            denominator.masked_fill_(denominator == 0, math.inf)  # 0/0 becomes 0/inf = 0
    if weight_decay:
        torch._foreach_mul_(params, 1 - lr * weight_decay)
    torch._foreach_addcdiv_(params, exp_avgs, denominators, rounded(-lr / correction1, dtype))


def bias_correction(beta: float, step: int) -> float:
    """1 - beta^step, to a few roundings even where beta^step is close to 1.

    Parameters
    ----------
    beta : float
        In [0, 1).
    step : int
        >= 1.
    """
    return -math.expm1(step * math.log1p(beta - 1)) if beta - 1 > -1 else 1.0


def rounded(value: float, dtype: torch.dtype) -> float:
    """Return a number infinite where that is what it rounds to: PyTorch takes no finite one beyond the range.

    Parameters
    ----------
    value : float
    dtype : torch.dtype
        Of the tensors that it is to be multiplied with.
    """
    return math.copysign(math.inf, value) if abs(value) > torch.finfo(dtype).max else value


def coefficients(
    step: int, lr: float, beta1: float, beta2: float, eps: float, eps_root: float, weight_decay: float
) -> Tensor:
    """Return what `adam_formula` needs of the settings of a step, as a tensor of float64, shape (7,)."""
    correction1, correction2 = bias_correction(beta1, step), bias_correction(beta2, step)
    numbers = [1 - beta1, 1 - beta2, lr / correction1, 1 - lr * weight_decay]
    return torch.tensor([*numbers, math.sqrt(correction2), eps_root * correction2, eps], dtype=torch.float64)


def adam_formula(param: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, numbers: Tensor) -> None:
    """Take a step of `Adam` in place, in one expression for a compiler to fuse.

    Parameters
    ----------
    param, grad, exp_avg, exp_avg_sq : Tensor
        Of one shape: θ, g, m, v.
    numbers : Tensor, shape (7,)
        From `coefficients`.
    """
    weight1, weight2, step_size, shrink, root_correction2, eps_root, eps = numbers.unbind()
    exp_avg.lerp_(grad, weight1)  # m_t
    exp_avg_sq.lerp_(grad * grad, weight2)  # v_t
    denominator = (exp_avg_sq + eps_root).sqrt() / root_correction2 + eps
    ratio = exp_avg / denominator.masked_fill(denominator == 0, math.inf)  # 0/0 becomes 0/inf = 0
    param.mul_(shrink).sub_(step_size * ratio)
