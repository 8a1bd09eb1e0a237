"""The room sim.feature_noise: data, gradients and whole trajectories, against dense NumPy, autograd and torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adam_minibatch_noise.errors import InputError
from sim.feature_noise import lazy_adam_steps, network
from sim.feature_noise.data import TEST, make_samples
from sim.feature_noise.settings import Settings
from sim.feature_noise.training import Run, batches, record_steps, train
from sim.losses import cnn

SMALL = Settings(
    n_samples=12,
    patch_length=40,
    n_noise=6,
    noise_std=0.5,
    n_filters=3,
    init_std=0.4,
    lr=2e-3,
    n_steps=120,
    n_test=30,
    n_records=5,
)


def dense(samples):
    """The dense twin of sparse samples."""
    return cnn.CnnData(samples.dense(), samples.labels, np.zeros(samples.n_samples, int))


def naive_run(s, run, n_steps):
    """Any optimiser on dense arrays, line by line; filters after the last step."""
    data, weights = dense(run.train), run.filters
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    drawn = np.concatenate([block for block, _ in zip(batches(s), range(3), strict=False)])[:n_steps]
    for t, batch in enumerate(drawn, 1):
        size = s.micro_batch_size if s.optimizer == "invariant-adamw" else s.batch_size
        of_micro_batches = [
            cnn.gradients(weights, data.take(part), s.q).mean(axis=0) for part in batch.reshape(-1, size)
        ]
        g, square = np.mean(of_micro_batches, axis=0), np.mean(np.square(of_micro_batches), axis=0)
        if s.optimizer in ("adam", "sgd-momentum"):
            g = g + s.weight_decay * weights
            square = g**2
        else:
            weights = weights * (1 - s.lr * s.weight_decay)
        if s.optimizer == "sgd-momentum":
            first = s.beta1 * first + g
            weights = weights - s.lr * first
            continue
        first = s.beta1 * first + (1 - s.beta1) * g
        second = s.beta2 * second + (1 - s.beta2) * square
        bias1, bias2 = (1 - s.beta1**t, 1 - s.beta2**t) if s.bias_correction else (1, 1)
        if s.optimizer == "signum-smooth":
            second = (first / bias1) ** 2 * bias2
        weights = weights - s.lr * (first / bias1) / (np.sqrt(second / bias2 + s.eps_root) + s.eps)
    return weights


# ------------------------------------------------------------------------------------------------------- data
def test_samples_are_those_of_the_dense_model():
    samples, twin = make_samples(30, 20, 5, 0.3, 0.2, 7), cnn.make_data(30, 20, 5, 0.3, 0.2, 7)
    np.testing.assert_array_equal(samples.labels, twin.labels)
    np.testing.assert_array_equal(samples.dense()[:, 1], twin.noise_patches)
    np.testing.assert_array_equal(samples.dense()[:, 0].sum(axis=0), [samples.labels.sum(), *[0] * 19])


def test_disjoint_supports_share_no_coordinate_but_the_first():
    places = make_samples(5, 31, 6, 1.0, 0.2, 0, supports="disjoint").places
    assert len(np.unique(places[:, 1:])) == 30
    assert (places[:, 0] == 0).all()
    with pytest.raises(InputError, match="at most patch_length - 1 = 29"):
        make_samples(5, 30, 6, 1.0, 0.2, 0, supports="disjoint")


def test_test_samples_are_others():
    one, other = (make_samples(50, 20, 5, 0.3, 0.2, 7, stream=stream) for stream in (2, TEST))
    assert not np.isin(one.entries[:, 1:], other.entries[:, 1:]).any()


def test_with_replacement_draws_every_sample_independently():
    s = replace(SMALL, replacement=True, batch_size=4)
    drawn = next(batches(s))
    counts = np.bincount(drawn.ravel(), minlength=12)
    assert abs(counts - drawn.size / 12).max() < 5 * np.sqrt(drawn.size / 12)
    assert (np.diff(np.sort(drawn, axis=1), axis=1) == 0).any()  # twice in one batch
    drawn = next(batches(replace(s, replacement=False)))
    assert (np.sort(drawn.reshape(-1, 12), axis=1) == np.arange(12)).all()


# -------------------------------------------------------------------------------------------------- gradients
ACTIVATIONS = {q: lambda z, q=q: torch.relu(z) ** q for q in (2, 3, 4, 5)} | {0: torch.nn.functional.silu}


@pytest.mark.parametrize("q", ACTIVATIONS)
@pytest.mark.parametrize("n_filters", [1, 3, 20])
def test_gradient_matches_autograd(q, n_filters):
    samples = make_samples(9, 40, 6, 0.5, 0.2, 1)
    weights = cnn.make_weights(n_filters, 40, 0.4, 1)
    batch = np.array([4, 0, 7], np.int32)
    gradient = network.mean_gradient(network.columns(weights), samples, network.signs(n_filters), q, batch)
    filters = torch.tensor(weights, requires_grad=True)
    patches = torch.tensor(samples.dense()[batch])
    scores = ACTIVATIONS[q](torch.einsum("jrl,npl->njrp", filters, patches)).sum(dim=(2, 3))
    labels = torch.tensor((samples.labels[batch] < 0).astype(int))
    torch.nn.functional.cross_entropy(scores, labels).backward()
    expected = filters.grad.numpy().reshape(2 * n_filters, 40).T
    np.testing.assert_allclose(gradient[:, : 2 * n_filters], expected, rtol=1e-12, atol=1e-14)
    assert not gradient[:, 2 * n_filters :].any()


# ----------------------------------------------------------------------------------------------- trajectories
OPTIMIZERS = [("adam", 0.0), ("adam", 0.3), ("adamw", 0.0), ("adamw", 0.5)]


@pytest.mark.parametrize(("optimizer", "weight_decay"), OPTIMIZERS)
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.5, 0.9)])
@pytest.mark.parametrize("batch_size", [1, 4, 12])
def test_trajectory_matches_torch(optimizer, weight_decay, beta1, beta2, batch_size):
    s = replace(
        SMALL,
        optimizer=optimizer,
        weight_decay=weight_decay,
        beta1=beta1,
        beta2=beta2,
        batch_size=batch_size,
    )
    run = Run(s)
    filters = torch.tensor(run.filters, requires_grad=True)
    patches, labels = torch.tensor(run.train.dense()), torch.tensor((run.train.labels < 0).astype(int))
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    betas = beta1, beta2
    peer = make([filters], lr=s.lr, betas=betas, eps=s.eps, weight_decay=weight_decay, foreach=False)
    for batch in next(batches(s))[:100]:
        peer.zero_grad()
        scores = (torch.relu(torch.einsum("jrl,npl->njrp", filters, patches[batch])) ** 3).sum(dim=(2, 3))
        torch.nn.functional.cross_entropy(scores, labels[batch]).backward()
        peer.step()
    run.advance(100)
    np.testing.assert_allclose(run.filters, filters.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_trajectory_of_other_optimizers_matches_torch(beta1):
    """SGD with momentum against torch's, and RMSprop, which is AdamW with beta1 = 0 and biased moments."""
    decay = {"weight_decay": 0.3} if beta1 else {"weight_decay": 0.0}
    s = replace(SMALL, batch_size=4, beta1=beta1, beta2=0.9, bias_correction=False, **decay)
    for optimizer in ["sgd-momentum"] if beta1 else ["sgd-momentum", "adamw"]:
        run = Run(replace(s, optimizer=optimizer, lr=0.02))
        filters = torch.tensor(run.filters, requires_grad=True)
        peer = (
            torch.optim.RMSprop([filters], lr=0.02, alpha=0.9, eps=s.eps, foreach=False)
            if optimizer == "adamw"
            else torch.optim.SGD([filters], lr=0.02, momentum=beta1, **decay)
        )
        for batch in next(batches(s))[:100]:
            torch_backward(filters, run, batch)
            peer.step(), peer.zero_grad()
        run.advance(100)
        np.testing.assert_allclose(run.filters, filters.detach().numpy(), rtol=1e-10, atol=1e-10)


