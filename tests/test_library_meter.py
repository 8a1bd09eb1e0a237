"""The meter of somebody else's training loop: bias by enumeration, coverage, every kind of loop, what it refuses."""

import gc
import itertools
import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch import nn

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale import NoiseScaleMeter
from adam_minibatch_noise.noise_scale.estimate import NoiseEstimate, estimate_noise
from adam_minibatch_noise.theory import batch_variance_factor

LEVEL = 0.95
N_REPEATS = 2000


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Fixed(nn.Module):
    """Sample r has the loss x_r . theta, so its gradient is x_r, whatever theta is."""

    def __init__(self, n_params, dtype=torch.float64):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(n_params, dtype=dtype))

    def forward(self, x):
        return (x * self.theta).sum(1).mean()


def samples(rng, n_samples=6, n_params=5, noise=1.0):
    return torch.from_numpy(1 + noise * rng.standard_normal((n_samples, n_params)))


def exact(x, weight=1.0):
    g = x.mean(0)
    return float((weight * g * g).sum()), float((weight * (x - g) ** 2).sum() / len(x))


def accumulate(model, meter, parts, divided=True, after=lambda: None):
    """One step over micro-batches."""
    model.zero_grad()
    for part in parts:
        (model(part) / (len(parts) if divided else 1)).backward()
        meter.micro_batch()
    after()
    meter.step()


def all_partitions(n_samples, n_small, size):
    """Every choice of `n_small` micro-batches of `size`, in every order."""
    for chosen in combinations(range(n_samples), n_small * size):
        for order in permutations(chosen):
            parts = [order[i : i + size] for i in range(0, len(order), size)]
            if all(list(part) == sorted(part) for part in parts):
                yield [list(part) for part in parts]


def measures(meter, g_sq, trace, rtol=1e-12):
    found = meter.result()
    np.testing.assert_allclose(
        [found.grad_sq_norm, found.tr_sigma, found.b_simple], [g_sq, trace, trace / g_sq], rtol=rtol
    )


