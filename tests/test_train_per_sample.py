import numpy as np
import pytest
import torch
from torch.nn import functional

from adam_minibatch_noise.noise_scale.sample_gradients import FAR, LEVELS, GradientMoments, gradient_noise
from train.language.per_sample import window_moments
from train.language.transformer_xl import TransformerXL

N, TGT_LEN, N_TOKEN = 13, 6, 7  # words repeat in a window, and word 6 occurs in none


def make_model(dropout=0.0):
    torch.manual_seed(3)
    model = TransformerXL(
        N_TOKEN, n_layer=2, n_head=2, d_model=8, d_head=4, d_inner=12, dropout=dropout, dropatt=dropout
    ).double()
    with torch.no_grad():
        for param in model.parameters():
            param += 0.3 * torch.randn_like(param)  # else softmax and attention are flat
    return model


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Thousands of tiny operations: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def problem():
    text = torch.from_numpy(np.random.default_rng(1).integers(0, N_TOKEN - 1, N * TGT_LEN + 1))
    return make_model(), text[:-1].view(N, TGT_LEN), text[1:].view(N, TGT_LEN)


def single_gradient(model, inputs, targets):
    """One backward pass through the training loss, with its own cross-entropy."""
    loss = model(inputs[None], targets[None])[0] / len(inputs)
    return torch.cat([grad.flatten() for grad in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.fixture(scope="module")
def gradients(problem):
    model, inputs, targets = problem
    return torch.stack([single_gradient(model, *pair) for pair in zip(inputs, targets, strict=True)])


@pytest.mark.parametrize("chunk", [0, 1, 5, 100])
def test_gradients_match_single_backward_passes(problem, gradients, chunk):
    done = []
    moments = window_moments(*problem, chunk, done.append)
    assert sum(done) == moments.n_samples == N
    tolerance = {"rtol": 1e-10, "atol": 1e-14}
    torch.testing.assert_close(moments.total, gradients.sum(0), **tolerance)
    torch.testing.assert_close(moments.total_sq, gradients.square().sum(0), **tolerance)


def test_chunk_bounds_the_windows_held(problem, monkeypatch):
    seen, cross_entropy = [], functional.cross_entropy

    def spy(logits, targets):
        seen.append(torch._C._functorch.get_unwrapped(torch._C._functorch.get_unwrapped(targets)).shape)
        return cross_entropy(logits, targets)

    monkeypatch.setattr(functional, "cross_entropy", spy)
    window_moments(*problem, chunk=5)
    assert [tuple(shape) for shape in seen] == [(5, TGT_LEN), (5, TGT_LEN), (3, TGT_LEN)]


def test_dropout_is_off_and_the_model_is_left_as_it_was(problem):
    _, inputs, targets = problem
    model = make_model(dropout=0.5)
    before = [param.clone() for param in model.parameters()]
    moments, again = (window_moments(model, inputs, targets) for _ in range(2))
    assert torch.equal(moments.total, again.total)
    assert torch.equal(moments.total, window_moments(*problem).total)
    assert model.training
    assert all(param.grad is None for param in model.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


def test_float32_is_near_float64(problem):
    model, inputs, targets = problem
    exact = gradient_noise(window_moments(model, inputs, targets))
    got = gradient_noise(window_moments(make_model().float(), inputs, targets))
    assert got.b_simple == pytest.approx(exact.b_simple, rel=1e-5)


def test_noise_matches_numpy(problem, gradients):
    """The covariance in full, its trace and diagonal; quantiles by sorting."""
    noise, samples = gradient_noise(window_moments(*problem)), gradients.numpy()
    g, sigma = samples.mean(0), np.cov(samples.T, bias=True)
    assert noise.n_params == len(g)
    assert noise.grad_sq_norm == pytest.approx(g @ g, rel=1e-12)
    assert noise.grad_l1 == pytest.approx(np.abs(g).sum(), rel=1e-12)
    assert noise.tr_sigma == pytest.approx(np.trace(sigma), rel=1e-10)
    assert noise.b_simple == pytest.approx(np.trace(sigma) / (g @ g), rel=1e-10)
    moved = np.abs(samples).max(0) > 0
    assert noise.share_zero == pytest.approx(1 - moved.mean())
    assert noise.share_zero >= 8 / len(g)  # the embedding of the word that never comes
    ratio = np.sort(sigma.diagonal()[moved] / g[moved] ** 2)
    picked = [ratio[int(np.ceil(level * len(ratio))) - 1] for level in LEVELS]
    np.testing.assert_allclose(noise.component_quantiles, picked, rtol=1e-8)
    assert noise.share_below == pytest.approx((ratio < noise.b_simple / FAR).mean())
    assert noise.share_above == pytest.approx((ratio > noise.b_simple * FAR).mean())
    assert 0 < noise.share_above < 1


def test_one_constant_is_the_truth_where_all_components_are_alike():
    """Two samples g ± 3 g: Sigma_jj = 9 g_j² in every component, so B_simple = 9 and nothing is far from it."""
    g = torch.tensor([0.5, -2.0, 4.0], dtype=torch.float64)
    noise = gradient_noise(GradientMoments(2, 2 * g, (4 * g) ** 2 + (2 * g) ** 2))
    assert noise.b_simple == pytest.approx(9)
    np.testing.assert_allclose(noise.component_quantiles, 9)
    assert (noise.share_below, noise.share_above, noise.share_zero) == (0, 0, 0)


def test_samples_that_cancel_count_as_far_above():
    """Components: g = 1 without noise; g = 0 with noise; zero in every sample, which is left out."""
    noise = gradient_noise(GradientMoments(2, torch.tensor([2.0, 0.0, 0.0]), torch.tensor([2.0, 8.0, 0.0])))
    assert (noise.grad_sq_norm, noise.tr_sigma, noise.b_simple) == (1, 4, 4)
    assert noise.component_quantiles.tolist() == [0, 0, 0, np.inf, np.inf]
    assert (noise.share_below, noise.share_above) == (0.5, 0.5)
    assert noise.share_zero == pytest.approx(1 / 3)


def test_what_is_not_finite_stays_visible():
    noise = gradient_noise(GradientMoments(2, torch.full((3,), torch.nan), torch.full((3,), torch.nan)))
    assert np.isnan([noise.b_simple, noise.grad_l1, *noise.component_quantiles]).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_matches_cpu(problem):
    model, inputs, targets = problem
    here = window_moments(model, inputs, targets)
    there = window_moments(make_model().cuda(), inputs.cuda(), targets.cuda())
    torch.testing.assert_close(there.total.cpu(), here.total, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(there.total_sq.cpu(), here.total_sq, rtol=1e-9, atol=1e-12)