def torch_backward(filters, run, batch):
    """Add the gradient of the mean loss over a batch to that of the filters."""
    patches, labels = (
        torch.tensor(run.train.dense()[batch]),
        torch.tensor((run.train.labels[batch] < 0).astype(int)),
    )
    scores = (torch.relu(torch.einsum("jrl,npl->njrp", filters, patches)) ** 3).sum(dim=(2, 3))
    torch.nn.functional.cross_entropy(scores, labels).backward()


@pytest.mark.parametrize("micro_batch_size", [1, 2, 6])
def test_trajectory_with_micro_batches_matches_the_library(micro_batch_size):
    from adam_minibatch_noise.optimizers import BatchSizeInvariantAdamW

    s = replace(SMALL, optimizer="invariant-adamw", batch_size=6, micro_batch_size=micro_batch_size)
    run = Run(s)
    filters = torch.tensor(run.filters, requires_grad=True)
    peer = BatchSizeInvariantAdamW([filters], lr=s.lr, eps=s.eps, weight_decay=s.weight_decay)
    for batch in next(batches(s))[:100]:
        for micro_batch in batch.reshape(-1, micro_batch_size):
            torch_backward(filters, run, micro_batch)
            peer.accumulate()
        peer.step()
    run.advance(100)
    np.testing.assert_allclose(run.filters, filters.detach().numpy(), rtol=1e-10, atol=1e-10)
    same = Run(replace(s, optimizer="adamw"))
    same.advance(100)
    distance = np.abs(run.filters - same.filters).max()
    assert distance < 1e-12 if micro_batch_size == 6 else distance > 1e-3  # of one micro-batch it is AdamW


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "change"),
    [
        ("invariant-adamw", {"micro_batch_size": 1}),
        ("invariant-adamw", {"micro_batch_size": 2, "eps": 0.0, "eps_root": 1e-16}),
        ("sgd-momentum", {"lr": 0.03}),
        ("signum-smooth", {"eps": 0.0, "eps_root": 1e-4}),
        ("signum-smooth", {"eps": 1e-2}),
    ],
)
def test_trajectory_of_other_optimizers_matches_naive(optimizer, change, bias_correction):
    """With decay; long enough that rows of micro-batches are left pending and made good."""
    s = replace(SMALL, optimizer=optimizer, bias_correction=bias_correction, weight_decay=0.3, batch_size=2)
    s = replace(s, beta1=0.5, beta2=0.7, **change)
    run = Run(s)
    expected = naive_run(s, run, 200)
    assert np.abs(expected - run.filters).max() > 0.01
    run.advance(200)
    np.testing.assert_allclose(run.filters, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bias_correction", [True, False])
@pytest.mark.parametrize(
    ("eps", "eps_root"), [(1e-8, 0.0), (1e-2, 0.0), (0.0, 1e-16), (0.0, 1e-5), (1e-3, 1e-5)]
)
@pytest.mark.parametrize(("optimizer", "weight_decay"), OPTIMIZERS[1::2])
def test_trajectory_matches_naive(bias_correction, eps, eps_root, optimizer, weight_decay):
    s = replace(
        SMALL,
        bias_correction=bias_correction,
        eps=eps,
        eps_root=eps_root,
        optimizer=optimizer,
        weight_decay=weight_decay,
        batch_size=1,
    )
    run = Run(s)
    expected = naive_run(s, run, 120)
    run.advance(120)
    np.testing.assert_allclose(run.filters, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("optimizer", "weight_decay"), OPTIMIZERS[1::2])
def test_trajectory_matches_naive_where_bias_correction_ends(optimizer, weight_decay):
    """With eps so large that steps do not jump with the sign of a gradient, or rounding grows tenfold in 15 steps."""
    s = replace(SMALL, beta1=0.5, beta2=0.7, batch_size=1, eps=0.01)
    s = replace(s, optimizer=optimizer, weight_decay=weight_decay)
    assert optimizer == "adam" or 100 < s.n_dense < 110
    run = Run(s)
    expected = naive_run(s, run, 300)
    run.advance(300)
    np.testing.assert_allclose(run.filters, expected, rtol=1e-10, atol=1e-10)


def test_filters_that_l2_has_put_to_rest_are_dropped_without_a_trace(monkeypatch):
    """Sixteen filters of which two find the signal: the others decay to below 1e-300, and stand still."""
    s = replace(SMALL, optimizer="adam", weight_decay=0.01, eps=1e-3, lr=0.01, n_filters=8, batch_size=4)
    run, twin = Run(s), Run(s)
    monkeypatch.setattr(twin, "_drop_filters_at_rest", lambda: None)
    for _ in range(3):
        for each in (run, twin):
            each.advance(8000)
    assert (run._state.shape[2], twin._state.shape[2]) == (8, 16)
    assert run.measure() == twin.measure()
    np.testing.assert_array_equal(run.filters, twin.filters)
    assert 0 < (np.abs(run.filters).max(axis=2) > 1e-3).sum() <= 8  # and some did not decay


def test_no_row_is_pending_long_enough_to_matter_but_all_are_checked():
    """One sample of six coordinates out of 400: the others wait for 700 steps, in parts of at most MAX_STEPS."""
    s = replace(
        SMALL, n_samples=2, patch_length=400, batch_size=1, bias_correction=False, weight_decay=2.0, q=4
    )
    run = Run(s)
    order = np.array([0] * 5 + [1] * 700 + [0] * 5, np.int32)[:, None]
    data, weights = dense(run.train), run.filters
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for batch in order:
        g = cnn.gradients(weights, data.take(batch), 4).mean(axis=0)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        weights = weights * (1 - s.lr * 2.0) - s.lr * first / (np.sqrt(second) + s.eps)
    run.advance(len(order), order)
    np.testing.assert_allclose(run.filters, weights, rtol=1e-11, atol=1e-13)
    assert len(lazy_adam_steps.tables(s.lr, 0.9, 0.999, 1e-8, 0.0, s.decay)[1]) - 1 < 700


def test_stopping_on_the_way_changes_rounding_only():
    s = replace(SMALL, bias_correction=False, batch_size=1)
    whole, parts = Run(s), Run(s)
    whole.advance(100)
    for n in (1, 0, 30, 2, 67):
        parts.advance(n)
    np.testing.assert_allclose(parts.filters, whole.filters, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1.0])
