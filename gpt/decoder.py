"""The GPT read forwards only: its formulas in plain NumPy, with a cache of the past.

A step of one token is so little arithmetic that the bookkeeping of tensors would be most of its
time. ``model.GPT`` is the definition, and this file is checked against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

import nn
import tensorgrad
from tensorgrad import Tensor

from .cache import HIDDEN, KVCache
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


def _column(vector: Tensor | None) -> Any:
    return None if vector is None else _array(vector)[:, None]


class Linear(NamedTuple):
    """y = W x + b: [in, n] → [out, n]."""

    weight: np.ndarray
    bias: np.ndarray | None  # [out, 1]

    @classmethod
    def of(cls, layer: nn.Module) -> Linear:
        return cls(_array(layer.weight), _column(layer.bias))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = self.weight @ x
        if self.bias is not None:
            y += self.bias
        return y

    def outputs(self, start: int, stop: int | None = None) -> Linear:
        """The layer that computes some of the outputs only."""
        bias = None if self.bias is None else self.bias[start:stop]
        return Linear(self.weight[start:stop], bias)


class LayerNorm(NamedTuple):
    """y = (x - mean) / sqrt(variance + eps) * w + b, column by column: [C, n] → [C, n]."""

    weight: np.ndarray  # [C, 1]
    bias: np.ndarray | None
    eps: float
    mean: np.ndarray  # [C], each 1/C: the product with a column is its mean

    @classmethod
    def of(cls, layer: nn.Module) -> LayerNorm:
        weight = _array(layer.weight)
        mean = np.full_like(weight, 1 / len(weight))
        return cls(_column(layer.weight), _column(layer.bias), layer.eps, mean)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = x - self.mean @ x
        if x.shape[1] == 1:  # a text's next token: numbers are quicker than arrays of one element
            y *= 1 / math.sqrt(float(np.vdot(y, y)) / y.size + self.eps)
        else:
            y /= np.sqrt(self.mean @ (y * y) + self.eps)
        y *= self.weight
        if self.bias is not None:
            y += self.bias
        return y


class DecoderBlock:
    """One block of the model: [C, B·T] → [C, B·T], B texts of which T tokens are read.

    With ``last`` → [C, B], of the last token of each text: all that is wanted of the last block.
    """

    def __init__(self, block: nn.Module, index: int) -> None:
        self.index, self.heads = index, block.attention.heads
        self.norm1, self.norm2 = LayerNorm.of(block.norm1), LayerNorm.of(block.norm2)
        qkv, self.proj = Linear.of(block.attention.qkv), Linear.of(block.attention.proj)
        width = len(qkv.weight) // 3
        self.q, self.kv = qkv.outputs(0, width), qkv.outputs(width)
        up, self.activation, down, _ = block.feed_forward
        self.up, self.down = Linear.of(up), Linear.of(down)

    def __call__(
        self, x: np.ndarray, B: int, cache: KVCache | None, hidden: np.ndarray | None, last: bool
    ) -> np.ndarray:
        T = x.shape[1] // B
        wanted = slice(T - 1, None, T) if last else slice(None)
        y = self.norm1(x)
        x = x[:, wanted] + self.attend(self.q(y[:, wanted]), self.kv(y), B, cache, hidden)
        wide = tensorgrad.from_numpy(self.up(self.norm2(x)))
        x += self.down(self.activation(wide).numpy())
        return x

    def attend(
        self, q: np.ndarray, kv: np.ndarray, B: int, cache: KVCache | None,
        hidden: np.ndarray | None,
    ) -> np.ndarray:  # fmt: skip
        """Queries [C, B·n] and keys and values [2 C, B·T] → [C, B·n].

        Scores have a row for each key and a column for each query.
        """
        C, H = len(q), self.heads
        q = q.reshape(H, C // H, B, -1).transpose(2, 0, 1, 3)  # [B, H, D, n]
        new = kv.reshape(2, H, C // H, B, -1).transpose(0, 3, 1, 4, 2)  # [2, B, H, T, D]
        k, v = new if cache is None else cache.write(self.index, new)  # [B, H, past + T, D]
        p = k @ (q * (C // H) ** -0.5)  # scores [B, H, past + T, n]
        if hidden is not None:
            p += hidden[..., -q.shape[-1] :]
        p -= np.maximum.reduce(p, -2, keepdims=True)
        np.exp(p, out=p)
        y = v.swapaxes(-1, -2) @ p  # [B, H, D, n]
        y /= np.add.reduce(p, -2, keepdims=True)
        return self.proj(y.transpose(1, 2, 0, 3).reshape(C, -1))


class Decoder:
    """A model that reads several texts bit by bit: what it has read it does not compute again.

    It shares the model's weights, and never drops anything out. Within it a token is a column:
    the product of a matrix as it lies in memory with columns is quicker than that of rows with the
    transposed one, and sums over the columns' elements are sums of whole rows.

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
        T = len(tokens[0])
        hidden, positions = self.cache.hidden(T), self.cache.positions(T)
        logits = self._read(tokens, positions, self.cache, hidden)
        self.cache.length += T
        return logits

    def read_whole(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """The logits [B, V] of what follows texts [B, T] of one length; nothing of them is kept."""
        T = len(texts[0])
        return self._read(texts, np.arange(T), None, causal(T, self.embedding.dtype))

    def _read(
        self, tokens: Sequence[Sequence[int]], positions: np.ndarray, cache: KVCache | None,
        hidden: np.ndarray | None,
    ) -> np.ndarray:  # fmt: skip
        B, C = len(tokens), self.embedding.shape[1]
        x = self.embedding[np.array(tokens)] + self.positions[positions]  # [B, T, C]
        x = np.ascontiguousarray(x.reshape(-1, C).T)
        for block in self.blocks:
            x = block(x, B, cache, hidden, last=block is self.blocks[-1])
        return self.output(self.norm(x)).T


@lru_cache(8)
def causal(length: int, dtype: Any) -> np.ndarray:
    """What to add to the scores of a whole text: queries look at no later key. [keys, queries]."""
    hidden = np.tril(np.full((length, length), HIDDEN, dtype), -1)
    hidden.flags.writeable = False
    return hidden