def batches_in_blocks(partitions):
    """In an order of which no block is left out: 20 blocks of equal length."""
    partitions = list(partitions)
    n = math.lcm(len(partitions), 20)
    return partitions * (n // len(partitions))


@pytest.mark.parametrize("divided", [True, False])
@pytest.mark.parametrize(("n_small", "size"), [(2, 2), (3, 1), (2, 3)])
def test_micro_batches_match_enumeration(rng, divided, n_small, size):
    """Mean over every batch of 6 samples without replacement: |g|² and tr(Sigma) to 1e-12."""
    x, model = samples(rng), Fixed(5)
    meter = NoiseScaleMeter(model, batch_size=n_small * size, n_samples=6, loss_divided=divided, window=10**6)
    for parts in batches_in_blocks(all_partitions(6, n_small, size)):
        accumulate(model, meter, [x[part] for part in parts], divided)
    measures(meter, *exact(x))


def test_half_batch_matches_enumeration(rng):
    x, model = samples(rng), Fixed(5)
    meter = NoiseScaleMeter(model, batch_size=4, n_samples=6, every=1, window=10**6)
    for half, other in batches_in_blocks(all_partitions(6, 2, 2)):
        batch = x[half + other]
        meter.half_batch(lambda part, batch=batch: model(batch[part]))
        model.zero_grad()
        model(batch).backward()
        meter.step()
    measures(meter, *exact(x))


def test_sizes_may_differ_from_step_to_step(rng):
    """Batches of 4 and of 6, the second said to `step`; those that cannot be cut into equal parts are left out."""
    x, model = samples(rng), Fixed(5)
    meter = NoiseScaleMeter(model, batch_size=4, n_samples=6, window=10**6)
    for size in (2, 3):
        for parts in batches_in_blocks(all_partitions(6, 2, size)):
            model.zero_grad()
            for part in parts:
                (model(x[part]) / 2).backward()
                meter.micro_batch()
            meter.step(batch_size=2 * size)
    measures(meter, *exact(x))
    for _ in range(2):
        (model(x[:2]) / 2).backward()
        meter.micro_batch()
    meter.step(batch_size=5)
    assert meter.n_skipped == 1
    model.theta.grad = x[0].clone()
    meter.micro_batch()
    meter.skip(batch_size=1)  # of one micro-batch: nothing to compare
    assert meter.n_skipped == 2
    measures(meter, *exact(x))


def test_metric_of_adam_divides_by_the_root_of_the_second_moment(rng):
    x, model = samples(rng), Fixed(5)
    optimizer = torch.optim.Adam(model.parameters())
    v = torch.tensor([4.0, 0.25, 1.0, 9.0, 0.0], dtype=torch.float64)
    optimizer.state[model.theta]["exp_avg_sq"] = v
    meter = NoiseScaleMeter(model, batch_size=4, n_samples=6, window=10**6, optimizer=optimizer)
    for parts in batches_in_blocks(all_partitions(6, 2, 2)):
        accumulate(model, meter, [x[part] for part in parts])
    found = meter.result(metric="adam")
    g_sq, trace = exact(x, torch.where(v > 0, 1 / v, 0.0))
    np.testing.assert_allclose([found.grad_sq_norm, found.tr_sigma], [g_sq, trace], rtol=1e-12)
    measures(meter, *exact(x))
    assert abs(found.b_simple / meter.result().b_simple - 1) > 0.1


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Fixed(3), Fixed(9)

    def forward(self, x):
        return self.first(x[:, :3]) + self.second(x[:, 3:])


def test_every_parameter_by_itself_and_quantiles_by_number_of_components(rng):
    x = samples(rng, n_params=12)
    x[:, 3:] = 1 + 3 * (x[:, 3:] - 1)
    model = Two()
    meter = NoiseScaleMeter(model, batch_size=4, n_samples=6, window=10**6, by_parameter=True)
    for parts in batches_in_blocks(all_partitions(6, 2, 2)):
        accumulate(model, meter, [x[part] for part in parts])
    found = meter.by_parameter()
    small, large = (np.divide(*exact(part)[::-1]) for part in (x[:, :3], x[:, 3:]))
    assert found["first.theta"].b_simple == pytest.approx(small, rel=1e-10)
    assert found["second.theta"].b_simple == pytest.approx(large, rel=1e-10)
    assert small < large
    measures(meter, *exact(x))
    low, quarter, above, high = meter.quantiles(
        [0.05, 0.25, 0.26, 0.95]
    )  # 3 of 12 components are in the first
    assert (low, quarter, above, high) == pytest.approx((small, small, large, large))


@pytest.mark.slow
def test_interval_covers_at_its_nominal_rate(rng):
    """Exact for normal pairs: squared norms over many equal components are all but normal. 94 to 96 % of 2000."""
    n_samples, n_params, inside = 24, 400, 0
    x = 1 + 2 * rng.standard_normal((n_samples, n_params))
    model = Fixed(n_params)
    g_sq, trace = exact(torch.from_numpy(x))
    n_steps = 6
    for _ in range(N_REPEATS):
        order = rng.permuted(np.tile(np.arange(n_samples), (n_steps, 1)), axis=1)[:, :12]
        halves = torch.from_numpy(x[order].reshape(n_steps, 2, 6, n_params).mean(2))
        meter = NoiseScaleMeter(model, batch_size=12, n_samples=n_samples)
        for first, second in halves:
            model.theta.grad = first / 2
            meter.micro_batch()
            model.theta.grad += second / 2
            meter.micro_batch()
            meter.step()
        found = meter.result(LEVEL)
        inside += found.low <= trace / g_sq <= found.high
    assert 0.94 <= inside / N_REPEATS <= 0.96


@pytest.mark.parametrize("noise", [1.0, 4.0])
def test_interval_of_half_a_batch_covers_at_its_nominal_rate(rng, noise):
    """A half against the whole that it is a part of; 400 components, 94 to 96 % of 2000."""
    inside = 0
    for _ in range(N_REPEATS):
        halves = 1 + noise * rng.standard_normal((20, 2, 400))
        small, big = (halves[:, 0] ** 2).sum(1), (halves.mean(1) ** 2).sum(1)
        found = estimate_noise(2 * big - small, 2 * (small - big), LEVEL)
        inside += found.low <= noise**2 <= found.high
    assert 0.94 <= inside / N_REPEATS <= 0.96


@pytest.mark.parametrize(("n_params", "least"), [(1, 0.90), (10, 0.92)])
def test_interval_loses_little_coverage_where_it_is_not_exact(rng, n_params, least):
    """Squares of few components are skew, and 20 of them are few: stated here, 95 % is promised for many components."""
    n_steps, inside = 20, 0
    for _ in range(N_REPEATS):
        halves = 1 + rng.standard_normal(
            (n_steps, 2, n_params)
        )  # |g|² = n_params, tr(Sigma) = b/2 times as much
        small, big = (halves**2).sum(2).mean(1), (halves.mean(1) ** 2).sum(1)
        found = estimate_noise(2 * big - small, 2 * (small - big), LEVEL)
        inside += found.low <= 1 <= found.high
    assert least <= inside / N_REPEATS <= 0.975


def test_where_the_gradient_cannot_be_told_from_zero_it_gives_a_lower_bound(rng):
    model = Fixed(1000)
    meter = NoiseScaleMeter(model, batch_size=64)
    for _ in range(40):
        accumulate(model, meter, torch.from_numpy(rng.standard_normal((8, 8, 1000))))
    found = meter.result()
    assert found.high == math.inf
    assert found.low > 64  # far above the batch
    assert str(found).startswith(f"noise scale: at least {found.low:.3g} samples")
    assert found.b_simple > 0


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (NoiseEstimate(0, *[math.nan] * 5, 0.95), "noise scale: no measurement yet"),
        (NoiseEstimate(3, *[math.nan] * 5, 0.95), "noise scale: unknown, a gradient was not finite"),
        (NoiseEstimate(3, 1.0, 200.0, 200.0, 0.0, math.inf, 0.95), "noise scale: not determined yet"),
        (
            NoiseEstimate(30, 1.0, 200.0, 200.0, 151.2, 288.8, 0.9),
            "noise scale: 200 samples [151, 289] (90% confidence, 30 measurements)",
        ),
    ],
)
def test_an_estimate_says_in_words_what_it_knows(estimate, text):
    assert str(estimate).startswith(text)