@pytest.mark.parametrize(
    ("eps_inside", "beta2"), [(False, 0.999), (True, 0.999), (False, 0.99), (False, 0.5)]
)
def test_tables_match_the_sum_over_steps(eps, eps_inside, beta2):
    lr, beta1, decay = 0.1, 0.9, 1 - 1e-4
    v = 10.0 ** np.arange(-20, 3)
    eps, eps_root = (0.0, eps) if eps_inside else (eps, 0.0)
    series, centers, decays, powers1, powers2 = lazy_adam_steps.tables(lr, beta1, beta2, eps, eps_root, decay)
    assert len(centers) - 1 >= (10 if beta2 == 0.999 else 1)
    for n in range(1, len(centers)):
        k = np.arange(n)
        by_step = np.sqrt(v[:, None] * beta2 ** k.astype(float) + eps_root) + eps
        expected = -lr * (decay ** (n - 1.0 - k) * beta1 ** k.astype(float) / by_step).sum(axis=1)
        if eps_inside:
            y = 1 / np.sqrt(centers[n] * v + eps_root)
            z = v * y**2
        else:
            y = 1 / (centers[n] * np.sqrt(v) + eps)
            z = np.sqrt(v) * y
        np.testing.assert_allclose(y * np.polynomial.Polynomial(series[n])(z), expected, rtol=2e-15)
        np.testing.assert_allclose([decays[n], powers1[n], powers2[n]], [decay**n, beta1**n, beta2**n])


