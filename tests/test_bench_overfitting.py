"""What the peers of `bench.overfitting` compute, and what its jobs count."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench import overfitting_jobs, overfitting_torch
from bench.overfitting_jobs import JOBS

SMALL = {name: replace(job, n_runs=3) for name, job in JOBS.items()}


def batches_of(job):
    """Weights of three runs, and inputs and classes of a batch of each, as torch takes them."""
    inputs, classes = (torch.from_numpy(array).long() for array in job.data())
    inputs = inputs if job.n_words else torch.from_numpy(job.data()[0])
    w = {name: torch.from_numpy(array) for name, array in job.runs().weights.items()}
    orders = job.orders(job.n_runs)
    batch = (
        torch.arange(job.n_samples).expand(3, -1) if orders is None else torch.from_numpy(orders[:, 1]).long()
    )
    return w, inputs[batch], classes[batch]


@pytest.mark.parametrize("name", JOBS)
def test_gradients_by_hand_match_autograd(name):
    job = SMALL[name]
    w, x, classes = batches_of(job)
    leaves = {key: array.double().requires_grad_() for key, array in w.items()}
    rows = leaves["embedding"][torch.arange(3)[:, None, None], x].flatten(2) if job.n_words else x.double()
    hidden = (rows @ leaves["w1"] + leaves["b1"][:, None]).relu()
    scores = hidden @ leaves["w2"] + leaves["b2"][:, None]
    torch.nn.functional.cross_entropy(scores.transpose(1, 2), classes, reduction="sum").backward()

    one_hot = torch.nn.functional.one_hot(classes, job.n_classes).float()
    batched = {"by_hand": overfitting_torch.by_hand(job, w, x, one_hot)}
    if job.full:
        batched["by_hand_full"] = overfitting_torch.by_hand_full(job, w, x[0], one_hot[0])
    turned = overfitting_torch.as_module(w)
    samples = (x[0], classes[0]) if job.full else (x, classes)
    batched["by_func"] = overfitting_torch.as_module(
        overfitting_torch.by_func(job)(turned, *samples), back=True
    )
    for r in range(3):
        one = {key: array[r].double().numpy() for key, array in w.items()}
        for key, g in overfitting_jobs.gradients(one, x[r].numpy(), classes[r].numpy()).items():
            expected = leaves[key].grad[r].numpy() / job.batch_size
            assert np.allclose(g, expected, rtol=1e-10, atol=1e-14), key
            for way, values in batched.items():
                assert np.allclose(values[key][r].numpy(), expected, rtol=1e-4, atol=1e-6), (way, key)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, classes = JOBS["digits-4"].data()
    assert images.shape == (1024, 64)
    known = {
        (image.tobytes(), int(label)) for image, label in zip(*load_digits(return_X_y=True), strict=True)
    }
    drawn = {
        ((image * 16).astype(float).tobytes(), int(label))
        for image, label in zip(images, classes, strict=True)
    }
    assert len(drawn) == 1024
    assert drawn <= known


def test_slow_twin_is_adam_of_torch():
    job = SMALL["digits-64"]
    runs, orders = job.runs(), job.orders(3)
    slow = overfitting_jobs.train_slowly(job, runs, orders, 7)
    inputs, classes = job.data()
    for r in range(3):
        w = {
            key: torch.tensor(array[r].astype(float), requires_grad=True)
            for key, array in runs.weights.items()
        }
        betas = float(runs.beta1[r]), float(runs.beta2[r])
        optimizer = torch.optim.Adam(w.values(), lr=float(runs.lr[r]), betas=betas, eps=overfitting_jobs.EPS)
        for batch in orders[r, :7]:
            optimizer.zero_grad()
            hidden = (torch.from_numpy(inputs[batch]).double() @ w["w1"] + w["b1"]).relu()
            targets = torch.from_numpy(classes[batch]).long()
            torch.nn.functional.cross_entropy(hidden @ w["w2"] + w["b2"], targets).backward()
            optimizer.step()
        for key, array in w.items():
            assert np.allclose(slow[key][r], array.detach().numpy(), rtol=1e-9, atol=1e-11), key


def test_orders_are_permutations_of_each_epoch():
    job = replace(SMALL["digits-64"], n_epochs=2)
    for orders in (job.orders(3), overfitting_torch.draw(job, 3, 5).numpy()):
        epochs = orders.reshape(6, job.n_samples)
        assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(job.n_samples), (6, 1)))
        assert len({epoch.tobytes() for epoch in epochs}) == 6


@pytest.mark.parametrize(
    ("name", "n_params", "flop"),
    [
        # digits: 2368 weights of products forward and back, 320 of them to the hidden layer; 42 biases; 10 classes
        ("digits-4", 2410, 4 * (2 * (2368 + 2368 + 320) + 2 * 42 + 5 * 10) + 10 * 2410),
        # words: 1536 + 16,032 weights, three times each; 533 biases; 501 classes; 48 components of embeddings
        ("words-64", 26117, 64 * (6 * (1536 + 16032) + 2 * 533 + 5 * 501 + 48) + 10 * 26117),
    ],
)
def test_operations_are_those_counted_by_hand(name, n_params, flop):
    job = JOBS[name]
    assert job.n_params == n_params
    assert sum(array[0].size for array in SMALL[name].runs().weights.values()) == n_params
    assert job.flop() == flop


def test_bytes_leave_out_what_fits_into_the_first_cache():
    # 3 x 4 x 2410 = 28,920 bytes stay in 32 KiB, twice as many do not; the table of 1024 images never does
    assert JOBS["digits-4"].bytes(4) == 4 * 64 * 4
    assert JOBS["digits-4"].bytes(8) == 4 * 64 * 8 + 2 * 3 * 8 * 2410
    assert JOBS["words-64"].bytes(4) == 2 * 3 * 4 * 26117 + 64 * 3 * 4


def test_a_peer_that_computes_something_else_is_seen():
    job = SMALL["digits-64"]
    runs, orders = job.runs(), job.orders(3)
    right = overfitting_jobs.train_slowly(job, runs, orders, 5)
    assert overfitting_jobs.difference(job, right, 5) < 1e-12
    other = overfitting_jobs.train_slowly(job, runs._replace(beta2=runs.beta2[::-1].copy() * 0.9), orders, 5)
    assert overfitting_jobs.difference(job, other, 5) > overfitting_jobs.TOLERANCE
