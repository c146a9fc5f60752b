"""Dropout: of elements, and of whole channels."""

from __future__ import annotations

import tensorgrad
from tensorgrad import Generator, Tensor
from tensorgrad import fused as _fused

__all__ = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"]


def kept(shape: tuple[int, ...], p: float, dtype: object, generator: Generator | None) -> Tensor:
    """False with probability ``p``; drawn as numbers of ``dtype``."""
    return tensorgrad.rand(shape, generator=generator, dtype=dtype) >= p


def dropout_seeds(shape: tuple[int, ...], generator: Generator | None) -> Tensor:
    """Integers of 32 bits, each of which decides what attention drops in one head."""
    drawn = tensorgrad.rand(shape, generator=generator, dtype=tensorgrad.float64)
    return (drawn * 2**32).to(tensorgrad.int64)


def dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """In training set elements to 0 with probability ``p`` and scale the rest by 1 / (1 - p)."""
    return _dropout(input, tuple(input.shape), p, training, inplace, generator)


def _dropout(
    input: Tensor,
    shape: tuple[int, ...],
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
) -> Tensor:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be a probability, not {p}")
    if not training or p == 0:
        return input
    keep = kept(shape, p, input.dtype, generator)
    if inplace:
        return input.mul_(keep.to(input.dtype) * (1 / (1 - p) if p < 1 else 0.0))
    return _fused.dropout(input, keep, p=p)


def _dropout_channels(
    input: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
    spatial: int,
    batched: bool,
) -> Tensor:
    if input.ndim not in (spatial + 1, spatial + 2):
        raise RuntimeError(
            f"dropout{spatial}d: the input must be [n, c, ...] with {spatial} dims after the "
            f"channels, not {tuple(input.shape)}"
        )
    lead = 2 if batched else 1
    shape = (*input.shape[:lead], *[1] * (input.ndim - lead))
    return _dropout(input, shape, p, training, inplace, generator)


def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """:func:`dropout` of whole channels of [n, c, length] or [c, length] (Tompson et al. 2015)."""
    return _dropout_channels(input, p, training, inplace, generator, 1, input.ndim == 3)


def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """:func:`dropout` of whole channels of [n, c, height, width].

    Three dims are [n, c, length], as in PyTorch.
    """
    return _dropout_channels(input, p, training, inplace, generator, 2, True)


def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """:func:`dropout` of whole channels of [n, c, depth, height, width] or without n."""
    return _dropout_channels(input, p, training, inplace, generator, 3, input.ndim == 5)


def alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Dropout that keeps mean 0 and variance 1, for :func:`selu` (Klambauer et al. 2017).

    What is dropped becomes the value that selu has far below 0; then all is scaled and shifted.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"alpha_dropout: p must be a probability, not {p}")
    if not training or p == 0:
        return input
    if p == 1:
        return input.mul_(0) if inplace else input * 0
    low = -1.7580993408473766  # -alpha · scale of selu
    keep = kept(tuple(input.shape), p, input.dtype, generator)
    scale = ((1 - p) * (1 + p * low**2)) ** -0.5
    shift = tensorgrad.where(keep, 0.0, low * scale).to(input.dtype) - low * scale * p
    factor = keep.to(input.dtype) * scale
    return input.mul_(factor).add_(shift) if inplace else input * factor + shift