# ----------------------------------------------------------------------------------------------- measurements
def test_measurement_matches_dense_formulas():
    s = replace(SMALL, n_filters=5)
    run = Run(s)
    run.advance(60)
    measured, data, weights = run.measure(), dense(run.train), run.filters
    margins, gradients = cnn.margins(weights, data, 3), cnn.gradients(weights, data, 3)
    assert measured.loss == pytest.approx(np.logaddexp(0, -margins).mean(), rel=1e-12)
    assert measured.train_error == (margins <= 0).mean()
    assert measured.test_error == (cnn.margins(weights, dense(run.test), 3) <= 0).mean()
    assert (measured.signal_plus, measured.signal_minus) == (
        weights[0, :, 0].max(),
        (-weights[1, :, 0]).max(),
    )
    noise = np.einsum("jrl,nl->njr", weights, run.train.dense()[:, 1]).max(axis=2)
    own = noise[np.arange(12), (data.labels < 0).astype(int)]
    assert measured.noise == pytest.approx(own.min(), rel=1e-12)
    mean = gradients.mean(axis=0)
    scale = ((gradients - mean) ** 2).sum() / len(gradients) / (mean**2).sum()
    assert measured.noise_scale == pytest.approx(scale, rel=1e-10)


def test_measurement_of_a_smooth_activation_matches_autograd():
    run = Run(replace(SMALL, activation="silu", n_filters=5))
    run.advance(60)
    measured, filters = run.measure(), torch.tensor(run.filters)
    labels = torch.tensor((run.train.labels < 0).astype(int))

    def loss(filters, i):
        patches = torch.tensor(run.train.dense()[i])
        scores = torch.nn.functional.silu(torch.einsum("jrl,npl->njrp", filters, patches)).sum(dim=(2, 3))
        return torch.nn.functional.cross_entropy(scores, labels[i])

    each = torch.stack([torch.func.grad(loss)(filters, [i]) for i in range(12)])
    noise_scale = ((each - each.mean(0)) ** 2).sum() / 12 / (each.mean(0) ** 2).sum()
    assert measured.loss == pytest.approx(loss(filters, range(12)).item(), rel=1e-12)
    assert measured.noise_scale == pytest.approx(noise_scale.item(), rel=1e-10)


