import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from train.language import batches
from train.language.batches import mean_loss, to_windows
from train.language.transformer_xl import TransformerXL
from train.runtime.sample_order import epoch_order, stream_order


def test_shuffled_order_is_a_permutation_of_seed_and_epoch_alone():
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            order = epoch_order(50, 7, True, seed, epoch)
            assert sorted(order.tolist()) == list(range(50))
            assert torch.equal(order, epoch_order(50, 9, True, seed, epoch))
            orders[tuple(order.tolist())] = seed, epoch
    assert len(orders) == 4


def test_shuffled_order_is_uniform():
    """Each of the 6 orders of 3 windows comes up as often as the others: chi-squared with 5 degrees of freedom."""
    n = 3000
    counts = {}
    for epoch in range(n):
        key = tuple(epoch_order(3, 1, True, 0, epoch).tolist())
        counts[key] = counts.get(key, 0) + 1
    assert sum((count - n / 6) ** 2 / (n / 6) for count in counts.values()) < 20.5  # p = 0.001
    assert len(counts) == 6


def test_stream_order_continues_each_stream():
    order = stream_order(17, 4)
    groups = order[:16].view(4, 4)
    assert (groups[1:] == groups[:-1] + 1).all()
    assert groups[0].tolist() == [0, 4, 8, 12]
    assert order[16:].tolist() == [16]
    assert stream_order(3, 4).tolist() == [0, 1, 2]


def test_fixed_order_is_the_same_every_epoch():
    assert torch.equal(epoch_order(17, 4, False, 0, 0), epoch_order(17, 4, False, 5, 3))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TransformerXL(
        n_token=9, n_layer=2, n_head=2, d_model=6, d_head=3, d_inner=8, dropout=0.3
    ).double()
    with torch.no_grad():
        for param in model.parameters():  # away from the initial point, where words hardly differ
            param.add_(torch.randn_like(param), alpha=0.3)
    return model


def test_mean_loss_covers_every_word(model):
    tokens = np.random.default_rng(0).integers(0, 9, 40 * 5 + 4)
    loss = mean_loss(model, tokens, 5)
    assert model.training
    model.eval()
    total = 0.0
    for start in range(0, len(tokens) - 1, 5):  # 40 windows and a rest of 3 words
        inputs = torch.tensor(tokens[start : min(start + 5, len(tokens) - 1)])
        targets = torch.tensor(tokens[start + 1 : start + 6])
        total += functional.cross_entropy(model.logits(inputs[None])[0], targets, reduction="sum").item()
    assert loss == pytest.approx(total / (len(tokens) - 1), rel=1e-12)


@pytest.mark.parametrize("n_tokens", [2, 6, 7, 11])
def test_mean_loss_of_short_texts(model, n_tokens):
    tokens = np.arange(n_tokens) % 9
    model.eval()
    assert math.isfinite(mean_loss(model, tokens, 5))
    assert not model.training


def test_mean_loss_with_memory_is_that_of_one_long_window(model, monkeypatch):
    """One stream and a memory of the whole text: the windows make no difference."""
    monkeypatch.setattr(batches, "EVALUATION_STREAMS", 1)
    model.mem_len = 100
    tokens = np.random.default_rng(1).integers(0, 9, 21)
    apart, whole = mean_loss(model, tokens, 4), mean_loss(model, tokens, 20)
    assert apart == pytest.approx(whole, rel=1e-12)
    model.mem_len = 0
    assert abs(mean_loss(model, tokens, 4) - whole) > 1e-4


def test_to_windows_copies():
    tokens = np.arange(11)
    inputs, _ = to_windows(tokens, 5, torch.device("cpu"))
    inputs += 1
    assert tokens[0] == 0


def test_mean_loss_with_memory_in_streams(model, monkeypatch):
    """Three streams of two windows, a window and two words left over: each stream is like a window twice as long."""
    monkeypatch.setattr(batches, "EVALUATION_STREAMS", 3)
    tokens = np.random.default_rng(2).integers(0, 9, 7 * 4 + 3)
    model.mem_len = 8
    loss = mean_loss(model, tokens, 4)
    model.eval()
    with torch.no_grad():
        pieces = [tokens[start : start + n + 1] for start, n in ((0, 8), (8, 8), (16, 8), (24, 4), (28, 2))]
        total = sum(float(model(torch.tensor(p[None, :-1]), torch.tensor(p[None, 1:]))[0]) for p in pieces)
    assert loss == pytest.approx(total / (len(tokens) - 1), rel=1e-12)