# ------------------------------------------------------------------------------------- kinds of loops
def run(model, x, steps=40, size=8, n_parts=4, setup=None, loop=accumulate, **settings):
    """Measure the same batches of `x` in another kind of loop."""
    generator = torch.Generator().manual_seed(1)
    meter = NoiseScaleMeter(model, batch_size=size, n_samples=len(x), **settings)
    for _ in range(steps):
        batch = x[torch.randperm(len(x), generator=generator)[:size]]
        loop(model, meter, batch.split(size // n_parts))
    return meter


def values(meter):
    found = meter.result()
    return [found.grad_sq_norm, found.tr_sigma, found.low, found.high]


def test_frozen_shared_and_unused_parameters_count_as_they_should(rng):
    x = samples(rng, 40, 6)

    class Messy(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = Fixed(6)
            self.again = self.first  # shared
            self.unused, self.frozen = Fixed(4), Fixed(6).requires_grad_(False)

        def forward(self, x):
            return self.first(x) + 0.5 * self.again(x) + self.frozen(x)

    class Plain(Fixed):
        def forward(self, x):
            return 1.5 * super().forward(x)

    np.testing.assert_allclose(values(run(Messy(), x)), values(run(Plain(6), x)), rtol=1e-12)


class Alternating(nn.Module):
    """Uses its second half in some calls only; elsewhere it has no gradient, or keeps the one it had."""

    def __init__(self, uses):
        super().__init__()
        self.first, self.second = Fixed(3), Fixed(3)
        self.uses, self.calls = uses, 0

    def forward(self, x):
        self.calls += 1
        uses = self.uses[(self.calls - 1) % len(self.uses)]
        return self.first(x[:, :3]) + (self.second(x[:, 3:]) if uses else 0.0)


@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize(
    "uses", [[0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 1, 0, 1]]
)
def test_parameters_used_in_some_micro_batches_count_in_those(rng, uses, watch):
    """Four micro-batches a step, against one parameter whose samples are zero where it is not used."""
    x, found, calls = samples(rng, 40, 6), [], itertools.count()

    class Masked(Fixed):
        def forward(self, x):
            used = uses[next(calls) % len(uses)]
            return super().forward(torch.cat([x[:, :3], x[:, 3:] * used], 1))

    for model in (Alternating(uses), Masked(6)):
        found.append(values(run(model, x, watch=watch)))
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_parameters_created_later_count_from_then_on(rng):
    x = samples(rng, 40, 6)

    class Growing(nn.Module):
        """Makes its second half at the first forward pass, and uses it in every second micro-batch only."""

        def __init__(self):
            super().__init__()
            self.first, self.calls = Fixed(3), 0

        def forward(self, x):
            if self.calls == 0:
                self.second = Fixed(3)
            self.calls += 1
            return self.first(x[:, :3]) + (self.second(x[:, 3:]) if self.calls % 2 else 0.0)

    class Listed(Fixed):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(torch.cat([x[:, :3], x[:, 3:] * (self.calls % 2)], 1))

    np.testing.assert_allclose(values(run(Growing(), x)), values(run(Listed(6), x)), rtol=1e-12)
    but_the_first = {"window": 39 * 8}  # hooks are there from the step after
    found = [
        values(run(model, x, watch=watch, **but_the_first))
        for model, watch in ((Growing(), True), (Listed(6), False))
    ]
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_a_list_of_parameters_is_as_good_as_a_module(rng):
    x = samples(rng, 40, 6)
    model = Fixed(6)
    generator = torch.Generator().manual_seed(1)
    meter = NoiseScaleMeter([model.theta, model.theta], batch_size=8, n_samples=40)
    for _ in range(40):
        accumulate(model, meter, x[torch.randperm(40, generator=generator)[:8]].split(2))
    assert values(meter) == values(run(model, x))


def test_low_precision_gradients_are_squared_in_float32(rng):
    x = samples(rng, 40, 600)
    exactly, coarse = run(Fixed(600), x), run(Fixed(600, torch.bfloat16), x.bfloat16())
    assert coarse.result().b_simple == pytest.approx(exactly.result().b_simple, rel=0.02)


def scaled(scaler, unscale=False):
    optimizers = {}

    def loop(model, meter, parts):
        optimizer = optimizers.setdefault(model, torch.optim.SGD(model.parameters(), lr=0.0))
        optimizer.zero_grad()
        for part in parts:
            scaler.scale(model(part) / len(parts)).backward()
            meter.micro_batch()
        if unscale:
            scaler.unscale_(optimizer)
        meter.step()
        scaler.step(optimizer)
        scaler.update()

    return loop


def new_scaler():
    return torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7)


def test_loss_scaling_is_undone_while_the_scale_grows(rng):
    x = samples(rng, 40, 6)
    scaler = new_scaler()
    meter = run(Fixed(6), x, loop=scaled(scaler), scaler=scaler)
    assert scaler.get_scale() > 2**14
    np.testing.assert_allclose(values(meter), values(run(Fixed(6), x)), rtol=1e-12)


def test_steps_that_overflow_are_left_out_with_loss_scaling_and_visible_without(rng):
    x = samples(rng, 40, 6)
    scaler = new_scaler()
    meter = run(Fixed(6), x, loop=scaled(scaler), scaler=scaler)
    before = values(meter)
    bad = torch.full((8, 6), math.inf, dtype=torch.float64)
    scaled(scaler)(Fixed(6), run(Fixed(6), x), x[:8].split(2))
    model = Fixed(6)
    plain = run(model, x)
    accumulate(model, plain, bad.split(2))
    assert np.isnan(values(plain)).all()
    model = Fixed(6)
    meter = NoiseScaleMeter(model, batch_size=8, n_samples=40, scaler=new_scaler())
    meter.load_state_dict(run(Fixed(6), x).state_dict())
    accumulate(model, meter, bad.split(2))
    np.testing.assert_allclose(values(meter), before, rtol=1e-12)


def clipped(model, meter, parts):
    accumulate(model, meter, parts, after=lambda: nn.utils.clip_grad_norm_(model.parameters(), 1e-3))


def test_with_hooks_clipping_may_come_before_the_step(rng):
    x = samples(rng, 40, 12)
    meter = run(Two(), x, watch=True, loop=clipped)
    np.testing.assert_allclose(values(meter), values(run(Two(), x)), rtol=1e-12)
    meter.close()
    model = Two()
    NoiseScaleMeter(model, 2, watch=True).close()
    assert not any(param._post_accumulate_grad_hooks for param in model.parameters())


def noisy_model():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.4), nn.Linear(8, 1))


