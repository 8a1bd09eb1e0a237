import copy
from functools import partial

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.optimizers.adam import Adam
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW

SHAPES = [(3, 4), (5,), ()]


def gradients(n_steps, seed=0):
    """Gradients that depend on nothing, of scales from 1e-4 to 1e2."""
    rng = np.random.default_rng(seed)
    scales = [10.0 ** rng.uniform(-4, 2, shape) for shape in SHAPES]
    return [
        [rng.standard_normal(shape) * scale for shape, scale in zip(SHAPES, scales, strict=True)]
        for _ in range(n_steps)
    ]


def parameters(seed=1):
    rng = np.random.default_rng(seed)
    return [torch.nn.Parameter(torch.tensor(rng.standard_normal(shape))) for shape in SHAPES]


def advance(optimizer, params, grads):
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = torch.tensor(grad)
        optimizer.step()


def naive_adam(theta, grads, lr, beta1, beta2, eps, eps_root, weight_decay):
    """Weights of the past spelled out, as in Section 3 of the paper: no running average, no recursion."""
    for t in range(len(grads)):
        mu = [(1 - beta1) * beta1 ** (t - k) / (1 - beta1 ** (t + 1)) for k in range(t + 1)]
        nu = [(1 - beta2) * beta2 ** (t - k) / (1 - beta2 ** (t + 1)) for k in range(t + 1)]
        numerator = sum(m * g for m, g in zip(mu, grads, strict=False))
        root = np.sqrt(sum(n * g**2 for n, g in zip(nu, grads, strict=False)) + eps_root)
        theta = theta - lr * weight_decay * theta - lr * numerator / (root + eps)
    return theta


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5), (0.99, 0.0)])
@pytest.mark.parametrize(("eps", "eps_root"), [(1e-8, 0.0), (0.0, 1e-6), (1e-3, 1e-2)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_matches_naive(betas, eps, eps_root, weight_decay):
    params, grads = parameters(), gradients(40)
    advance(Adam(params, 1e-2, betas, eps, eps_root, weight_decay), params, grads)
    for i, (param, start) in enumerate(zip(params, parameters(), strict=True)):
        history = [step[i] for step in grads]
        expected = naive_adam(start.detach().numpy(), history, 1e-2, *betas, eps, eps_root, weight_decay)
        np.testing.assert_allclose(param.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_adam_matches_torch(weight_decay):
    ours, theirs, grads = parameters(), parameters(), gradients(200)
    advance(Adam(ours, 3e-3, (0.9, 0.99), eps=1e-6, weight_decay=weight_decay), ours, grads)
    reference = torch.optim.AdamW if weight_decay else torch.optim.Adam
    advance(reference(theirs, 3e-3, (0.9, 0.99), eps=1e-6, weight_decay=weight_decay), theirs, grads)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_eps_and_eps_root_are_not_the_same():
    ends = []
    for eps, eps_root in ((1e-2, 0.0), (0.0, 1e-4)):
        params = parameters()
        advance(Adam(params, 1e-2, eps=eps, eps_root=eps_root), params, gradients(20))
        ends.append(params[0].detach())
    assert (ends[0] - ends[1]).abs().max() > 1e-3


@pytest.mark.parametrize("beta2", [0.0, 0.999])
def test_zero_gradient_without_eps_moves_nothing(beta2):
    param = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = Adam([param], 0.1, (0.9, beta2))
    for _ in range(3):
        param.grad = torch.tensor([0.0, 0.5])
        optimizer.step()
    assert param[0] == 1.0
    torch.testing.assert_close(param[1], torch.tensor(2.0 - 0.3))  # a constant gradient: steps of lr


OPTIMIZERS = [Adam, BatchSizeInvariantAdamW, partial(BatchSizeInvariantAdamW, foreach=True)]


def after_one_step(optimizer, **settings):
    """Single precision: most of the numbers of `settings` are beyond its range."""
    param = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.0]))
    param.grad = torch.tensor([1.0, -1.0, 0.0])
    optimizer([param], **{"eps": 0.0, "weight_decay": 0.0, **settings}).step()
    return param.tolist()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "settings", [{"lr": 1e300}, {"lr": 1e38, "betas": (1 - 1e-6, 0.5)}, {"weight_decay": 1e300}]
)
def test_step_beyond_the_range_of_the_parameters_diverges(optimizer, settings):
    assert not np.isfinite(after_one_step(optimizer, **settings)[:2]).any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("settings", [{"eps": 1e300}, {"eps_root": 1e300}, {"lr": 1e-320}])
