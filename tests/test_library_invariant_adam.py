import copy
import math
import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.optimizers.invariant_adam import BatchSizeInvariantAdamW
from adam_minibatch_noise.optimizers.scaling import scale_from_reference
from tests.optimizer_battery import assert_unchanged, numbers

SHAPES = [(3, 4), (5,), ()]


def gradients(n_steps, kappa, seed=0):
    """Micro-batch gradients [step][micro-batch][parameter] of scales from 1e-4 to 1e2."""
    rng = np.random.default_rng(seed)
    scales = [10.0 ** rng.uniform(-4, 2, shape) for shape in SHAPES]
    return [
        [
            [rng.standard_normal(shape) * s for shape, s in zip(SHAPES, scales, strict=True)]
            for _ in range(kappa)
        ]
        for _ in range(n_steps)
    ]


def parameters(seed=1):
    rng = np.random.default_rng(seed)
    return [torch.nn.Parameter(torch.tensor(rng.standard_normal(shape))) for shape in SHAPES]


def give(params, micro_batch):
    for param, grad in zip(params, micro_batch, strict=True):
        param.grad = torch.tensor(grad)


def advance(optimizer, params, grads):
    for batch in grads:
        for micro_batch in batch:
            give(params, micro_batch)
            optimizer.accumulate()
        optimizer.step()


