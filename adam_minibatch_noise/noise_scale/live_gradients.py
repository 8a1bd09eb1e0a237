"""Gradients of a model in training: squared norms of their parts, without copies that outlive a step."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.two_batch import sq_norm

Squares = dict[str, Tensor]
"""Squared norms by group ("" for all parameters, or each parameter's name), (n_metrics,) each."""
PLAIN, ADAM = 0, 1
"""Index of the Euclidean metric, and of that in which components are divided by sqrt(v)."""

SAMPLED = 1024
"""Components of a parameter, at most, that are looked at for a change."""


class LiveGradients:
    """The trainable parameters of a model, looked up anew each time: later ones count from when they exist.

    Parameters
    ----------
    model : Module, or iterable of Tensors
    optimizer : Optimizer, optional
        One that keeps `exp_avg_sq`: adds the metric of Adam.
    by_parameter : bool
        One group for each parameter instead of one for all.

    Raises
    ------
    InputError
        A thing that is neither, or an iterable without tensors.
    """

    def __init__(
        self,
        model: nn.Module | Iterable[Tensor],
        optimizer: torch.optim.Optimizer | None = None,
        by_parameter: bool = False,
    ) -> None:
        self.module = model if isinstance(model, nn.Module) else None
        self._listed: list[Tensor] = []
        if self.module is None:
            try:
                self._listed = list(model)  # type: ignore[arg-type]  # an iterable, as it is no module
            except TypeError as error:
                raise InputError(f"model is {model!r}, allowed: a module, or its parameters") from error
            if not self._listed or not all(isinstance(each, Tensor) for each in self._listed):
                raise InputError("model holds no tensors alone, allowed: a module, or its parameters")
        self.optimizer, self.by_parameter = optimizer, by_parameter
        self.n_metrics = 1 if optimizer is None else 2
        self._previous: dict[Tensor, Tensor] = {}  # gradients so far in this step
        self._spare: dict[Tensor, Tensor] = {}  # memory of the last step, of parameters without one in this

    def trainable(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter that requires a gradient, once, with its name."""
        if self.module is not None:
            named: Iterable[tuple[str, Tensor]] = self.module.named_parameters()
        else:
            named = {id(each): (str(i), each) for i, each in enumerate(self._listed)}.values()
        return ((name, each) for name, each in named if each.requires_grad)

    def with_gradient(self) -> list[tuple[str, Tensor]]:
        """Those that have one now.

        Raises
        ------
        InputError
            A sparse gradient, or one of which each process holds a part.
        """
        found = [(name, each) for name, each in self.trainable() if each.grad is not None]
        for name, each in found:
            check_dense(name, each.grad)
        return found

    def squares(self, named: Iterable[tuple[str, Tensor, Tensor]]) -> Squares:
        """Squared norms of gradients, given as (name, parameter, gradient)."""
        by_group: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for name, param, grad in named:
            by_group.setdefault(name if self.by_parameter else "", []).append((param, grad))
        return {group: self._squares(pairs) for group, pairs in by_group.items()}

    def _squares(self, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        norms = [sq_norm(grad for _, grad in pairs)]
        if self.optimizer is not None:
            norms.append(sq_norm(self._over_root(param, grad) for param, grad in pairs))
        return torch.stack(norms)

    def _over_root(self, param: Tensor, grad: Tensor) -> Tensor:
        """Gradient over sqrt(v); 0 where v is, as before the first step."""
        assert self.optimizer is not None
        v = self.optimizer.state.get(param, {}).get("exp_avg_sq")
        if v is None:
            return torch.zeros_like(grad)
        return torch.where(v.abs() > 0, grad / v.abs().sqrt(), torch.zeros_like(grad))

    @torch.no_grad()
    def part(self, first: bool) -> Squares:
        """Squared norms of what was added to the gradients since the last call, and remember them.

        Parameters
        ----------
        first : bool
            This is the first call of a step: the gradients were zero.
        """
        added = []
        for name, param in self.with_gradient():
            assert param.grad is not None
            before = None if first else self._previous.get(param)
            if before is not None:  # in place: `remember` writes there next
                torch.sub(param.grad, before, out=before)
            added.append((name, param, param.grad if before is None else before))
        found = self.squares(added)
        self.remember(first)
        return found

    def since(self, param: Tensor, first: bool) -> Tensor:
        """What was added to a parameter's gradient since `remember`."""
        assert param.grad is not None
        before = None if first else self._previous.get(param)
        return param.grad if before is None else param.grad - before

    @torch.no_grad()
    def remember(self, first: bool) -> None:
        """Copy the gradients, into the memory of the last step where there is one."""
        if first:  # what is not filled again in this step counts as zero
            self._spare, self._previous = self._spare | self._previous, {}
        for _, param in self.with_gradient():
            assert param.grad is not None
            memory = self._previous.get(param, self._spare.pop(param, None))
            if memory is None or memory.shape != param.grad.shape or memory.device != param.grad.device:
                memory = torch.empty_like(param.grad)
            self._previous[param] = memory.copy_(param.grad)

    @torch.no_grad()
    def changed(self) -> Tensor:
        """Relative squared change since `remember`, to which nothing should have been added: of `SAMPLED` components.

        Clipping, unscaling, and a backward pass that nobody looked at change nearly all of them.
        """
        now, then = [], []
        for _, param in self.with_gradient():
            assert param.grad is not None
            stride = -(-param.grad.numel() // SAMPLED)
            now.append(param.grad.flatten()[::stride])
            before = self._previous.get(param)
            then.append(torch.zeros_like(now[-1]) if before is None else before.flatten()[::stride])
        difference = sq_norm(one - other for one, other in zip(now, then, strict=True))
        return difference / sq_norm(now).clamp_min(1e-300)

    @torch.no_grad()
    def whole(self) -> Squares:
        """Squared norms of the gradients as they are."""
        found = self.with_gradient()
        return self.squares((name, param, param.grad) for name, param in found if param.grad is not None)

    def of_loss(self, loss: Tensor) -> Squares:
        """Squared norms of the gradient of a loss, which leaves the parameters' own gradients alone."""
        named = list(self.trainable())
        grads = torch.autograd.grad(loss, [param for _, param in named], allow_unused=True)
        found = [
            (name, param, grad) for (name, param), grad in zip(named, grads, strict=True) if grad is not None
        ]
        for name, _, grad in found:
            check_dense(name, grad)
        with torch.no_grad():
            return self.squares(found)


def check_dense(name: str, grad: Tensor | None) -> None:
    """Refuse, by `InputError`, a gradient whose norm is not that of one strided tensor."""
    if grad is None:
        return
    if grad.layout != torch.strided:
        raise InputError(f"the gradient of parameter {name!r} is sparse, allowed: dense (sparse=False)")
    if hasattr(grad, "full_tensor"):
        raise InputError(f"the gradient of parameter {name!r} is sharded, allowed: whole on every process")


class Watch:
    """Hooks that see every gradient right after a backward pass added to it: before all-reduce and clipping.

    Parameters
    ----------
    live : LiveGradients
    due : callable
        Whether the pass under way is to be measured.
    """

    def __init__(self, live: LiveGradients, due: Callable[[], bool]) -> None:
        self._live, self._due, self.first = live, due, True
        self._handles: dict[Tensor, RemovableHandle] = {}
        self._parts: dict[str, Squares] = {}
        self._totals: dict[str, Squares] = {}
        self.attach()

    def attach(self) -> None:
        """Hook the parameters that came since."""
        for name, param in self._live.trainable():
            if param not in self._handles and param.is_leaf:
                self._handles[param] = param.register_post_accumulate_grad_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[[Tensor], None]:
        def look(param: Tensor) -> None:
            if not self._due() or param.grad is None:
                return
            check_dense(name, param.grad)
            with torch.no_grad():
                part = self._live.since(param, self.first)
                self._parts[name] = self._live.squares([(name, param, part)])
                self._totals[name] = self._live.squares([(name, param, param.grad)])

        return look

    def part(self, first: bool) -> Squares:
        """Squared norms of the last backward pass alone, and remember the gradients."""
        if not self._parts:
            raise InputError(
                "micro_batch() was called without a backward pass since the last call, needed: one"
            )
        found, self._parts = add_up(self._parts.values()), {}
        self._live.remember(first)
        self.first = False
        return found

    def whole(self) -> Squares:
        """Squared norms of this process's gradients when the last backward pass had added to them."""
        return add_up(self._totals.values())

    def reset(self) -> None:
        """Begin a step."""
        self._parts, self._totals, self.first = {}, {}, True
        self.attach()

    def remove(self) -> None:
        """Take the hooks off the parameters."""
        for handle in self._handles.values():
            handle.remove()
        self._handles = {}


def add_up(squares: Iterable[Mapping[str, Tensor]]) -> Squares:
    """Sum by group; a group that is missing in one of them counts as zero there."""
    total: Squares = {}
    for each in squares:
        for group, value in each.items():
            total[group] = total[group] + value if group in total else value
    return total


@contextmanager
def undisturbed(model: nn.Module | None, devices: set[torch.device]) -> Iterator[None]:
    """Put a model's buffers and the random numbers back after a block, so that an extra pass leaves no trace."""
    buffers: dict[str, Any] = {name: each.clone() for name, each in model.named_buffers()} if model else {}
    cuda = sorted({device.index or 0 for device in devices if device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        if model is not None:
            with torch.no_grad():
                for name, each in model.named_buffers():
                    if name in buffers:
                        each.copy_(buffers[name])
