"""Where a token stands: three ways to tell a transformer, which cannot see it otherwise."""

from __future__ import annotations

import math
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import init
from .module import Module, Parameter


def _rates(dim: int, base: float) -> Tensor:
    """base^(-2i / dim) for i = 0 … dim/2 - 1, in float64."""
    if dim < 2 or dim % 2:
        raise ValueError(f"positions are coded in pairs of numbers: dim must be even, not {dim}")
    return tensorgrad.exp(
        tensorgrad.arange(0, dim, 2, dtype=tensorgrad.float64) * (-math.log(base) / dim)
    )


def sinusoidal_positions(length: int, dim: int, dtype: Any = None) -> Tensor:
    """PE[p, 2i] = sin(p / 10000^(2i/dim)), PE[p, 2i+1] = cos of the same: [length, dim].

    Source: Vaswani et al. 2017, section 3.5.

    >>> sinusoidal_positions(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    position = tensorgrad.arange(length, dtype=tensorgrad.float64).unsqueeze(1)  # [length, 1]
    angles = position * _rates(dim, 10000.0)  # [length, dim/2]
    pairs = tensorgrad.stack([angles.sin(), angles.cos()], dim=-1)  # [length, dim/2, 2]
    return pairs.reshape(length, dim).to(dtype or tensorgrad.float32)


class _Table(Module):
    """Adds a row for each position to [..., T, dim]."""

    _expects = "[..., T, {0.dim}] with T at most {0.max_len}"

    table: Any

    def __init__(self, max_len: int, dim: int) -> None:
        super().__init__()
        self.max_len, self.dim = max_len, dim

    def forward(self, x: Tensor) -> Tensor:
        """x [..., T, dim] → the same, with the position of each of the T rows added."""
        if x.ndim < 2 or x.shape[-1] != self.dim or x.shape[-2] > self.max_len:
            raise RuntimeError(
                f"{type(self).__name__}: the input must be [..., T, {self.dim}] with T at most "
                f"{self.max_len}; got shape {tuple(x.shape)}"
            )
        return x + self.table[: x.shape[-2]]

    def extra_repr(self) -> str:
        return f"{self.max_len}, {self.dim}"


class SinusoidalPositions(_Table):
    """Adds :func:`sinusoidal_positions`, which are not trained and not in the ``state_dict``.

    >>> import nn, tensorgrad
    >>> nn.SinusoidalPositions(100, 8)(tensorgrad.zeros(2, 5, 8)).shape
    (2, 5, 8)
    """

    def __init__(self, max_len: int, dim: int, dtype: Any = None) -> None:
        super().__init__(max_len, dim)
        self.register_buffer("table", sinusoidal_positions(max_len, dim, dtype), persistent=False)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return SinusoidalPositions(6, 4), (tensorgrad.randn(2, 5, 4),)


class LearnedPositions(_Table):
    """Adds a trained vector for each position, from N(0, 0.02²) as in GPT-2.

    >>> import nn, tensorgrad
    >>> nn.LearnedPositions(100, 8)(tensorgrad.zeros(2, 5, 8)).shape
    (2, 5, 8)
    """

    def __init__(self, max_len: int, dim: int, dtype: Any = None) -> None:
        super().__init__(max_len, dim)
        self.table = Parameter(tensorgrad.empty(max_len, dim, dtype=dtype))
        init.normal_(self.table, std=0.02)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LearnedPositions(6, 4), (tensorgrad.randn(2, 5, 4),)


class RotaryPositions(Module):
    """Turns pairs of numbers of queries and keys by angles that grow with the position.

    The pair (x[2i], x[2i+1]) at position p is turned by p · base^(-2i/dim); the product of a query
    and a key then depends on the distance between them only (Su et al. 2021, section 3.2).

    >>> import nn, tensorgrad
    >>> q = tensorgrad.randn(2, 4, 10, 8)  # [batch, heads, T, dim]
    >>> nn.RotaryPositions(16, 8)(q).shape
    (2, 4, 10, 8)
    """

    _expects = "[..., T, {0.dim}] with positions below {0.max_len}"

    def __init__(self, max_len: int, dim: int, base: float = 10000.0, dtype: Any = None) -> None:
        super().__init__()
        self.max_len, self.dim, self.base = max_len, dim, base
        position = tensorgrad.arange(max_len, dtype=tensorgrad.float64).unsqueeze(1)
        angles = position * _rates(dim, base)  # [max_len, dim/2]
        dtype = dtype or tensorgrad.float32
        self.register_buffer("cos", angles.cos().to(dtype), persistent=False)
        self.register_buffer("sin", angles.sin().to(dtype), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x [..., T, dim], at positions ``start``, ``start + 1``, … → the same shape."""
        end = start + (x.shape[-2] if x.ndim > 1 else 0)
        if x.ndim < 2 or x.shape[-1] != self.dim or start < 0 or end > self.max_len:
            raise RuntimeError(
                f"RotaryPositions: the input must be [..., T, {self.dim}] with positions below "
                f"{self.max_len}; got shape {tuple(x.shape)} from position {start}"
            )
        cos, sin = self.cos[start:end], self.sin[start:end]  # [T, dim/2]
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = tensorgrad.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
        return turned.reshape(*x.shape)

    def extra_repr(self) -> str:
        return f"{self.max_len}, {self.dim}, base={self.base}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return RotaryPositions(6, 4), (tensorgrad.randn(2, 5, 4),)
