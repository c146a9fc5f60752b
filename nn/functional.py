"""Layers as functions, with PyTorch's names and arguments."""

from __future__ import annotations

import math

import tensorgrad
from tensorgrad import Generator, Tensor, log_softmax, relu, softmax, tanh
from tensorgrad import fused as _fused

__all__ = [
    "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "log_softmax", "relu",
    "scaled_dot_product_attention", "softmax", "tanh",
]  # fmt: skip


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input [..., in] times weight [out, in] transposed, plus bias [out] → [..., out]."""
    if input.shape[-1:] != weight.shape[-1:]:
        raise RuntimeError(
            f"linear: the input's last dim is {input.shape[-1] if input.ndim else 'missing'} "
            f"(shape {tuple(input.shape)}), but the weight {tuple(weight.shape)} takes "
            f"{weight.shape[-1]}"
        )
    return _fused.linear(input, weight, bias)


def embedding(input: Tensor, weight: Tensor) -> Tensor:
    """Rows of weight [rows, d] by integers [...] → [..., d].

    Raises:
        IndexError: an index is not in 0..rows-1.
    """
    if input.dtype.kind not in "iu":
        raise TypeError(f"embedding: indices must be integers, not {input.dtype}")
    if input.numel():
        low, high = int(input.min()), int(input.max())
        if low < 0 or high >= weight.shape[0]:
            raise IndexError(
                f"embedding: index {low if low < 0 else high} is out of range, the table has "
                f"{weight.shape[0]} rows"
            )
    return tensorgrad.embedding(weight, input)


def layer_norm(
    input: Tensor,
    normalized_shape: tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last dims, ``normalized_shape``, then scale and shift."""
    shape = tuple(normalized_shape)
    if tuple(input.shape[-len(shape) :]) != shape:
        raise RuntimeError(
            f"layer_norm: the input of shape {tuple(input.shape)} does not end in {shape}"
        )
    return _fused.layer_norm(input, weight, bias, eps=eps, dims=len(shape))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x, or with ``"tanh"`` GPT-2's formula for it."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return _fused.gelu(input, approximate=approximate)


def _dropout_mask(
    shape: tuple[int, ...], p: float, dtype: object, generator: Generator | None
) -> Tensor:
    """0 with probability ``p``, else 1 / (1 - p)."""
    keep = tensorgrad.rand(shape, generator=generator, dtype=dtype) >= p
    return keep.to(dtype) * (1 / (1 - p) if p < 1 else 0.0)


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """In training set elements to 0 with probability ``p`` and scale the rest by 1 / (1 - p)."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must be a probability, not {p}")
    if not training or p == 0:
        return input
    return input * _dropout_mask(tuple(input.shape), p, input.dtype, generator)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """softmax(query keyᵀ · scale + mask) value (Vaswani et al. 2017, eq. 1).

    Args:
        query: [..., n, d]; ``key`` [..., m, d]; ``value`` [..., m, e]. The result is [..., n, e].
        attn_mask: [..., n, m], boolean (True: may look) or floats added to the scores.
        dropout_p: the probability with which a weight is dropped, always (pass 0 in evaluation).
        is_causal: query i looks at the keys 0..i only.
        scale: by default 1 / sqrt(d).
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: give attn_mask or is_causal, not both")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    keep = None
    if dropout_p > 0:
        shape = (*query.shape[:-1], key.shape[-2])
        keep = _dropout_mask(shape, dropout_p, query.dtype, generator)
    return _fused.scaled_dot_product_attention(
        query, key, value, attn_mask, keep, scale=scale, causal=is_causal
    )


def cross_entropy(
    input: Tensor,
    target: Tensor,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target]: input [n, classes] (or [classes]), integer target [n] (or []).

    ``reduction`` is ``"mean"`` (over the targets that are not ``ignore_index``), ``"sum"`` or
    ``"none"``, which gives a loss for each row.

    Raises:
        IndexError: a target is not in 0..classes-1.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"cross_entropy: {reduction!r} is no reduction: mean, sum or none")
    if input.ndim not in (1, 2) or tuple(target.shape) != tuple(input.shape[:-1]):
        raise ValueError(
            f"cross_entropy: input [n, classes] and target [n] do not fit: {tuple(input.shape)} "
            f"and {tuple(target.shape)}; reshape sequences to two dims first"
        )
    if target.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: targets must be integers, not {target.dtype}")
    classes = input.shape[-1]
    kept = target != ignore_index
    wrong = kept & ((target < 0) | (target >= classes))
    if wrong.any():
        raise IndexError(
            f"cross_entropy: target {int(target[wrong][0])} is out of range for {classes} classes"
        )
    losses = _fused.cross_entropy(
        input.reshape(-1, classes), target.reshape(-1),
        ignore_index=ignore_index, label_smoothing=label_smoothing,
    )  # fmt: skip
    if reduction == "none":
        return losses.reshape(target.shape)
    total = losses.sum()
    return total if reduction == "sum" else total / int(kept.sum())
