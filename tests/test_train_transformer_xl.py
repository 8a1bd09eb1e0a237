import math

import pytest
import torch

from adam_minibatch_noise.errors import InputError
from tests import naive_transformer
from train.language.transformer_xl import INIT_STD, TransformerXL, relative_shift, sinusoids

SIZES = {"n_token": 11, "n_layer": 2, "n_head": 3, "d_model": 8, "d_head": 5, "d_inner": 12}
TOLERANCES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


def make(dtype=torch.float64, seed=0, spread=10.0, **changes):
    """Weights `spread` times the initial ones, biases off zero: every term of the equations matters."""
    torch.manual_seed(seed)
    model = TransformerXL(**(SIZES | changes)).to(dtype)
    with torch.no_grad():
        for param in model.parameters():
            param.add_(torch.randn_like(param), alpha=INIT_STD * spread)
    return model


def tokens(shape, seed=1):
    return torch.randint(0, SIZES["n_token"], shape, generator=torch.Generator().manual_seed(seed))


def twin_state(model):
    return {name: param.detach().clone().requires_grad_() for name, param in model.named_parameters()}


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_logits_and_every_gradient_match_naive(dtype, tolerance):
    model, inputs, targets = make(dtype), tokens((2, 7)), tokens((2, 7), seed=2)
    state = twin_state(model)
    expected = [naive_transformer.logits(state, window, 2, 3, 5) for window in inputs.tolist()]
    torch.testing.assert_close(model.logits(inputs), torch.stack(expected), rtol=tolerance, atol=tolerance)

    loss, memory = model(inputs, targets)
    loss.backward()
    pairs = zip(expected, targets.tolist(), strict=True)
    naive_loss = sum(naive_transformer.cross_entropy_sum(rows, target) for rows, target in pairs)
    naive_loss.backward()
    assert memory is None
    torch.testing.assert_close(loss, naive_loss, rtol=tolerance, atol=0)
    for name, param in model.named_parameters():
        assert param.grad.abs().max() > 1e-3, name  # so that the comparison says something
        torch.testing.assert_close(param.grad, state[name].grad, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_logits_with_memory_match_naive(dtype, tolerance):
    model, inputs = make(dtype, mem_len=4), tokens((1, 6))
    memory = torch.randn(2, 1, 4, 8, dtype=dtype, generator=torch.Generator().manual_seed(3))
    expected = naive_transformer.logits(
        twin_state(model), inputs[0].tolist(), 2, 3, 5, [list(memory[0, 0]), list(memory[1, 0])]
    )
    torch.testing.assert_close(model.logits(inputs, memory)[0], expected, rtol=tolerance, atol=tolerance)


def test_two_windows_with_memory_match_one_long_window():
    """In one layer the memory holds embeddings, so nothing is lost: the long window says the same."""
    model, text = make(n_layer=1, mem_len=5), tokens((2, 10))
    _, memory = model.hidden(text[:, :5])
    assert memory.shape == (1, 2, 5, 8)
    assert not memory.requires_grad
    second, memory = model.hidden(text[:, 5:], memory)
    whole, _ = model.hidden(text)
    torch.testing.assert_close(second, whole[:, 5:], rtol=1e-12, atol=1e-12)
    apart, _ = model.hidden(text[:, 5:])
    assert (second - apart).abs().max() > 1e-2


def test_two_windows_with_memory_match_one_long_window_in_many_layers():
    """A memory that reaches back to the start, in three layers."""
    model, text = make(n_layer=3, mem_len=12), tokens((2, 12))
    _, memory = model.hidden(text[:, :4])
    _, memory = model.hidden(text[:, 4:8], memory)
    third, memory = model.hidden(text[:, 8:], memory)
    assert memory.shape == (3, 2, 12, 8)
    torch.testing.assert_close(third, model.hidden(text)[0][:, 8:], rtol=1e-12, atol=1e-12)


def test_memory_keeps_the_last_mem_len_states():
    model, text = make(n_layer=1, mem_len=3), tokens((1, 8))
    _, memory = model.hidden(text[:, :5])
    embedded = model.word_embedding(text[:, 2:5]) * math.sqrt(8)
    torch.testing.assert_close(memory[0], embedded)


@pytest.mark.parametrize("mem_len", [0, 4])
def test_no_word_sees_its_future(mem_len):
    model, text = make(mem_len=mem_len), tokens((1, 9))
    memory = model.hidden(tokens((1, 9), seed=4))[1]
    before = model.logits(text, memory)
    for place in range(9):
        changed = text.clone()
        changed[0, place] = (changed[0, place] + 1) % SIZES["n_token"]
        after = model.logits(changed, memory)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.equal(after[:, place], before[:, place])


def test_published_sizes_have_54_585_854_parameters():
    with torch.device("meta"):
        model = TransformerXL(33278, n_layer=6, n_head=8, d_model=512, d_head=64, d_inner=2048)
    # embeddings 2 * 33278 * 512, output bias, 6 layers (attention 5 * 512^2, feed-forward, norms), u and v
    layer = 5 * 512**2 + 2 * 512 * 2048 + 2048 + 512 + 4 * 512
    assert sum(param.numel() for param in model.parameters()) == 2 * 33278 * 512 + 33278 + 6 * layer + 2 * 512
    assert sum(param.numel() for param in model.parameters()) == 54_585_854


def test_initial_moments_of_every_tensor():
    torch.manual_seed(5)
    model = TransformerXL(n_token=4000, n_layer=2, n_head=4, d_model=128, d_head=40, d_inner=512)
    names = {name for name, _ in model.named_parameters()}
    assert len(names) == 5 + 2 * 12
    for name, param in model.named_parameters():
        if name.endswith(".bias"):
            assert not param.any(), name
            continue
        mean = 1.0 if name.endswith("norm.weight") else 0.0
        n = param.numel()
        # 4.5 standard errors of the mean and of the standard deviation of n normal numbers
        assert abs(float(param.detach().mean()) - mean) < 4.5 * INIT_STD / math.sqrt(n), name
        assert abs(float(param.detach().std()) - INIT_STD) < 4.5 * INIT_STD / math.sqrt(2 * n), name
        kurtosis = float((((param.detach() - mean) / INIT_STD) ** 4).mean())
        assert abs(kurtosis - 3) < 4.5 * math.sqrt(96 / n), name


def test_relative_shift_moves_each_distance_to_its_key():
    n_query, n_key = 4, 7
    distances = torch.arange(n_key - 1, -1, -1.0).expand(2, n_query, n_key)
    shifted = relative_shift(distances)
    for i in range(n_query):
        for j in range(i + n_key - n_query + 1):
            assert (shifted[:, i, j] == i + n_key - n_query - j).all()


def test_sinusoids_match_naive():
    rows = sinusoids(9, 6, torch.zeros((), dtype=torch.float64))
    expected = [naive_transformer.encode_distance(8 - k, 6, torch.float64) for k in range(9)]
    torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=1e-14)


def test_dropout_acts_in_training_alone():
    model, text = make(dropout=0.5, dropatt=0.5), tokens((1, 6))
    assert not torch.equal(model.logits(text), model.logits(text))
    model.eval()
    assert torch.equal(model.logits(text), model.logits(text))
    plain = make()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.logits(text), plain.logits(text))


def test_rejects_odd_width():
    with pytest.raises(InputError, match="d_model is 7, allowed: an even number"):
        TransformerXL(**(SIZES | {"d_model": 7}))
