"""The rival: the same GPT in PyTorch, eager, with its fused attention and fused AdamW."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from gpt.config import GPTConfig


class Block(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.heads = c.heads
        self.norm1 = nn.LayerNorm(c.width, bias=c.bias)
        self.qkv = nn.Linear(c.width, 3 * c.width, bias=c.bias)
        self.proj = nn.Linear(c.width, c.width, bias=c.bias)
        self.norm2 = nn.LayerNorm(c.width, bias=c.bias)
        self.up = nn.Linear(c.width, 4 * c.width, bias=c.bias)
        self.down = nn.Linear(4 * c.width, c.width, bias=c.bias)
        self.activation = F.relu if c.activation == "relu" else F.gelu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(self.norm1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(self.activation(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, c: GPTConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(c.vocab_size, c.width)
        self.positions = nn.Embedding(c.context, c.width)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, bias=c.bias)
        self.output = nn.Linear(c.width, c.vocab_size, bias=c.bias and not c.tied)
        if c.tied:
            self.output.weight = self.tokens.weight

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        logits = self.output(self.norm(h))
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())
