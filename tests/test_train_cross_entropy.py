import pytest
import torch
from torch.nn import functional

from train.language import cross_entropy
from train.language.cross_entropy import cross_entropy_sum


def arguments(n_rows=10, d_model=4, n_tokens=7, dtype=torch.float64, scale=1.0):
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(n_rows, d_model, dtype=dtype, generator=rng) * scale
    weight = torch.randn(n_tokens, d_model, dtype=dtype, generator=rng)
    bias = torch.randn(n_tokens, dtype=dtype, generator=rng)
    targets = torch.randint(0, n_tokens, (n_rows,), generator=rng)
    return [tensor.requires_grad_() for tensor in (hidden, weight, bias)], targets


@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_loss_and_gradients_match_torch(chunk, monkeypatch):
    monkeypatch.setattr(cross_entropy, "rows_at_a_time", lambda *arguments: chunk)
    tensors, targets = arguments()
    factor = 0.37  # of the loss, as a mean over words would have
    loss = cross_entropy_sum(*tensors, targets)
    grads = torch.autograd.grad(loss * factor, tensors)
    expected = functional.cross_entropy(functional.linear(*tensors), targets, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    for grad, other in zip(grads, torch.autograd.grad(expected * factor, tensors), strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-12, atol=1e-14)


def test_gradients_match_differences():
    tensors, targets = arguments(n_rows=3, d_model=2, n_tokens=4)
    assert torch.autograd.gradcheck(lambda *tensors: cross_entropy_sum(*tensors, targets), tensors)


def test_without_gradient_same_loss():
    tensors, targets = arguments()
    with torch.no_grad():
        loss = cross_entropy_sum(*tensors, targets)
    assert not loss.requires_grad
    assert torch.equal(loss, cross_entropy_sum(*tensors, targets).detach())


def test_an_impossible_word_costs_its_logit_not_infinity():
    """In float32 exp(-300) is 0; the loss must still be 300."""
    hidden, weight = torch.ones(1, 1), torch.tensor([[300.0], [0.0]])
    loss = cross_entropy_sum(hidden, weight, torch.zeros(2), torch.tensor([1]))
    assert float(loss) == 300.0


def test_holds_a_chunk_of_logits_at_a_time(monkeypatch):
    monkeypatch.setattr(cross_entropy, "rows_at_a_time", lambda *arguments: 2)
    seen, softmax = [], functional.softmax

    def spy(logits, dim):
        seen.append(tuple(logits.shape))
        return softmax(logits, dim)

    monkeypatch.setattr(functional, "softmax", spy)
    tensors, targets = arguments(n_rows=5)
    cross_entropy_sum(*tensors, targets)
    assert seen == [(2, 7), (2, 7), (1, 7)]


def test_under_autocast_products_are_rough_and_sums_are_not():
    """Against float64: bfloat16 has 8 bits, but errors of single logits average out in a sum over 512 words."""
    tensors, targets = arguments(n_rows=512, d_model=64, n_tokens=300, dtype=torch.float32, scale=0.3)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = functional.cross_entropy(functional.linear(*exact), targets, reduction="sum")
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy_sum(*tensors, targets)
    assert loss.dtype == torch.float32
    assert 1e-7 < abs(float((loss / expected).detach()) - 1) < 1e-3
    grads = torch.autograd.grad(loss, tensors)
    for grad, other in zip(grads, torch.autograd.grad(expected, exact), strict=True):
        assert grad.dtype == torch.float32
        assert 1e-5 < float((grad - other).norm() / other.norm()) < 1e-2
