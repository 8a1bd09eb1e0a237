"""Transformer-XL, the language model of the published experiment.

Post-layer-norm, ReLU, relative positions, input and output embeddings of their own, full softmax with bias.
Published sizes: n_layer 6, n_head 8, d_model 512, d_head 64, d_inner 2048, tgt_len 128, mem_len 0 (the memories
are passed empty there), dropout 0.1, dropatt 0: 54,585,854 parameters for the 33,278 words of WikiText-2.

References
----------
.. [1] Z. Dai, Z. Yang, Y. Yang, J. Carbonell, Q. V. Le, R. Salakhutdinov, "Transformer-XL: attentive language
   models beyond a fixed-length context", ACL 2019.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from adam_minibatch_noise.errors import InputError
from train.language.cross_entropy import cross_entropy_sum

INIT_STD = 0.02


class TransformerXL(nn.Module):
    """The model of [1]_ with an ordinary softmax, names as there.

    Parameters
    ----------
    n_token : int
        Size of the vocabulary.
    n_layer, n_head, d_model, d_head, d_inner : int >= 1
        Layers, heads, width (even), width of a head, width inside the feed-forward block.
    dropout, dropatt : float, 0 <= p < 1
        Dropout of activations (embeddings, positions, block outputs, inner layer), of attention weights.
    mem_len : int >= 0
        Hidden states of earlier windows that each layer attends to; 0: none.

    Raises
    ------
    InputError
        Odd `d_model`: positions are pairs of sine and cosine.
    """

    def __init__(
        self,
        n_token: int,
        n_layer: int,
        n_head: int,
        d_model: int,
        d_head: int,
        d_inner: int,
        dropout: float = 0.0,
        dropatt: float = 0.0,
        mem_len: int = 0,
    ) -> None:
        super().__init__()
        if d_model % 2:
            raise InputError(f"d_model is {d_model}, allowed: an even number")
        self.mem_len = mem_len
        self.word_embedding = nn.Embedding(n_token, d_model)
        # u and v of the paper, shared by all layers as in its code
        self.r_w_bias = nn.Parameter(torch.empty(n_head, d_head))
        self.r_r_bias = nn.Parameter(torch.empty(n_head, d_head))
        self.layers = nn.ModuleList(
            Layer(n_head, d_model, d_head, d_inner, dropout, dropatt) for _ in range(n_layer)
        )
        self.drop = nn.Dropout(dropout)
        self.output = nn.Linear(d_model, n_token)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw N(0, 0.02²) for weights, N(1, 0.02²) for layer-norm weights, 0 for biases; u, v are weights."""
        for name, param in self.named_parameters():
            if name.endswith("norm.weight"):
                param.normal_(1.0, INIT_STD)
            elif name.endswith(".bias"):
                param.zero_()
            else:
                param.normal_(0.0, INIT_STD)

    def hidden(self, inputs: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Run the layers.

        Parameters
        ----------
        inputs : Tensor of int64, shape (batch, tgt_len)
        memory : Tensor, shape (n_layer, batch, m, d_model), optional
            What an earlier call returned, for the windows just before these.

        Returns
        -------
        hidden : Tensor, shape (batch, tgt_len, d_model)
        memory : Tensor or None
            The last `mem_len` inputs of each layer, without gradient; None if `mem_len` is 0.
        """
        x = self.drop(self.word_embedding(inputs) * math.sqrt(self.word_embedding.embedding_dim))
        n_memory = 0 if memory is None else memory.shape[2]
        n_query, n_key = inputs.shape[1], n_memory + inputs.shape[1]
        positions = self.drop(sinusoids(n_key, x.shape[2], x))
        # query i, at place n_memory + i, sees keys 0 ... n_memory + i
        hide = torch.ones(n_query, n_key, dtype=torch.bool, device=x.device).triu(n_memory + 1)
        remembered = []
        for i, layer in enumerate(self.layers):
            context = x if memory is None else torch.cat((memory[i], x), dim=1)
            remembered.append(context)
            x = layer(x, context, positions, hide, self.r_w_bias, self.r_r_bias)
        if self.mem_len:
            memory = torch.stack([context.detach()[:, -self.mem_len :] for context in remembered])
        return self.drop(x), memory

    def logits(self, inputs: Tensor, memory: Tensor | None = None) -> Tensor:
        """Logits of the next word, shape (batch, tgt_len, n_token); see `hidden` for the parameters."""
        return self.output(self.hidden(inputs, memory)[0])

    def forward(
        self, inputs: Tensor, targets: Tensor, memory: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Sum of the cross-entropies of all words, in nats, and the memory for the next windows.

        Parameters
        ----------
        inputs, targets : Tensor of int64, shape (batch, tgt_len)
        memory : Tensor, optional
            See `hidden`.
        """
        hidden, memory = self.hidden(inputs, memory)
        loss = cross_entropy_sum(
            hidden.flatten(0, 1), self.output.weight, self.output.bias, targets.flatten()
        )
        return loss, memory


class Layer(nn.Module):
    """Attention with relative positions, then a feed-forward block, each followed by add and layer-norm."""

    def __init__(
        self, n_head: int, d_model: int, d_head: int, d_inner: int, dropout: float, dropatt: float
    ) -> None:
        super().__init__()
        self.n_head, self.d_head = n_head, d_head
        self.q_net = nn.Linear(d_model, n_head * d_head, bias=False)
        self.kv_net = nn.Linear(d_model, 2 * n_head * d_head, bias=False)
        self.r_net = nn.Linear(d_model, n_head * d_head, bias=False)
        self.o_net = nn.Linear(n_head * d_head, d_model, bias=False)
        self.attention_norm = nn.LayerNorm(d_model)
        self.inner = nn.Linear(d_model, d_inner)
        self.outer = nn.Linear(d_inner, d_model)
        self.feedforward_norm = nn.LayerNorm(d_model)
        self.drop, self.dropatt = nn.Dropout(dropout), dropatt

    def forward(
        self, x: Tensor, context: Tensor, positions: Tensor, hide: Tensor, u: Tensor, v: Tensor
    ) -> Tensor:
        """Map (batch, n_query, d_model) to the same shape.

        Parameters
        ----------
        x : Tensor, shape (batch, n_query, d_model)
        context : Tensor, shape (batch, n_key, d_model)
            Memory, then x.
        positions : Tensor, shape (n_key, d_model)
            See `sinusoids`.
        hide : Tensor of bool, shape (n_query, n_key)
            True where a query must not look.
        u, v : Tensor, shape (n_head, d_head)
            r_w_bias, r_r_bias.
        """
        x = self.attention_norm(x + self.drop(self.attend(x, context, positions, hide, u, v)))
        return self.feedforward_norm(x + self.drop(self.outer(self.drop(self.inner(x).relu()))))

    def attend(
        self, x: Tensor, context: Tensor, positions: Tensor, hide: Tensor, u: Tensor, v: Tensor
    ) -> Tensor:
        """Attention of [1]_: scores ((q_i + u) k_j + (q_i + v) r_{i-j}) / sqrt(d_head)."""
        q = self.q_net(x).unflatten(2, (self.n_head, self.d_head))  # (batch, n_query, n_head, d_head)
        kv = self.kv_net(context).unflatten(2, (2, self.n_head, self.d_head))
        k, value = kv.permute(2, 0, 3, 1, 4).unbind()  # each (batch, n_head, n_key, d_head)
        r = self.r_net(positions).unflatten(1, (self.n_head, self.d_head)).permute(1, 2, 0)
        by_distance = relative_shift((q + v).transpose(1, 2) @ r)  # (batch, n_head, n_query, n_key)
        bias = (by_distance * self.d_head**-0.5).masked_fill(hide, -math.inf)
        # the kernel adds the bias to (q + u) k / sqrt(d_head), and on a GPU keeps no score in memory
        mixed = functional.scaled_dot_product_attention(
            (q + u).transpose(1, 2),
            k,
            value,
            attn_mask=bias,
            dropout_p=self.dropatt if self.training else 0.0,
        )
        return self.o_net(mixed.transpose(1, 2).flatten(2))


def sinusoids(n_key: int, d_model: int, like: Tensor) -> Tensor:
    """Encode the distances n_key - 1, ..., 1, 0.

    Returns
    -------
    Tensor, shape (n_key, d_model)
        Row k holds sin and cos of distance * 10000^(-2 i / d_model), i = 0 ... d_model / 2 - 1, for the distance
        n_key - 1 - k; type and device of `like`.
    """
    distance = torch.arange(n_key - 1, -1, -1, dtype=like.dtype, device=like.device)
    frequency = 10000 ** (-torch.arange(0, d_model, 2, dtype=like.dtype, device=like.device) / d_model)
    angle = distance[:, None] * frequency
    return torch.cat((angle.sin(), angle.cos()), dim=1)


def relative_shift(scores: Tensor) -> Tensor:
    """Turn scores by distance into scores by key.

    Parameters
    ----------
    scores : Tensor, shape (..., n_query, n_key)
        Column c belongs to the distance n_key - 1 - c.

    Returns
    -------
    Tensor, same shape
        Entry (i, j) is that of the distance between query i and key j, i + n_key - n_query - j, wherever that is
        not negative; the other entries, all keys in the future, hold values without meaning.
    """
    n_query, n_key = scores.shape[-2:]
    # Row i must move left by n_query - 1 - i. A column put before the rows makes row i + 1 of the matrix, read with
    # rows one shorter, start one place later.
    padded = functional.pad(scores, (1, 0)).flatten(-2)
    return padded[..., n_query:].unflatten(-1, (n_query, n_key))