def test_measuring_leaves_training_as_it_was(rng):
    """An extra pass neither moves the running means nor takes random numbers: the same parameters to the bit."""
    x = samples(rng, 64, 6).float()
    ends = []
    for measured in (False, True):
        model = noisy_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        meter = NoiseScaleMeter(model, batch_size=16, n_samples=64, every=2)
        for i in range(12):
            batch = x[16 * (i % 4) :][:16]
            if measured:
                meter.half_batch(lambda part, model=model, batch=batch: model(batch[part]).square().mean())
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            if measured:
                meter.step()
            optimizer.step()
        ends.append(nn.utils.parameters_to_vector([*model.parameters(), *model.buffers()]))
    assert torch.equal(*ends)
    assert meter.result().n_measurements == 6


def test_half_batch_leaves_frozen_and_unused_parameters_out(rng):
    x, model = samples(rng), Two()
    model.second.requires_grad_(False)
    model.extra = Fixed(2)
    meter = NoiseScaleMeter(model, batch_size=4, n_samples=6, every=1, window=10**6)
    x = torch.cat([x[:, :3], torch.zeros(6, 9, dtype=torch.float64)], 1)
    for half, other in batches_in_blocks(all_partitions(6, 2, 2)):
        model.zero_grad()
        meter.half_batch(lambda part, chosen=half + other: model(x[chosen][part]))
        model(x[half + other]).backward()
        meter.step()
    measures(meter, *exact(x))


