"""The GPT read forwards only: its formulas in plain NumPy, with a cache of the past.

A step of one token is so little arithmetic that the bookkeeping of tensors would be most of its
time. ``model.GPT`` is the definition, and this file is checked against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import nn
import tensorgrad
from tensorgrad import Tensor

from .cache import KVCache
from .model import GPT, Block, CausalSelfAttention

# The layers whose formulas stand here. A model with any other, say a wrapped nn.Linear, is not
# what they describe.
KNOWN = {GPT, Block, CausalSelfAttention, nn.Linear, nn.LayerNorm, nn.Embedding, nn.Dropout,
         nn.GELU, nn.ReLU, nn.Sequential, nn.ModuleList}  # fmt: skip


def can_decode(model: nn.Module) -> bool:
    """Whether ``model`` is a GPT as it was built: known layers, no hooks, no other ``forward``."""
    return all(
        type(m) in KNOWN and "forward" not in vars(m) and not m._hooks for m in model.modules()
    )


def _array(tensor: Tensor | None) -> Any:
    """The memory of a parameter, not a copy; None for one that is not there."""
    return None if tensor is None else tensor.detach().numpy()


class Linear(NamedTuple):
    """y = x Wᵀ + b: [n, in] → [n, out]."""

    weight: np.ndarray  # transposed: [in, out]
    bias: np.ndarray | None

    @classmethod
    def of(cls, layer: nn.Module) -> Linear:
        return cls(_array(layer.weight).T, _array(layer.bias))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x @ self.weight
        if self.bias is not None:
            y += self.bias
        return y


class LayerNorm(NamedTuple):
    """y = (x - mean) / sqrt(variance + eps) * w + b, row by row: [n, C] → [n, C]."""

    weight: np.ndarray
    bias: np.ndarray | None
    eps: float
    mean: np.ndarray  # [C], each 1/C: the product with a row is its mean

    @classmethod
    def of(cls, layer: nn.Module) -> LayerNorm:
        weight = _array(layer.weight)
        return cls(weight, _array(layer.bias), layer.eps, np.full_like(weight, 1 / len(weight)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if len(x) == 1:  # a text's next token: numbers are quicker than arrays of one element
            y = x - x @ self.mean
            y *= 1 / math.sqrt(float(np.vdot(y, y)) / y.size + self.eps)
        else:
            y = x - (x @ self.mean)[:, None]
            y /= np.sqrt((y * y) @ self.mean + self.eps)[:, None]
        y *= self.weight
        if self.bias is not None:
            y += self.bias
        return y


class DecoderBlock:
    """One block of the model: [B·T, C] → [B·T, C], with the past of its attention in the cache.

    With ``last`` → [B, C], of the last token of each text: all that is wanted of the last block.
    """

    def __init__(self, block: nn.Module, index: int) -> None:
        self.index, self.heads = index, block.attention.heads
        self.norm1, self.norm2 = LayerNorm.of(block.norm1), LayerNorm.of(block.norm2)
        self.qkv, self.proj = Linear.of(block.attention.qkv), Linear.of(block.attention.proj)
        up, self.activation, down, _ = block.feed_forward
        self.up, self.down = Linear.of(up), Linear.of(down)

    def __call__(
        self, x: np.ndarray, cache: KVCache, hidden: np.ndarray | None, last: bool = False
    ) -> np.ndarray:
        T = len(x) // len(cache.padding)
        first = T - 1 if last else 0  # of the tokens of which something is wanted
        y = self.attend(self.norm1(x), cache, hidden, first)
        x = y + (x[first::T] if last else x)
        wide = tensorgrad.from_numpy(self.up(self.norm2(x)))
        x += self.down(self.activation(wide).numpy())
        return x

    def attend(
        self, x: np.ndarray, cache: KVCache, hidden: np.ndarray | None, first: int
    ) -> np.ndarray:
        (n, C), B = x.shape, len(cache.padding)
        D = C // self.heads
        qkv = self.qkv(x).reshape(B, n // B, 3, self.heads, D).transpose(2, 0, 3, 1, 4)
        k, v = cache.write(self.index, qkv[1:])  # [B, H, past + T, D]
        q = qkv[0, :, :, first:]
        p = (q * D**-0.5) @ k.swapaxes(-1, -2)  # scores [B, H, T - first, past + T]
        if hidden is not None:
            p += hidden[:, :, first:]
        p -= np.maximum.reduce(p, -1, keepdims=True)
        np.exp(p, out=p)
        p /= np.add.reduce(p, -1, keepdims=True)
        return self.proj((p @ v).transpose(0, 2, 1, 3).reshape(-1, C))


class Decoder:
    """A model that reads several texts bit by bit: what it has read it does not compute again.

    It shares the model's weights, and never drops anything out.

    Args:
        model: one that :func:`can_decode`.
        capacity: the longest text, in tokens; at most the context.
        padding: for each text how many of the first tokens given to :meth:`read` are not its own.

    >>> from gpt.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=11, context=8, width=16, layers=2, heads=2))
    >>> decoder = Decoder(model, capacity=8)
    >>> decoder.read([[1, 2]]).shape, decoder.read([[3]]).shape
    ((1, 11), (1, 11))
    """

    def __init__(self, model: GPT, capacity: int, padding: Sequence[int] = (0,)) -> None:
        c = model.config
        self.embedding = _array(model.token_embedding.weight)
        if c.positions == "learned":
            self.positions = _array(model.position_embedding.weight)
        else:
            self.positions = _array(model.positions)
        self.blocks = [DecoderBlock(block, i) for i, block in enumerate(model.blocks)]
        self.norm, self.output = LayerNorm.of(model.norm), Linear.of(model.output)
        self.cache = KVCache(c.layers, len(padding), c.heads, min(capacity, c.context),
                             c.head_size, padding, self.embedding.dtype)  # fmt: skip

    def read(self, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        """The logits [B, V] of what follows the next tokens [B, T] of each text."""
        T, C = len(tokens[0]), self.embedding.shape[1]
        hidden = self.cache.hidden(T)
        x = self.embedding[np.array(tokens)] + self.positions[self.cache.positions(T)]  # [B, T, C]
        x = x.reshape(-1, C)
        for block in self.blocks:
            x = block(x, self.cache, hidden, last=block is self.blocks[-1])
        self.cache.length += T
        return self.output(self.norm(x))
