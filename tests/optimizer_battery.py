"""Three optimisers with one formula at one micro-batch a step, and what the generic tests of optimisers give them."""

from types import SimpleNamespace

import pytest
import torch

from adam_minibatch_noise.optimizers.adam import Adam
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW

LIBRARY = torch.optim.AdamW
SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
KINDS = {"Adam": Adam, "BatchSizeInvariantAdamW": BatchSizeInvariantAdamW, "torch AdamW": LIBRARY}
SHAPES = [(3, 4), (5,), ()]


def kinds(library_fails=None, only=None):
    """Parametrise over the optimisers; `library_fails` says why PyTorch's own does not pass."""
    marks = (
        [pytest.mark.xfail(reason=f"the library's own: {library_fails}", strict=True)]
        if library_fails
        else []
    )
    return pytest.mark.parametrize(
        "kind",
        [
            pytest.param(kind, id=name, marks=marks if kind is LIBRARY else [])
            for name, kind in KINDS.items()
            if only is None or kind in only
        ],
    )


OURS = (Adam, BatchSizeInvariantAdamW)


def draw(seed, *shapes, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=dtype) for shape in shapes]


def parameters(seed=1, shapes=SHAPES, dtype=torch.float64):
    return [torch.nn.Parameter(values) for values in draw(seed, *shapes, dtype=dtype)]


def gradients(n_steps, seed=0, shapes=SHAPES, dtype=torch.float64):
    return [draw(1000 * seed + step, *shapes, dtype=dtype) for step in range(n_steps)]


def advance(optimizer, params, grads):
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = None if grad is None else grad.clone()
        optimizer.step()


def make(kind, n_steps=0, **settings):
    """An optimiser, its parameters, and so many steps behind them."""
    params = parameters()
    optimizer = kind(params, **SETTINGS | settings)
    advance(optimizer, params, gradients(n_steps))
    return SimpleNamespace(optimizer=optimizer, params=params)


def copies(params):
    return [param.detach().clone() for param in params]


def equal(some, others):
    return len(some) == len(others) and all(torch.equal(x, y) for x, y in zip(some, others, strict=True))


def close(some, others, rtol=1e-12, atol=1e-12):
    for x, y in zip(some, others, strict=True):
        torch.testing.assert_close(x.detach(), y.detach(), rtol=rtol, atol=atol)


def numbers(optimizer):
    """All that a step may change of an optimiser, to be compared before and after a refusal."""
    states = [
        {key: value.clone() if torch.is_tensor(value) else value for key, value in state.items()}
        for state in optimizer.state.values()
    ]
    groups = [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    return states, groups, [copies(group["params"]) for group in optimizer.param_groups]


def assert_unchanged(before, optimizer):
    torch.testing.assert_close(numbers(optimizer), before, rtol=0, atol=0)