def test_half_batch_works_once_in_16_steps_by_default(rng):
    x, model, calls = samples(rng, 40), Fixed(5), []
    meter = NoiseScaleMeter(model, batch_size=4, n_samples=40)

    def half_loss(part):
        calls.append(part)
        return model(x[:4][part])

    for _ in range(33):
        meter.half_batch(half_loss)
        model(x[:4]).backward()
        meter.step()
    assert calls == [slice(0, 2)] * 3  # 1.5 batches in 33: under 5 % of the work
    assert meter.result().n_measurements == 3


def test_nothing_waits_for_the_device_but_reading(rng, monkeypatch):
    """Whatever brings a number to the host raises while a step is measured."""
    x, model = samples(rng, 40), Fixed(5)
    scaler = new_scaler()
    scaler.scale(torch.ones(()))

    def waits(*_args, **_kwargs):
        raise AssertionError("waits for the device")

    meter = NoiseScaleMeter(model, batch_size=8, n_samples=40, scaler=scaler, by_parameter=True)
    for _ in range(3):
        with monkeypatch.context() as patch:
            for name in ("item", "cpu", "numpy", "tolist", "__float__", "__bool__", "__int__", "nonzero"):
                patch.setattr(torch.Tensor, name, waits)
            model.zero_grad()
            for part in x[:8].split(2):
                (model(part) / 4).backward()
                meter.micro_batch()
            meter.step()
    assert meter.result().n_measurements == 3


CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_no_step_of_the_meter_synchronizes_with_the_device(rng, device):
    x, model, same_model = (each.to(device) for each in (samples(rng, 40), Fixed(5), Fixed(5)))
    scaler = torch.amp.GradScaler(device)
    optimizer = torch.optim.Adam(model.parameters())
    meter = NoiseScaleMeter(model, batch_size=8, n_samples=40, scaler=scaler, optimizer=optimizer)
    half = NoiseScaleMeter(same_model, batch_size=8, n_samples=40, every=1)
    batches = [batch.split(2) for batch in x[:24].split(8)]
    scaler.scale(torch.ones((), device=device))
    try:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        for parts in batches:
            whole = torch.cat(parts)
            for each in (model, same_model):
                each.zero_grad()
            half.half_batch(lambda part, whole=whole: same_model(whole[part]))
            same_model(whole).backward()
            half.step()
            for part in parts:
                scaler.scale(model(part) / 4).backward()
                meter.micro_batch()
            meter.step()
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert meter.result().n_measurements == half.result().n_measurements == 3


@pytest.mark.parametrize("watch", [False, True])
def test_memory_is_one_more_gradient_at_most(rng, watch):
    n_params = 7919
    x, model = samples(rng, 16, n_params), Fixed(n_params)

    def held():
        gc.collect()
        tensors = [each for each in gc.get_objects() if type(each) in (torch.Tensor, nn.Parameter)]
        return sum(each.numel() == n_params for each in tensors)

    accumulate(model, NoiseScaleMeter(model, 8, 16), x[:8].split(2))  # the model has its gradient
    before = held()
    meter = NoiseScaleMeter(model, batch_size=8, n_samples=16, watch=watch)
    for _ in range(5):
        accumulate(model, meter, x[:8].split(2))
    assert held() - before <= 1
    assert meter.result().n_measurements == 5


def test_forgets_what_is_older_than_the_window_of_samples(rng):
    x, model = samples(rng, 400), Fixed(5)
    long, short = (NoiseScaleMeter(model, batch_size=8, n_samples=400, window=w) for w in (3200, 80))
    for i in range(30):
        for meter in (long, short):
            accumulate(model, meter, x[8 * i : 8 * i + 8].split(2))
    assert (long.result().n_measurements, short.result().n_measurements) == (30, 10)
    fresh = NoiseScaleMeter(model, batch_size=8, n_samples=400)
    for i in range(20, 30):
        accumulate(model, fresh, x[8 * i : 8 * i + 8].split(2))
    assert values(fresh) == values(short)


def test_goes_on_from_its_state(rng, tmp_path):
    x, model = samples(rng, 400), Fixed(5)
    whole, first, second = (
        NoiseScaleMeter(model, batch_size=8, n_samples=400, window=200, every=2) for _ in range(3)
    )
    for i in range(30):
        accumulate(model, whole, x[8 * i : 8 * i + 8].split(2))
    for i in range(13):
        accumulate(model, first, x[8 * i : 8 * i + 8].split(2))
    torch.save(first.state_dict(), tmp_path / "meter.pt")
    second.load_state_dict(torch.load(tmp_path / "meter.pt", weights_only=True))
    for i in range(13, 30):
        accumulate(model, second, x[8 * i : 8 * i + 8].split(2))
    assert values(second) == values(whole)
    with pytest.raises(InputError, match="n_samples of the state is 400, allowed: 500"):
        NoiseScaleMeter(model, 8, 500).load_state_dict(first.state_dict())
    adam = torch.optim.Adam(model.parameters())
    with pytest.raises(InputError, match="other metrics"):
        NoiseScaleMeter(model, 8, 400, optimizer=adam).load_state_dict(first.state_dict())


