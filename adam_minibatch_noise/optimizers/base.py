"""What both optimisers share: settings checked wherever they enter, and state that is never in low precision."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.optimizers.scaling import check_settings

NOT_OFFERED = ("amsgrad", "maximize", "differentiable", "capturable", "fused")
"""Switches of the framework's optimisers that would be ignored if they were set."""


class CheckedOptimizer(torch.optim.Optimizer):
    """Base class: parameter groups are checked when they are given, added and loaded.

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor), or of dict
        Parameters, named or not, or parameter groups.
    defaults : dict
        Settings of a group that has none of its own; `lr`, `betas`, `eps`, `eps_root`, `weight_decay` at least.

    Raises
    ------
    InputError
        A setting outside its range, or one that is not offered (`NOT_OFFERED`).
    """

    arrays: tuple[str, ...] = ()
    """Names of the arrays in the state of a parameter."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        check_group(defaults)  # also where every group has settings of its own
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with its own settings if it has any (see `torch.optim.Optimizer.add_param_group`)."""
        check_group(self.defaults | param_group)
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state and the settings of a `state_dict`, also one of `torch.optim.AdamW`.

        Arrays are copied, in the precision in which this class keeps them: PyTorch itself would round them to the type
        of the parameters, and share them with `state_dict`.

        Parameters
        ----------
        state_dict : dict
            What `state_dict()` returned.

        Raises
        ------
        InputError
            A setting outside its range, an array of another shape than its parameter. Nothing is changed.
        ValueError
            Groups of other sizes (from PyTorch). Nothing is changed.
        """
        loaded: dict[Tensor, dict[str, Any]] = {}
        # Around the hooks of others: they may replace what is loaded, and see the state as it will stay.
        handles = [
            self.register_load_state_dict_pre_hook(
                lambda _, state: loaded.update(self._checked_state(state))
            ),
            self.register_load_state_dict_post_hook(lambda _: self._restore(loaded), prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def _checked_state(self, state_dict: dict[str, Any]) -> dict[Tensor, dict[str, Any]]:
        """Return the state of each parameter that has one; PyTorch refuses groups of other sizes."""
        found = {}
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            check_group(self.defaults | saved, scheduled=True)
            for param, key in zip(group["params"], saved["params"], strict=False):
                state = state_dict["state"].get(key)
                if not state:
                    continue
                if "step" not in state:
                    raise InputError(
                        f"the state of parameter {key} has no 'step', needed: the number of its steps"
                    )
                for name in self.arrays:
                    array = state.get(name)
                    if array is not None and (
                        array.shape != param.shape or array.is_complex() != param.is_complex()
                    ):
                        raise InputError(
                            f"{name} of parameter {key} is {array.dtype} of shape {tuple(array.shape)}, "
                            f"allowed: {param.dtype} or alike, of shape {tuple(param.shape)}"
                        )
                found[param] = state
        return found

    def _restore(self, loaded: dict[Tensor, dict[str, Any]]) -> None:
        for group in self.param_groups:
            for name in self.own_settings():
                group.setdefault(name, self.defaults[name])
        for param, saved in loaded.items():
            state = self.state[param]
            state["step"] = int(saved["step"])
            for name in self.arrays:
                if name in saved:
                    state[name] = new_array(param).copy_(saved[name])

    def own_settings(self) -> tuple[str, ...]:
        """Names of the settings of a group, without what PyTorch adds to them."""
        return tuple(name for name in self.defaults if name not in NOT_OFFERED)

    def refuse_sparse_gradients(self) -> None:
        """Raise RuntimeError if there is a gradient that is not dense."""
        for i, group in enumerate(self.param_groups):
            for j, param in enumerate(group["params"]):
                if param.grad is not None and param.grad.layout != torch.strided:
                    raise RuntimeError(
                        f"the gradient of parameter {j} of group {i} is sparse, allowed: dense gradients"
                    )


def check_group(settings: dict[str, Any], scheduled: bool = False) -> None:
    """Refuse, by `InputError`, settings of a group that have no meaning or would be ignored.

    Parameters
    ----------
    settings : dict
        All settings of a group.
    scheduled : bool
        They may be those in the middle of a run, where a schedule may have set the learning rate to 0.
    """
    for name in NOT_OFFERED:
        if settings.get(name):
            raise InputError(f"{name} is {settings[name]}, allowed: False (this optimizer does not offer it)")
    nonnegative = {name: settings[name] for name in ("eps", "eps_root", "weight_decay")}
    if not settings.get("decoupled_weight_decay", True) and settings["weight_decay"]:
        raise InputError("decoupled_weight_decay is False, allowed: True, or a weight_decay of 0")
    check_settings(settings["lr"], settings["betas"], nonnegative, zero_lr=scheduled)


def numbers_of(group: dict[str, Any]) -> dict[str, float]:
    """Return what a step needs of a group, tensors as numbers.

    Parameters
    ----------
    group : dict
        Of `param_groups`.
    """
    beta1, beta2 = map(float, group["betas"])
    names = ("lr", "eps", "eps_root", "weight_decay")
    return {"beta1": beta1, "beta2": beta2, **{name: float(group[name]) for name in names}}


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums over gradients of type `dtype` are kept: float32 at least, complex if that is."""
    return torch.promote_types(dtype, torch.float32)


def new_array(param: Tensor) -> Tensor:
    """Return zeros for the state of a parameter: its shape, layout and device, in `wide_dtype`."""
    return torch.zeros_like(param, dtype=wide_dtype(param.dtype), memory_format=torch.preserve_format)


def as_real(tensor: Tensor) -> Tensor:
    """Return a view with real and imaginary parts as components of their own, shape (..., 2), if it is complex."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def wide_gradients(params: list[Tensor]) -> list[Tensor]:
    """Return the gradients of parameters of one type, real and in the type of their sums.

    Parameters
    ----------
    params : list of Tensor
        Of one type; each holds a gradient.

    Returns
    -------
    list of Tensor
        The gradients themselves where they are so already, else views or copies.
    """
    grads = [param.grad for param in params if param.grad is not None]
    dtype = wide_dtype(params[0].dtype)
    if not dtype.is_complex and all(grad.dtype == dtype for grad in grads):
        return grads
    return [as_real(grad.to(dtype).resolve_conj()) for grad in grads]


def alike(params: Iterable[Tensor], *keys: Any) -> list[list[Tensor]]:
    """Part `params` into lists that one call an operation can handle: of one device and one type.

    Parameters
    ----------
    params : iterable of Tensor
    *keys : callable
        Of a parameter; lists share its values too.
    """
    found: dict[Hashable, list[Tensor]] = defaultdict(list)
    for param in params:
        found[param.device, param.dtype, *(key(param) for key in keys)].append(param)
    return list(found.values())


@contextmanager
def wide_values(params: list[Tensor]) -> Iterator[list[Tensor]]:
    """Change parameters in place by way of real arrays in `wide_dtype`; a block that raises changes nothing of a copy.

    Parameters
    ----------
    params : list of Tensor
        Of one type.

    Yields
    ------
    list of Tensor
        Views of the parameters, or copies that they take their values from at the end, each rounded once.
    """
    dtype = wide_dtype(params[0].dtype)
    if params[0].dtype == dtype and not dtype.is_complex:
        yield params
        return
    values = [as_real(param.to(dtype)) for param in params]
    yield values
    if params[0].dtype != dtype:
        torch._foreach_copy_([as_real(param) for param in params], values)
