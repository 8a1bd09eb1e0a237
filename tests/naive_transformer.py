"""Transformer-XL written out with loops, from the equations of Dai et al. (2019), Section 3.3: slow and plain.

Shares no code with train.language.transformer_xl and takes another route: one window, one head, one query and one key
at a time, distances i - j spelled out, softmax and layer-norm from their definitions.
"""

import math

import torch


def encode_distance(distance, d_model, dtype):
    angles = [distance / 10000 ** (2 * i / d_model) for i in range(d_model // 2)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles], dtype=dtype)


def layer_norm(x, weight, bias):
    mean = x.mean()
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean() + 1e-5) * weight + bias


def attention_block(state, prefix, xs, memory, n_head, d_head):
    """`xs` and `memory` are lists of vectors; the memory comes before."""

    def matrix(name):
        return state[prefix + name + ".weight"]

    def head(vector, h):
        return vector[h * d_head : (h + 1) * d_head]

    w_k, w_v = matrix("kv_net").chunk(2)  # keys first
    context = [*memory, *xs]
    keys = [w_k @ y for y in context]
    values = [w_v @ y for y in context]
    out = []
    for i, x in enumerate(xs):
        place = len(memory) + i
        query, mixed = matrix("q_net") @ x, []
        for h in range(n_head):
            scores = []
            for j in range(place + 1):
                r = matrix("r_net") @ encode_distance(place - j, len(x), x.dtype)
                content = torch.dot(head(query, h) + state["r_w_bias"][h], head(keys[j], h))
                position = torch.dot(head(query, h) + state["r_r_bias"][h], head(r, h))
                scores.append((content + position) / math.sqrt(d_head))
            weights = torch.exp(torch.stack(scores) - max(scores).detach())
            weights = weights / weights.sum()
            mixed.append(sum(weights[j] * head(values[j], h) for j in range(place + 1)))
        attended = matrix("o_net") @ torch.cat(mixed)
        norm = state[prefix + "attention_norm.weight"], state[prefix + "attention_norm.bias"]
        out.append(layer_norm(x + attended, *norm))
    return out


def feedforward_block(state, prefix, x):
    inner = state[prefix + "inner.weight"] @ x + state[prefix + "inner.bias"]
    outer = state[prefix + "outer.weight"] @ inner.clamp(min=0) + state[prefix + "outer.bias"]
    return layer_norm(
        x + outer, state[prefix + "feedforward_norm.weight"], state[prefix + "feedforward_norm.bias"]
    )


def logits(state, window, n_layer, n_head, d_head, memory=None):
    """Logits (tgt_len, n_token) of one window.

    `state` maps the names of the model's parameters to tensors; `memory[layer]` is a list of vectors.
    """
    table = state["word_embedding.weight"]
    xs = [table[token] * math.sqrt(table.shape[1]) for token in window]
    for n in range(n_layer):
        prefix = f"layers.{n}."
        xs = attention_block(state, prefix, xs, memory[n] if memory else [], n_head, d_head)
        xs = [feedforward_block(state, prefix, x) for x in xs]
    return torch.stack([state["output.weight"] @ x + state["output.bias"] for x in xs])


def cross_entropy_sum(rows, targets):
    """Sum of -log softmax(row)[target]."""
    return sum(
        torch.log(torch.exp(row - row[target]).sum()) for row, target in zip(rows, targets, strict=True)
    )