# ------------------------------------------------------------------------------------- wrong use
def test_a_meter_read_before_any_step_says_so(rng):
    with pytest.raises(InputError, match="measured nothing yet, needed: a step that is measured"):
        NoiseScaleMeter(Fixed(2), 4).result()
    meter = run(Fixed(5), samples(rng, 40), size=8, n_parts=4, steps=3, loop=forget_the_last)
    with pytest.raises(InputError, match="measured nothing yet: 3 steps had sizes that do not fit"):
        meter.result()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1, allowed: a whole number >= 2"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": "8"}, "batch_size is 8"),
        ({"batch_size": math.nan}, "batch_size is nan"),
        ({"n_samples": 7}, "batch_size is 8, allowed: at most n_samples = 7"),
        ({"n_samples": 0}, "n_samples is 0"),
        ({"n_samples": math.nan}, "n_samples is nan"),
        ({"window": 7}, "window is 7, allowed: a whole number >= 8"),
        ({"every": 0}, "every is 0"),
        ({"n_processes": 3}, "n_processes is 3, allowed: 1 or 1"),
        ({"model": 3}, "model is 3, allowed: a module, or its parameters"),
        ({"model": []}, "model holds no tensors alone"),
        ({"model": [1.0]}, "model holds no tensors alone"),
    ],
)
def test_rejects_settings_without_meaning(settings, message):
    with pytest.raises(InputError, match=message):
        NoiseScaleMeter(**{"model": Fixed(2), "batch_size": 8} | settings)


def test_sparse_gradients_are_refused():
    model = nn.Embedding(4, 3, sparse=True)
    meter = NoiseScaleMeter(model, 4)
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(InputError, match="the gradient of parameter 'weight' is sparse, allowed: dense"):
        meter.micro_batch()
    meter = NoiseScaleMeter(nn.Embedding(4, 3, sparse=True), 4)
    with pytest.raises(InputError, match="sparse"):
        meter.half_batch(lambda part: meter._live.module(torch.tensor([1, 2])).sum())


def test_calls_that_leave_nothing_to_compare_are_refused(rng):
    x, model = samples(rng, 40), Fixed(5)

    def fresh(**settings):
        model.zero_grad()
        return NoiseScaleMeter(model, 8, 40, **settings)

    with pytest.raises(InputError, match=r"step\(\) without micro_batch\(\) or half_batch\(\)"):
        fresh().step()
    with pytest.raises(InputError, match="this step has one micro-batch, needed: two at least"):
        accumulate(model, fresh(), [x[:8]])
    meter = fresh()
    meter.half_batch(lambda part: model(x[:8][part]))
    with pytest.raises(InputError, match="in one step, allowed: one of them"):
        accumulate(model, meter, x[:8].split(2))
    with pytest.raises(InputError, match="without a backward pass since the last call"):
        fresh(watch=True).micro_batch()
    meter = run(model, x)
    with pytest.raises(InputError, match="metric is 'root', allowed: plain, adam"):
        meter.result(metric="root")
    with pytest.raises(InputError, match="metric is 'adam', needed: optimizer="):
        meter.result(metric="adam")
    with pytest.raises(InputError, match="by_parameter of the meter is False"):
        meter.by_parameter()
    with pytest.raises(InputError, match="level is 2"):
        meter.result(2)


def divide_at_the_end(model, meter, parts):
    def divide():
        model.theta.grad /= len(parts)

    accumulate(model, meter, parts, divided=False, after=divide)


def forget_the_last(model, meter, parts):
    model.zero_grad()
    for i, part in enumerate(parts):
        (model(part) / len(parts)).backward()
        if i + 1 < len(parts):
            meter.micro_batch()
    meter.step()


@pytest.mark.parametrize("loop", [clipped, divide_at_the_end, forget_the_last])
def test_a_gradient_changed_before_the_step_is_detected(rng, loop):
    model = Two() if loop is clipped else Fixed(12)
    meter = run(model, samples(rng, 40, 12), size=12, loop=loop)
    with pytest.raises(InputError, match="the gradient changed between the last micro_batch"):
        meter.result()


