"""The meter with two processes: each one's gradient before the all-reduce is a small batch."""

import multiprocessing
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale import NoiseScaleMeter
from adam_minibatch_noise.theory import two_batch_estimates

N_STEPS, SIZE = 20, 8


class Network(nn.Module):
    """Two parameters, each used; sample r has the gradient x_r."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.second = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x):
        return (x * torch.cat([self.first, self.second])).sum(1).mean()


def batches():
    """(n_steps, size, n_params), drawn without replacement from 64 samples."""
    rng = np.random.default_rng(3)
    x = 1 + rng.standard_normal((64, 5))
    return torch.from_numpy(np.stack([x[rng.permutation(64)[:SIZE]] for _ in range(N_STEPS)]))


def values(meter):
    found = meter.result()
    return [found.grad_sq_norm, found.tr_sigma, found.low, found.high]


def one_process(n_parts):
    model = Network()
    meter = NoiseScaleMeter(model, SIZE, 64)
    for batch in batches():
        model.zero_grad()
        for part in batch.split(SIZE // n_parts):
            (model(part) / n_parts).backward()
            meter.micro_batch()
        meter.step()
    return values(meter)


def data_parallel(rank, n_parts, synced, clip=False):
    """Half of every batch on each process, `n_parts` micro-batches there."""
    model = nn.parallel.DistributedDataParallel(Network())
    meter = NoiseScaleMeter(model, SIZE, 64, watch=clip)
    for batch in batches():
        model.zero_grad()
        parts = batch[rank * SIZE // 2 :][: SIZE // 2].split(SIZE // 2 // n_parts)
        for i, part in enumerate(parts):
            with nullcontext() if synced or i == n_parts - 1 else model.no_sync():
                (model(part) / n_parts).backward()
            meter.micro_batch()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        meter.step()
    return values(meter)


def own_average(rank, n_parts):
    import torch.distributed as dist

    model = Network()
    meter = NoiseScaleMeter(model, SIZE, 64, n_processes=2)
    for batch in batches():
        model.zero_grad()
        for part in batch[rank * SIZE // 2 :][: SIZE // 2].split(SIZE // 2 // n_parts):
            (model(part) / n_parts).backward()
            meter.micro_batch()
        for param in model.parameters():
            dist.all_reduce(param.grad)
            param.grad /= 2
        meter.step()
    return values(meter)


def refusals():
    found = []
    for settings, use in (
        ({"model": Network()}, lambda meter: None),
        ({"model": Network(), "n_processes": 3}, lambda meter: None),
        ({"model": Network(), "n_processes": 2}, lambda meter: meter.half_batch(lambda part: None)),
    ):
        try:
            use(NoiseScaleMeter(batch_size=SIZE, **settings))
        except InputError as error:
            found.append(str(error))
    return found


def work(rank, address, results):
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    found = {
        "one backward pass": data_parallel(rank, 1, True),
        "no_sync": data_parallel(rank, 2, False),
        "without no_sync": data_parallel(rank, 2, True),
        "own average": own_average(rank, 2),
        "clipped": data_parallel(rank, 2, False, clip=True),
        "each for itself": values_of_one(rank),
        "refusals": refusals(),
    }
    results.put((rank, found))
    dist.destroy_process_group()


def values_of_one(rank):
    """Processes that train models of their own."""
    model = Network()
    meter = NoiseScaleMeter(model, SIZE, 64, n_processes=1)
    for batch in batches():
        model.zero_grad()
        for part in batch.split(SIZE // 2):
            (model(part) / 2).backward()
            meter.micro_batch()
        meter.step()
    return values(meter)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    address = (tmp_path_factory.mktemp("ranks") / "rendezvous").as_uri()
    ranks = [context.Process(target=work, args=(rank, address, results)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    got = dict(results.get(timeout=300) for _ in ranks)
    for rank in ranks:
        rank.join(timeout=300)
        assert rank.exitcode == 0
    return [got[rank] for rank in range(2)]


@pytest.mark.parametrize(
    ("name", "n_parts"),
    [
        ("one backward pass", 2),
        ("no_sync", 4),
        ("without no_sync", 4),
        ("own average", 4),
        ("each for itself", 2),
    ],
)
def test_two_processes_measure_what_one_does_with_as_many_parts(ranks, name, n_parts):
    for found in ranks:
        np.testing.assert_allclose(found[name], one_process(n_parts), rtol=1e-10)


def test_where_clipping_hides_the_average_each_process_compares_its_own_half(ranks):
    x = batches().numpy()
    micro = (x.reshape(N_STEPS, 4, 2, 5).mean(2) ** 2).sum(2).mean(1)
    halves = (x.reshape(N_STEPS, 2, 4, 5).mean(2) ** 2).sum(2).mean(1)
    expected = [each.mean() for each in two_batch_estimates(micro, halves, 2, 4, 64)]
    for found in ranks:
        np.testing.assert_allclose(found["clipped"][:2], expected, rtol=1e-10)


def test_processes_without_a_word_on_who_averages_are_refused(ranks):
    for found in ranks:
        neither, three, half = found["refusals"]
        assert neither.startswith(
            "model is no DistributedDataParallel, but 2 processes run, needed: n_processes=2"
        )
        assert three == "n_processes is 3, allowed: 1 or 2, the processes that run"
        assert half.startswith("half_batch() with 2 processes, allowed: 1")
