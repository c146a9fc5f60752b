"""The GPT of ``gpt/model.py`` once more, in PyTorch: same configuration, same parameter names.

It is written from the papers and in plain steps (attention as a softmax over masked scores, the
position table as a formula per entry), so that the two agree because both are right, and not
because one was copied from the other. It needs PyTorch; nothing but tests uses it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt.config import GPTConfig

torch.set_num_threads(1)  # for models this small, more only wait for each other


def sinusoidal_positions(context: int, width: int) -> Tensor:
    """sin(p / 10000^(2i/width)) and cos of the same, in turns: [context, width] in float32."""
    rows = [
        [
            (math.cos if c % 2 else math.sin)(p / 10000 ** ((c - c % 2) / width))
            for c in range(width)
        ]
        for p in range(context)
    ]
    return torch.tensor(rows, dtype=torch.float32)


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.head_size = config.heads, config.head_size
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.proj = nn.Linear(config.width, config.width, bias=config.bias)
        self.weights_dropout = nn.Dropout(config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, self.head_size).transpose(1, 2)  # [B, H, T, D]
            for part in self.qkv(x).split(width, dim=-1)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_size)  # [B, H, T, T]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = self.weights_dropout(scores.masked_fill(future, -math.inf).softmax(-1))
        y = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        return self.dropout(self.proj(y))


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        activations = {"relu": nn.ReLU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU("tanh")}
        self.norm1 = nn.LayerNorm(config.width, bias=config.bias)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, bias=config.bias)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, 4 * config.width, bias=config.bias),
            activations[config.activation],
            nn.Linear(4 * config.width, config.width, bias=config.bias),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class GPT(nn.Module):
    """``GPT(config)(tokens)`` are the logits, ``GPT(config)(tokens, targets)`` is the mean loss."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context, config.width)
        else:
            table = sinusoidal_positions(config.context, config.width)
            self.register_buffer("positions", table, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width, bias=config.bias)
        has_bias = config.bias and not config.tied
        self.output = nn.Linear(config.width, config.vocab_size, bias=has_bias)
        if config.tied:
            self.output.weight = self.token_embedding.weight

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        learned = hasattr(self, "position_embedding")
        positions = self.position_embedding.weight if learned else self.positions
        x = self.dropout(self.token_embedding(tokens) + positions[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x)
        logits = self.output(self.norm(x))  # [B, T, V]
        return logits if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.ravel())