def half(model, meter, parts, loss=lambda model, x: model(x), scaler=None):
    batch = torch.cat(parts)
    meter.half_batch(lambda part: loss(model, batch[part]))
    model.zero_grad()
    whole = loss(model, batch)
    (whole if scaler is None else scaler.scale(whole)).backward()
    if scaler is not None:
        for param in model.parameters():
            param.grad /= scaler.get_scale()  # unscaled too early
    meter.step()


def test_half_batch_undoes_loss_scaling_too(rng):
    x = samples(rng, 40, 6)
    scaler, optimizers = new_scaler(), {}

    def scaled_half(model, meter, parts):
        optimizer = optimizers.setdefault(model, torch.optim.SGD(model.parameters(), lr=0.0))
        batch = torch.cat(parts)
        meter.half_batch(lambda part: model(batch[part]))
        model.zero_grad()
        scaler.scale(model(batch)).backward()
        meter.step()
        scaler.step(optimizer)
        scaler.update()

    found = [
        run(Fixed(6), x, loop=loop, every=1, **settings)
        for loop, settings in ((half, {}), (scaled_half, {"scaler": scaler}))
    ]
    assert scaler.get_scale() > 2**14
    np.testing.assert_allclose(*map(values, found), rtol=1e-12)


def test_a_loss_summed_over_samples_is_detected(rng):
    def summed(model, meter, parts):
        half(model, meter, parts, loss=lambda model, x: model(x) * len(x))

    meter = run(Fixed(50), samples(rng, 40, 50), loop=summed, every=1)
    with pytest.raises(InputError, match="the whole batch is larger than the gradients of its parts allow"):
        meter.result()


def test_gradients_unscaled_before_the_step_are_detected(rng):
    scaler = new_scaler()

    def unscaled(model, meter, parts):
        half(model, meter, parts, scaler=scaler)

    meter = run(Fixed(50), samples(rng, 40, 50), loop=unscaled, every=1, scaler=scaler)
    with pytest.raises(InputError, match="the whole batch is smaller than the noise of its parts allows"):
        meter.result()
    scaler = new_scaler()
    meter = run(Fixed(50), samples(rng, 40, 50), loop=scaled(scaler, unscale=True), scaler=scaler)
    with pytest.raises(InputError, match="the gradient changed"):
        meter.result()


def test_right_use_is_not_mistaken_for_wrong_use(rng):
    """500 short windows of pure noise, and of signal without noise to speak of: never refused."""
    for noise in (0.01, 100.0):
        for n in (3, 20):
            for _ in range(500):
                halves = 1 + noise * rng.standard_normal((n, 2, 8))
                small, big = (halves**2).sum(2).mean(1), (halves.mean(1) ** 2).sum(1)
                model = Fixed(1)
                meter = NoiseScaleMeter(model, 8)
                meter._measurements.load_state_dict(
                    {
                        "n_samples": math.inf,
                        "n_seen": 8 * n,
                        "n_skipped": 0,
                        "rows": [
                            (8 * i + 8, 4, 8, [""], torch.tensor([[[s, b]]]), torch.zeros(()))
                            for i, (s, b) in enumerate(zip(small, big, strict=True))
                        ],
                    },
                    1,
                )
                assert meter.result().n_measurements == n


def test_correction_for_drawing_without_replacement_matters(rng):
    x = samples(rng, 12, 40)
    right = run(Fixed(40), x, steps=400)
    wrong = NoiseScaleMeter(Fixed(40), 8)
    wrong._measurements.load_state_dict(right._measurements.state_dict() | {"n_samples": math.inf}, 1)
    g_sq, trace = exact(x)
    found = right.result()
    assert found.low < trace / g_sq < found.high
    assert not wrong.result().low < trace / g_sq < wrong.result().high
    assert batch_variance_factor(12, 8) < 1 / 8


def test_needs_scipy_at_once(monkeypatch):
    monkeypatch.setattr("adam_minibatch_noise.noise_scale.meter.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs SciPy"):
        NoiseScaleMeter(Fixed(2), 4)
