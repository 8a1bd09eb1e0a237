"""The Transformer-XL of `train.language.transformer_xl` written plainly: eager, all logits at once, no fused kernels.

Parameter names are the same, so that one state serves both; `bench.training` compares loss and gradients first.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class PlainLayer(nn.Module):
    """Attention by explicit scores, as in equation (5) of Dai et al. (2019), then the feed-forward block."""

    def __init__(self, n_head: int, d_model: int, d_head: int, d_inner: int, dropout: float) -> None:
        super().__init__()
        self.n_head, self.d_head = n_head, d_head
        self.q_net = nn.Linear(d_model, n_head * d_head, bias=False)
        self.kv_net = nn.Linear(d_model, 2 * n_head * d_head, bias=False)
        self.r_net = nn.Linear(d_model, n_head * d_head, bias=False)
        self.o_net = nn.Linear(n_head * d_head, d_model, bias=False)
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.inner, self.outer = nn.Linear(d_model, d_inner), nn.Linear(d_inner, d_model)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Map (batch, length, d_model) to the same shape."""
        batch, length, _ = x.shape
        q = self.q_net(x).view(batch, length, self.n_head, self.d_head)
        k, value = self.kv_net(x).view(batch, length, 2, self.n_head, self.d_head).unbind(2)
        r = self.r_net(positions).view(length, self.n_head, self.d_head)
        content = torch.einsum("bihd,bjhd->bhij", q + u, k)
        by_distance = torch.einsum("bihd,jhd->bhij", q + v, r)
        # row i moves left by length - 1 - i
        padded = functional.pad(by_distance, (1, 0)).view(batch, self.n_head, length + 1, length)
        position = padded[:, :, 1:].view(batch, self.n_head, length, length)
        scores = (content + position) / math.sqrt(self.d_head)
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(future, -math.inf).softmax(dim=3)
        mixed = torch.einsum("bhij,bjhd->bihd", weights, value).reshape(batch, length, -1)
        x = self.attention_norm(x + self.drop(self.o_net(mixed)))
        return self.feedforward_norm(x + self.drop(self.outer(self.drop(self.inner(x).relu()))))


class PlainTransformerXL(nn.Module):
    """Sum of cross-entropies of a batch of windows, without memory."""

    def __init__(
        self, n_token: int, n_layer: int, n_head: int, d_model: int, d_head: int, d_inner: int, dropout: float
    ) -> None:
        super().__init__()
        self.word_embedding = nn.Embedding(n_token, d_model)
        self.r_w_bias = nn.Parameter(torch.zeros(n_head, d_head))
        self.r_r_bias = nn.Parameter(torch.zeros(n_head, d_head))
        self.layers = nn.ModuleList(
            PlainLayer(n_head, d_model, d_head, d_inner, dropout) for _ in range(n_layer)
        )
        self.drop = nn.Dropout(dropout)
        self.output = nn.Linear(d_model, n_token)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum in nats; inputs and targets of shape (batch, length)."""
        length, d_model = inputs.shape[1], self.word_embedding.embedding_dim
        x = self.drop(self.word_embedding(inputs) * math.sqrt(d_model))
        distance = torch.arange(length - 1, -1, -1.0, device=inputs.device)
        frequency = 10000 ** (-torch.arange(0, d_model, 2.0, device=inputs.device) / d_model)
        angle = distance[:, None] * frequency
        positions = self.drop(torch.cat((angle.sin(), angle.cos()), dim=1))
        for layer in self.layers:
            x = layer(x, positions, self.r_w_bias, self.r_r_bias)
        logits = self.output(self.drop(x))
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")