def test_step_below_the_range_of_the_parameters_moves_nothing(optimizer, settings):
    assert after_one_step(optimizer, **settings) == [1, -2, 0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("settings", [{"eps": 1e-320}, {"eps_root": 1e-320}])
def test_eps_below_the_range_of_the_parameters_is_none(optimizer, settings):
    """A component without a gradient stays where it is, and nowhere is there 0/0."""
    assert after_one_step(optimizer, **settings) == after_one_step(optimizer)
    assert after_one_step(optimizer)[2] == 0


def test_state_dict_round_trip():
    params, grads = parameters(), gradients(10)
    optimizer = Adam(params, 1e-2, (0.9, 0.99), eps_root=1e-8)
    advance(optimizer, params, grads[:6])
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    twin = Adam(twins, 1.0)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(optimizer, params, grads[6:])
    advance(twin, twins, grads[6:])
    assert all(torch.equal(param, other) for param, other in zip(params, twins, strict=True))


def test_lr_and_betas_are_read_at_every_step_and_may_be_tensors():
    params, twins, grads = parameters(), parameters(), gradients(6)
    optimizer = Adam(params, 1e-2, (0.9, 0.99), eps=1e-8)
    advance(optimizer, params, grads[:3])
    optimizer.param_groups[0].update(lr=1e-3, betas=(0.5, 0.75))
    advance(optimizer, params, grads[3:])

    lr, beta1, beta2 = (torch.tensor(value, dtype=torch.float64) for value in (1e-2, 0.9, 0.99))
    twin = Adam(twins, lr, (beta1, beta2), eps=1e-8)
    advance(twin, twins, grads[:3])
    lr.fill_(1e-3), beta1.fill_(0.5), beta2.fill_(0.75)
    advance(twin, twins, grads[3:])
    assert all(torch.equal(param, other) for param, other in zip(params, twins, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"betas": (1.0, 0.9)}, "beta1 is 1.0, allowed: >= 0 and < 1"),
        ({"betas": (0.9, 1.0)}, "beta2 is 1.0"),
        ({"betas": (0.9, float("nan"))}, "beta2 is nan"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"eps_root": float("inf")}, "eps_root is inf"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ],
)
def test_adam_rejects_values_out_of_range(changes, message):
    with pytest.raises(InputError, match=message):
        Adam(parameters(), **changes)


def test_reset_forgets_averages_and_step_numbers():
    params, twins, grads = parameters(), parameters(), gradients(6)
    optimizer = Adam(params, 1.0)
    advance(optimizer, params, grads[:3])
    with torch.no_grad():
        for param, twin in zip(params, twins, strict=True):
            param.copy_(twin)
    optimizer.reset(1e-2, (0.5, 0.75), 1e-8, 1e-6, 0.1)
    advance(optimizer, params, grads[3:])
    advance(Adam(twins, 1e-2, (0.5, 0.75), 1e-8, 1e-6, 0.1), twins, grads[3:])
    assert all(torch.equal(param, other) for param, other in zip(params, twins, strict=True))
    with pytest.raises(InputError, match="lr is -1"):
        optimizer.reset(-1.0, (0.5, 0.75), 1e-8, 1e-6, 0.1)
    assert optimizer.param_groups[0]["lr"] == 1e-2
