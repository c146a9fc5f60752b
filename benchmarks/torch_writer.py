"""The rival in writing: the GPT of ``torch_gpt`` with the past kept the usual way.

Each attention appends its keys and values to those of the past with ``torch.cat``, as nanoGPT's
descendants and Hugging Face's ``DynamicCache`` do. ``buffers=True`` writes into preallocated ones
instead.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from gpt.config import GPTConfig

from . import torch_gpt


class Writer:
    """Writes with a PyTorch GPT."""

    def __init__(self, config: GPTConfig, buffers: bool = False) -> None:
        self.config, self.buffers = config, buffers
        self.model = torch_gpt.GPT(config).eval()
        self.past: list = []

    def _block(self, block: torch_gpt.Block, i: int, x: torch.Tensor, n: int) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = block.qkv(block.norm1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, block.heads, C // block.heads).transpose(1, 2) for t in (q, k, v))
        if self.buffers:
            keys, values = self.past[i]
            keys[:, :, n : n + T], values[:, :, n : n + T] = k, v
            k, v = keys[:, :, : n + T], values[:, :, : n + T]
        else:
            if n:
                k, v = torch.cat((self.past[i][0], k), 2), torch.cat((self.past[i][1], v), 2)
            self.past[i] = k, v
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        x = x + block.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + block.down(block.activation(block.up(block.norm2(x))))

    @torch.inference_mode()
    def write(self, count: int) -> None:
        """``count`` tokens after a single one, drawn at temperature 0.8."""
        c, model = self.config, self.model
        shape = (1, c.heads, c.context, c.head_size)
        self.past = [(torch.empty(shape), torch.empty(shape)) for _ in range(c.layers)]
        token = torch.zeros(1, 1, dtype=torch.int64)
        for n in range(count):
            x = model.tokens(token) + model.positions.weight[n : n + 1]
            for i, block in enumerate(model.blocks):
                x = self._block(block, i, x, n)
            logits = model.output(model.norm(x[:, -1]))  # [1, V]
            token = torch.multinomial(F.softmax(logits / 0.8, -1), 1)
            token.item()  # as a program that shows the text does