def test_a_tie_is_an_error():
    run = Run(replace(SMALL, init_std=0.0))
    assert run.measure().train_error == run.measure().test_error == 1


def test_records_end_with_the_last_step_and_do_not_depend_on_their_number():
    assert list(record_steps(100, 3)) == [0, 1, 10, 100]
    assert list(record_steps(1, 5)) == [0, 1]
    assert list(record_steps(7, 1)) == [0, 7]
    few, many = (train(replace(SMALL, n_records=n))[-1] for n in (2, 40))
    assert few["step"] == many["step"] == 120
    assert few["loss"] == pytest.approx(many["loss"], rel=1e-11)


def test_bits_do_not_depend_on_what_runs_beside():
    from concurrent.futures import ThreadPoolExecutor

    alone = [train(replace(SMALL, seed=seed)) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: train(replace(SMALL, seed=seed)), range(4)))
    assert alone == together
    assert alone[0] != alone[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "allowed: a divisor of n_samples = 12"),
        ({"eps": 0.0}, "divides by zero"),
        ({"q": 1}, "whole number >= 2"),
        (
            {"optimizer": "invariant-adamw", "micro_batch_size": 3, "batch_size": 4},
            "a divisor of batch_size = 4",
        ),
        ({"n_noise": 40}, "allowed: 1 to patch_length - 1 = 39"),
    ],
)
def test_run_rejects_settings(change, message):
    with pytest.raises(InputError, match=message):
        Run(replace(SMALL, **change))