def published(theta, grads, lr, beta1, beta2, eps, eps_root, weight_decay):
    """The published order: add shares of every micro-batch to m and v, move, and let m and v decay after the step."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for step, batch in enumerate(grads, start=1):
        for g in batch:
            m = m + (1 - beta1) / len(batch) * g
            v = v + (1 - beta2) / len(batch) * g**2
        theta = theta * (1 - lr * weight_decay)
        root = np.sqrt(v / (1 - beta2**step) + eps_root) + eps
        theta = theta - lr * (m / (1 - beta1**step)) / root
        m, v = beta1 * m, beta2 * v
    return theta


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5), (0.99, 0.0)])
@pytest.mark.parametrize(("eps", "eps_root"), [(1e-8, 0.0), (0.0, 1e-6), (1e-3, 1e-2), (0.0, 0.0)])
@pytest.mark.parametrize("foreach", [True, False])
def test_step_matches_the_published_order_of_updates(betas, eps, eps_root, foreach):
    params, grads = parameters(), gradients(12, 3)
    settings = {"eps": eps, "eps_root": eps_root, "weight_decay": 0.1}
    advance(BatchSizeInvariantAdamW(params, 1e-2, betas, foreach=foreach, **settings), params, grads)
    for i, (param, start) in enumerate(zip(params, parameters(), strict=True)):
        history = [[micro_batch[i] for micro_batch in batch] for batch in grads]
        expected = published(start.detach().numpy(), history, 1e-2, *betas, **settings)
        np.testing.assert_allclose(param.detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("accumulates", [True, False])
def test_one_micro_batch_reduces_to_torch_adamw(weight_decay, accumulates):
    ours, theirs, grads = parameters(), parameters(), gradients(200, 1)
    settings = {"lr": 3e-3, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": weight_decay}
    optimizer, reference = BatchSizeInvariantAdamW(ours, **settings), torch.optim.AdamW(theirs, **settings)
    for (micro_batch,) in grads:
        give(ours, micro_batch)
        if accumulates:
            optimizer.accumulate()
        optimizer.step()
        optimizer.zero_grad()
        give(theirs, micro_batch)
        reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_defaults_are_those_of_torch_adamw():
    ours, theirs = (
        vars(kind(parameters()))["defaults"] for kind in (BatchSizeInvariantAdamW, torch.optim.AdamW)
    )
    for name in ("lr", "betas", "eps", "weight_decay"):
        assert ours[name] == theirs[name]


def test_state_dict_round_trip_between_micro_batches():
    params, grads = parameters(), gradients(6, 4)
    optimizer = BatchSizeInvariantAdamW(params, 1e-2, (0.9, 0.99))
    advance(optimizer, params, grads[:3])
    for micro_batch in grads[3][:2]:
        give(params, micro_batch)
        optimizer.accumulate()
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    twin = BatchSizeInvariantAdamW(twins, 1.0)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert twin.param_groups[0]["n_micro_batches"] == 2
    for one, its_params in ((optimizer, params), (twin, twins)):
        for micro_batch in grads[3][2:]:
            give(its_params, micro_batch)
            one.accumulate()
        one.step()
        advance(one, its_params, grads[4:])
    assert all(torch.equal(param, other) for param, other in zip(params, twins, strict=True))
    straight = parameters()
    advance(BatchSizeInvariantAdamW(straight, 1e-2, (0.9, 0.99)), straight, grads)
    assert all(torch.equal(param, other) for param, other in zip(params, straight, strict=True))


def test_eps_does_not_enter_the_state():
    params, twins, grads = parameters(), parameters(), gradients(5, 2)
    optimizer = BatchSizeInvariantAdamW(params, 1e-2, eps=0.5, eps_root=0.5)
    twin = BatchSizeInvariantAdamW(twins, 1e-2, eps=0.0)
    advance(optimizer, params, grads)
    advance(twin, twins, grads)
    for param, other in zip(params, twins, strict=True):
        assert torch.equal(optimizer.state[param]["exp_avg_sq"], twin.state[other]["exp_avg_sq"])
        assert not torch.equal(param, other)


def test_parameter_groups_have_their_own_settings():
    together, grads = parameters(), gradients(5, 2)
    groups = [
        {"params": together[:1], "lr": 1e-3, "betas": (0.5, 0.6)},
        {"params": together[1:], "weight_decay": 0.3},
    ]
    advance(BatchSizeInvariantAdamW(groups, 1e-2), together, grads)
    apart = parameters()
    alone = [
        BatchSizeInvariantAdamW(apart[:1], 1e-3, (0.5, 0.6)),
        BatchSizeInvariantAdamW(apart[1:], 1e-2, weight_decay=0.3),
    ]
    for batch in grads:
        for micro_batch in batch:
            give(apart, micro_batch)
            for optimizer in alone:
                optimizer.accumulate()
        for optimizer in alone:
            optimizer.step()
    assert all(torch.equal(param, other) for param, other in zip(together, apart, strict=True))


def test_a_missing_gradient_counts_as_zero_and_an_untouched_parameter_stays():
    params = [torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3)]
    optimizer = BatchSizeInvariantAdamW(params, 0.1, (0.0, 0.0), eps=0.0, weight_decay=0.0)
    for grad in (torch.full((2,), 4.0, dtype=torch.float64), None):
        params[0].grad, params[1].grad = grad, torch.ones(2, dtype=torch.float64)
        optimizer.accumulate()
    optimizer.step()
    want = 1 - 0.1 * 2 / math.sqrt(8)  # mean 4/2, mean square 16/2
    torch.testing.assert_close(params[0].detach(), torch.full((2,), want, dtype=torch.float64))
    assert torch.equal(params[2].detach(), torch.ones(2, dtype=torch.float64))
    assert params[2] not in optimizer.state


def test_a_closure_is_one_more_micro_batch():
    params, twins, (batch,) = parameters(), parameters(), gradients(1, 2)
    optimizer = BatchSizeInvariantAdamW(params, 1e-2)
    give(params, batch[0])
    optimizer.accumulate()
    assert optimizer.step(lambda: give(params, batch[1]) or 7.0) == 7.0
    advance(BatchSizeInvariantAdamW(twins, 1e-2), twins, [batch])
    assert all(torch.equal(param, other) for param, other in zip(params, twins, strict=True))


def test_invariant_rule_brings_trajectories_together_as_lr_falls_and_square_root_rule_does_not():
    """A linear model in torch from loss to step: distance of batches of 1 and 4 micro-batches over the same samples."""
    gaps = {"invariant": [], "square-root": []}
    for shrink in (1, 10):
        n_steps, lr, betas = 48 * shrink, 1e-3 / shrink, (1 - 0.05 / shrink, 1 - 0.02 / shrink)
        noise = torch.tensor(np.random.default_rng(0).standard_normal((4 * n_steps, 2)))
        for rule, rows in gaps.items():
            ends = []
            for size in (1, 4):
                weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
                scaled = scale_from_reference(size, 1, lr, betas, eps=0.0, rule=rule)
                optimizer = BatchSizeInvariantAdamW(
                    [weight], scaled.lr, scaled.betas, scaled.eps, weight_decay=0.0
                )
                for batch in noise.split(size):
                    parts = batch.unbind() if rule == "invariant" else [batch]  # AdamW: squares of the mean
                    for part in parts:
                        (
                            0.5 * (weight**2).sum() + 0.5 * (part * weight).sum() / part[..., 0].numel()
                        ).backward()
                        optimizer.accumulate()
                    optimizer.step()
                ends.append(weight.detach())
            rows.append(float((ends[0] - ends[1]).norm()))
    assert gaps["invariant"][1] < 0.15 * gaps["invariant"][0]
    assert gaps["square-root"][1] > 0.9 * gaps["square-root"][0]


# ------------------------------------------------------------------------------------ many micro-batches and ranks
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("foreach", [True, False])
def test_sums_do_not_stop_growing(dtype, foreach):
    """1024 micro-batches with gradient 1: in bfloat16 a sum would stop at 256, in float16 at 2048."""
    params = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in SHAPES]
    optimizer = BatchSizeInvariantAdamW(params, 0.5, (0.0, 0.0), weight_decay=0.0, foreach=foreach)
    for n in (1, 4096):
        for _ in range(n):
            for param in params:
                param.grad = torch.ones_like(param)
            optimizer.accumulate()
        for param in params:
            assert (optimizer.state[param]["grad_sum"] == n).all()
            assert (optimizer.state[param]["square_sum"] == n).all()
        optimizer.step()
    assert all((param == -1).all() for param in params)


def test_sums_keep_their_digits_in_a_checkpoint():
    """PyTorch would round them to the type of the parameters."""
    param = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimizer, fresh = (BatchSizeInvariantAdamW([param]) for _ in range(2))
    for _ in range(1023):
        param.grad = torch.ones_like(param)
        optimizer.accumulate()
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.state[param]["grad_sum"].tolist() == fresh.state[param]["square_sum"].tolist() == [1023] * 3
    assert fresh.param_groups[0]["n_micro_batches"] == 1023


def refused(function, *errors):
    try:
        function()
    except errors as error:
        return str(error)
    return "not refused"


def parted_sums(rank, group):
    """2601 micro-batches with gradient 1 over two ranks, in bfloat16, of which rank 0 has 1500."""
    param = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    wide = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex128))
    optimizer = BatchSizeInvariantAdamW([param, wide], 0.5, (0.5, 0.5), weight_decay=0.0, process_group=group)
    for _ in range((1500, 1101)[rank]):
        param.grad, wide.grad = torch.ones_like(param), torch.full_like(wide, 1 + 2j)
        optimizer.accumulate()
    optimizer.step()
    return [optimizer.state[p][name].tolist() for p in (param, wide) for name in ("exp_avg", "exp_avg_sq")]


def copied(rank, group):
    """A copy steps with its peers, as the original does."""
    optimizer = copy.deepcopy(
        BatchSizeInvariantAdamW(parameters(), 1e-2, (0.9, 0.99), process_group=group, skip_nonfinite=True)
    )
    assert optimizer.process_group is copy.copy(optimizer).process_group is group
    params = optimizer.param_groups[0]["params"]
    advance(optimizer, params, [batch[rank::2] for batch in gradients(4, 3)])
    return [param.detach().numpy() for param in params]


def one_overflow(rank, group):
    """An infinite gradient on rank 1 alone, in the second batch of three: no rank moves there."""
    params, ends = parameters(), []
    optimizer = BatchSizeInvariantAdamW(params, 1e-2, process_group=group, skip_nonfinite=True)
    for i, batch in enumerate(gradients(3, 2)):
        give(params, batch[rank])
        if i == rank == 1:
            params[2].grad.fill_(math.inf)
        optimizer.accumulate()
        optimizer.step()
        ends.append([param.detach().numpy().copy() for param in params])
    return ends


def work(rank, n_ranks, address, results):
    """Rank r takes micro-batches r, r + 2, ... of every batch of three: two on rank 0, one on rank 1."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=n_ranks)
    params, group = parameters(), dist.group.WORLD
    optimizer = BatchSizeInvariantAdamW(params, 1e-2, (0.9, 0.99), process_group=group)
    advance(optimizer, params, [batch[rank::n_ranks] for batch in gradients(4, 3)])
    found = {
        "trajectory": [param.detach().numpy() for param in params],
        "copied": copied(rank, group),
        "parted sums": parted_sums(rank, group),
        "one overflow": one_overflow(rank, group),
        "pickled": refused(lambda: pickle.dumps(optimizer), TypeError),
    }
    results.put((rank, found))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes found."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = (tmp_path_factory.mktemp("ranks") / "rendezvous").as_uri()
    ranks = [context.Process(target=work, args=(rank, 2, address, results)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    got = dict(results.get(timeout=300) for _ in ranks)
    for rank in ranks:
        rank.join(timeout=300)
        assert rank.exitcode == 0
    return [got[rank] for rank in range(2)]


@pytest.mark.parametrize("name", ["trajectory", "copied"])
def test_data_parallel_matches_one_process(ranks, name):
    params = parameters()
    advance(BatchSizeInvariantAdamW(params, 1e-2, (0.9, 0.99)), params, gradients(4, 3))
    for found in ranks:
        for param, other in zip(params, found[name], strict=True):
            np.testing.assert_allclose(other, param.detach().numpy(), rtol=1e-13, atol=1e-13)


def test_sums_and_counts_over_ranks_are_exact_in_bfloat16(ranks):
    """Half the means of gradients and squares; a count in float16 would be 2600 or 2602."""
    for found in ranks:
        for got, want in zip(found["parted sums"], (0.5, 0.5, 0.5 + 1j, 0.5 + 2j), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6)


def test_overflow_on_one_rank_leaves_the_batch_out_on_all(ranks):
    params, batches = parameters(), gradients(3, 2)
    optimizer = BatchSizeInvariantAdamW(params, 1e-2)
    advance(optimizer, params, batches[:1])
    first = [param.detach().numpy().copy() for param in params]
    advance(optimizer, params, batches[2:])
    for found in ranks:
        for got, want in zip(found["one overflow"], (first, first, params), strict=True):
            for one, other in zip(got, want, strict=True):
                np.testing.assert_allclose(one, torch.as_tensor(other).detach(), rtol=1e-13, atol=1e-13)


def test_optimizer_of_a_process_group_cannot_be_pickled(ranks):
    for found in ranks:
        assert (
            "cannot be pickled: the group belongs to this process; save its state_dict()" in found["pickled"]
        )


# --------------------------------------------------------------------------------------------- scaling
def test_scale_from_reference_matches_written_out_cases():
    scaled = scale_from_reference(1024, 256, 1e-3, (0.9, 0.99))
    assert (scaled.lr, *scaled.betas, scaled.eps) == pytest.approx((4e-3, 0.6, 0.96, 1e-8))
    scaled = scale_from_reference(1024, 256, 1e-3, (0.9, 0.99), 1e-8, "square-root")
    assert (scaled.lr, *scaled.betas, scaled.eps) == pytest.approx((2e-3, 0.6, 0.96, 5e-9))
    scaled = scale_from_reference(64, 256, 1e-3, (0.9, 0.99))
    assert (scaled.lr, *scaled.betas) == pytest.approx((2.5e-4, 0.975, 0.9975))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 2816}, "batch_size is 2816, allowed: at most 2560, .* makes beta1 0"),
        ({"batch_size": 0}, "batch_size is 0, allowed: a whole number >= 1"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"reference_batch_size": float("nan")}, "reference_batch_size is nan"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"betas": (0.9, 1.0)}, "beta2 is 1.0, allowed: >= 0 and < 1"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"rule": "linear"}, "rule is 'linear', allowed: invariant, square-root"),
        ({"rule": None}, "rule is None"),
        ({"batch_size": -512}, "batch_size is -512"),
        ({"batch_size": float("inf")}, "batch_size is inf"),
        ({"batch_size": None}, "batch_size is None"),
        ({"reference_batch_size": 0}, "reference_batch_size is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr": 1e308}, "lr is 1e.308, allowed: one that is neither 0 nor infinite after scaling"),
        (
            {"lr": 5e-324, "batch_size": 1, "rule": "square-root"},
            "lr is 5e-324, allowed: one that is neither 0",
        ),
        ({"betas": (float("nan"), 0.99)}, "beta1 is nan"),
        ({"betas": (-0.1, 0.99)}, "beta1 is -0.1"),
        ({"betas": (0.9,)}, "betas is .*, allowed: two numbers"),
        ({"betas": "ab"}, "betas is ab, allowed: two numbers"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"eps": None}, "eps is None"),
    ],
)
def test_scale_from_reference_rejects_values_out_of_range(changes, message):
    with pytest.raises(InputError, match=message):
        scale_from_reference(
            **{"batch_size": 512, "reference_batch_size": 256, "lr": 1e-3, "betas": (0.9, 0.99)} | changes
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": float("nan")}, "lr is nan"),
        ({"betas": (1.0, 0.9)}, "beta1 is 1.0"),
        ({"eps_root": -1.0}, "eps_root is -1.0"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
    ],
)
def test_optimizer_rejects_values_out_of_range(changes, message):
    with pytest.raises(InputError, match=message):
        BatchSizeInvariantAdamW(parameters(), **changes)
    with pytest.raises(InputError, match=message):
        BatchSizeInvariantAdamW([{"params": parameters(), **changes}])


def test_optimizer_rejects_gradients_left_over_and_gradients_missing():
    params, ((micro_batch, _),) = parameters(), gradients(1, 2)
    optimizer = BatchSizeInvariantAdamW(params)
    with pytest.raises(RuntimeError, match="no parameter has a gradient"):
        optimizer.accumulate()
    give(params, micro_batch)
    optimizer.accumulate()
    before = numbers(optimizer)
    give(params, micro_batch)
    with pytest.raises(RuntimeError, match="not accumulated"):
        optimizer.step()
    assert_unchanged(before, optimizer)
    params[1].grad = torch.ones(5, dtype=torch.float64).to_sparse()
    for refuses in (optimizer.accumulate, lambda: optimizer.step(lambda: 0.0)):
        with pytest.raises(RuntimeError, match="gradient of parameter 1 of group 0 is sparse"):
            refuses()
        assert_unchanged(before, optimizer)
    params[1].grad = params[1].grad.to_dense()
    optimizer.accumulate()
    assert optimizer.param_groups[0]["n_micro_batches"] == 2
