"""Adam with both ways to keep its denominator from zero: `eps` outside the square root, `eps_root` inside it.

References
----------
.. [1] D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
.. [2] I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
.. [3] M. D. Cattaneo, B. Shigida, "The effect of mini-batch noise on the implicit bias of Adam", 2026,
   arXiv 2602.01642.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from adam_minibatch_noise.errors import InputError


class Adam(torch.optim.Optimizer):
    """Adam [1]_ with decoupled weight decay [2]_, all parameters of a group in one call an operation.

    With g_t the gradient at step t = 1, 2, ..., elementwise,

        m_t = β₁ m_{t-1} + (1 - β₁) g_t,            M_t = m_t / (1 - β₁^t),
        v_t = β₂ v_{t-1} + (1 - β₂) g_t²,           R_t² = v_t / (1 - β₂^t) + eps_root,
        θ_t = (1 - lr weight_decay) θ_{t-1} - lr M_t / (R_t + eps).

    `eps_root` alone is Definition 3.1 of [3]_; `eps` alone is `torch.optim.Adam` (`AdamW` with decay). With both
    zero a component whose v_t is zero, which has had no gradient yet, has 0/0 for its step: it is not moved.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Parameters or parameter groups.
    lr : float or Tensor, > 0
        Learning rate. `lr` and `betas` are read from the group at every step, so they may be changed in
        `param_groups` between steps, and may be tensors with one element.
    betas : tuple of two floats or Tensors, 0 <= beta < 1
        beta1 of the first, beta2 of the second moment.
    eps, eps_root, weight_decay : float, >= 0
        `eps` has the unit of a gradient, `eps_root` its square, `weight_decay` is a factor of lr.
    compiled : bool
        One fused kernel a parameter (`adam_formula`), for devices with more arithmetic than bandwidth. Learning
        rate and betas reach it as tensors: their values never make it compile anew.

    Raises
    ------
    InputError
        A value outside its range.

    Notes
    -----
    State of a parameter: `exp_avg` (m), `exp_avg_sq` (v), both of its shape; the number of steps t is kept once
    a group, as `group["step"]`. A parameter without a gradient is an error: every step moves all of them.
    """

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
        defaults = _checked(lr, betas, eps, eps_root, weight_decay)
        self.formula = torch.compile(adam_formula, dynamic=False) if compiled else None
        super().__init__(params, {**defaults, "step": 0})

    def reset(
        self,
        lr: float | Tensor,
        betas: tuple[float | Tensor, float | Tensor],
        eps: float,
        eps_root: float,
        weight_decay: float,
    ) -> None:
        """Forget the moments and begin anew, with settings as in `Adam`."""
        settings = _checked(lr, betas, eps, eps_root, weight_decay)
        for group in self.param_groups:
            group.update(settings, step=0)
            for param in group["params"]:
                for moment in self.state[param].values():
                    moment.zero_()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter once, by the gradients it holds.

        Parameters
        ----------
        closure : None
            Of the interface of `torch.optim.Optimizer`; not supported.
        """
        if closure is not None:
            raise ValueError("closure is not supported")
        for group in self.param_groups:
            params = group["params"]
            for param in params:
                if not self.state[param]:
                    self.state[param]["exp_avg"] = torch.zeros_like(param)
                    self.state[param]["exp_avg_sq"] = torch.zeros_like(param)
            group["step"] += 1
            beta1, beta2 = map(float, group["betas"])
            settings = {
                "step": group["step"],
                "lr": float(group["lr"]),
                "beta1": beta1,
                "beta2": beta2,
                "eps": group["eps"],
                "eps_root": group["eps_root"],
                "weight_decay": group["weight_decay"],
            }
            grads = [param.grad for param in params]
            exp_avgs = [self.state[param]["exp_avg"] for param in params]
            exp_avg_sqs = [self.state[param]["exp_avg_sq"] for param in params]
            if self.formula is None:
                adam_step(params, grads, exp_avgs, exp_avg_sqs, **settings)
                continue
            numbers = coefficients(**settings)
            for tensors in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
                self.formula(*tensors, numbers.to(tensors[0], non_blocking=True))


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


def _checked(
    lr: float | Tensor,
    betas: tuple[float | Tensor, float | Tensor],
    eps: float,
    eps_root: float,
    weight_decay: float,
) -> dict[str, Any]:
    if not 0 < lr < math.inf:
        raise InputError(f"lr is {lr}, allowed: a finite number > 0")
    for name, beta in zip(("beta1", "beta2"), betas, strict=True):
        if not 0 <= beta < 1:
            raise InputError(f"{name} is {beta}, allowed: >= 0 and < 1")
    for name, value in (("eps", eps), ("eps_root", eps_root), ("weight_decay", weight_decay)):
        if not 0 <= value < math.inf:
            raise InputError(f"{name} is {value}, allowed: a finite number >= 0")
    return {"lr": lr, "betas": tuple(betas), "eps": eps, "eps_root": eps_root, "weight_decay": weight_decay}
