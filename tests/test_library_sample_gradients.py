"""Per-sample gradients of networks of many kinds, against one backward pass a sample."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from adam_minibatch_noise.errors import InputError
from adam_minibatch_noise.noise_scale.sample_gradients import gradient_moments, gradient_noise
from train.language.per_sample import window_moments

N = 11


class Branches(nn.Module):
    """What happens depends on the numbers: no map over samples can follow it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.first(x) if float(x.sum()) > 0 else 2 * self.second(x)


class Tied(nn.Module):
    """The same matrix reads and writes, as a language model's embedding."""

    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(5, 6), nn.Linear(6, 5, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, words):
        return self.out(self.embedding(words).mean(1))


class Parts(nn.Module):
    """One frozen parameter, one that nothing uses, a buffer, and a parameter without dimensions."""

    def __init__(self):
        super().__init__()
        self.frozen, self.idle = (
            nn.Parameter(torch.randn(4, 4), requires_grad=False),
            nn.Parameter(torch.ones(3)),
        )
        self.scale, self.out = nn.Parameter(torch.tensor(0.7)), nn.Linear(4, 3)
        self.register_buffer("shift", torch.randn(4))

    def forward(self, x):
        return self.out(self.scale * (x @ self.frozen) + self.shift)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(1, 3)

    def forward(self, x):
        hidden = x.new_zeros(len(x), 3)
        for column in x.unbind(1):
            hidden = self.cell(column[:, None], hidden)
        return hidden


class Waves(nn.Module):
    """A complex parameter; the output is real."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex128))

    def forward(self, x):
        return (x.to(self.weight.dtype) @ self.weight).abs()


def convolutions():
    normalized = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3)
    )
    normalized.train()
    with torch.no_grad():
        normalized[1].running_mean += 0.3
    normalized[4].eval()  # a part in another mode than the whole
    return normalized


def attention():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
    return nn.Sequential(nn.Embedding(5, 8), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32, 3))


def images(rng):
    return torch.randn(N, 1, 4, 4, generator=rng), classes(rng)


def pairs(rng):
    return torch.randn(N, 4, generator=rng), torch.randn(N, 1, generator=rng)


def rows(rng):
    return torch.randn(N, 4, generator=rng), classes(rng)


def words(rng):
    return torch.randint(5, (N, 4), generator=rng), classes(rng)


def classes(rng):
    return torch.randint(3, (N,), generator=rng)


MODELS = {
    "linear": (lambda: nn.Linear(4, 3), rows, functional.cross_entropy),
    "regression": (lambda: nn.Linear(4, 1), pairs, functional.mse_loss),
    "convolutions, batch norm, dropout": (convolutions, images, functional.cross_entropy),
    "attention": (attention, words, functional.cross_entropy),
    "tied weights": (Tied, words, functional.cross_entropy),
    "frozen and unused": (Parts, rows, functional.cross_entropy),
    "complex": (Waves, rows, functional.cross_entropy),
    "recurrent": (Recurrent, rows, functional.cross_entropy),
    "branches": (Branches, rows, functional.cross_entropy),
}
UNMAPPED = {"branches"}


def problem(name, dtype=torch.float64):
    make, draw, loss = MODELS[name]
    rng = torch.Generator().manual_seed(2)
    torch.manual_seed(3)
    model = make()
    inputs, targets = draw(rng)
    if name != "complex":
        model = model.to(dtype)
    inputs, targets = (x.to(dtype) if x.is_floating_point() else x for x in (inputs, targets))
    return model, inputs, targets, loss


def one_at_a_time(model, inputs, targets, loss):
    """Gradients of the loss of each sample by `backward`, (N, n_params), in evaluation mode."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    found = []
    for x, y in zip(inputs, targets, strict=True):
        model.zero_grad()
        loss(model(x[None]), y[None]).backward()
        grads = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters() if p.requires_grad
        ]
        grads = [torch.view_as_real(grad) if grad.is_complex() else grad for grad in grads]
        found.append(torch.cat([grad.flatten() for grad in grads]).double())
    model.zero_grad()
    for part, training in modes.items():
        part.training = training
    return torch.stack(found)


@pytest.mark.parametrize(
    ("name", "chunk"),
    [(name, chunk) for name in MODELS for chunk in (0, 1, 4, 100) if chunk == 1 or name not in UNMAPPED],
)
def test_moments_match_single_backward_passes(name, chunk):
    model, *rest = problem(name)
    expected = one_at_a_time(model, *rest)
    done = []
    moments = gradient_moments(model, *rest, chunk, done.append)
    assert sum(done) == moments.n_samples == N
    assert max(done) <= (chunk or N)
    tolerance = {"rtol": 1e-10, "atol": 1e-13}
    torch.testing.assert_close(moments.total, expected.sum(0), **tolerance)
    torch.testing.assert_close(moments.total_sq, expected.square().sum(0), **tolerance)


def test_model_that_cannot_be_mapped_is_refused_by_the_map_and_not_wrong():
    with pytest.raises(RuntimeError, match="vmap"):
        gradient_moments(*problem("branches"), chunk=4)


def test_noise_matches_numpy():
    model, *rest = problem("attention")
    noise, samples = gradient_noise(gradient_moments(model, *rest)), one_at_a_time(model, *rest).numpy()
    g = samples.mean(0)
    assert noise.tr_sigma == pytest.approx(np.trace(np.cov(samples.T, bias=True)), rel=1e-10)
    assert noise.b_simple == pytest.approx(noise.tr_sigma / (g @ g), rel=1e-10)
    assert noise.n_params == len(g)


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("name", ["convolutions, batch norm, dropout", "frozen and unused"])
def test_model_is_left_as_it_was(name, chunk):
    model, *rest = problem(name)
    modes = [part.training for part in model.modules()]
    assert len(set(modes)) == (2 if "norm" in name else 1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    grad = next(model.parameters()).grad
    gradient_moments(model, *rest, chunk)
    assert [part.training for part in model.modules()] == modes
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert next(model.parameters()).grad is grad is None


@pytest.mark.parametrize("chunk", [1, 4])
def test_model_is_left_as_it_was_after_a_failure(chunk):
    model, inputs, targets, _ = problem("convolutions, batch norm, dropout")
    modes = [part.training for part in model.modules()]
    with pytest.raises(InputError, match=r"loss of a sample has shape \(1, 3\), allowed: a single number"):
        gradient_moments(model, inputs, targets, lambda output, _: output, chunk)
    assert [part.training for part in model.modules()] == modes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 4])
def test_sums_of_low_precision_gradients_are_not_in_low_precision(dtype, chunk):
    """600 samples with gradients of 1 and 3: in bfloat16 the sums would be off by more than one in a hundred."""
    model = nn.Linear(1, 1, bias=False).to(dtype)
    inputs = torch.tensor([[1.0], [3.0]]).repeat(300, 1).to(dtype)
    moments = gradient_moments(
        model, inputs, inputs, lambda output, _: output.sum(), 600 if chunk == 4 else 1
    )
    assert (moments.total.item(), moments.total_sq.item()) == (1200, 3000)


def test_transformer_xl_by_the_general_way_and_by_its_own():
    from tests.test_train_per_sample import TGT_LEN, make_model

    class Logits(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, words):
            return self.model.logits(words)[0]

    model = make_model()
    words = torch.from_numpy(np.random.default_rng(1).integers(0, 6, (7, TGT_LEN + 1)))
    inputs, targets = words[:, :-1], words[:, 1:]
    own = window_moments(model, inputs, targets)
    general = gradient_moments(
        Logits(model), inputs, targets, lambda out, y: functional.cross_entropy(out, y[0])
    )
    torch.testing.assert_close(general.total, own.total, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(general.total_sq, own.total_sq, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, x, y: (m, x[:0], y[:0]), "have 0 and 0 rows, allowed: as many, >= 1"),
        (lambda m, x, y: (m, x, y[:3]), "have 11 and 3 rows"),
        (lambda m, x, y: (m.requires_grad_(False), x, y), "no parameter of the model requires a gradient"),
    ],
)
def test_rejects_what_has_no_gradients(change, message):
    model, inputs, targets, loss = problem("linear")
    with pytest.raises(InputError, match=message):
        gradient_moments(*change(model, inputs, targets), loss)


@pytest.mark.parametrize("chunk", [-1, 1.5, np.nan])
def test_rejects_what_is_no_chunk(chunk):
    with pytest.raises(InputError, match=r"chunk is .*, allowed: a whole number >= 0"):
        gradient_moments(*problem("linear"), chunk)
