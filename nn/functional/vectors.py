"""Affine and bilinear maps, look-up tables, distances."""

from __future__ import annotations

import tensorgrad
from tensorgrad import Tensor
from tensorgrad import fused as _fused

from .arguments import all_within

__all__ = [
    "linear", "bilinear", "embedding", "one_hot", "normalize", "cosine_similarity",
    "pairwise_distance",
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


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1ᵀ W x2 + b: [..., in1], [..., in2] and weight [out, in1, in2] → [..., out]."""
    shapes = tuple(input1.shape), tuple(input2.shape)
    if shapes[0][:-1] != shapes[1][:-1] or (shapes[0][-1], shapes[1][-1]) != tuple(
        weight.shape[1:]
    ):
        raise RuntimeError(
            f"bilinear: inputs of shapes {shapes[0]} and {shapes[1]} do not fit each other or the "
            f"weight {tuple(weight.shape)}, which is [out, in1, in2]"
        )
    half = tensorgrad.einsum("...i,oij->...oj", input1, weight)
    y = (half * input2.unsqueeze(-2)).sum(-1)
    return y if bias is None else y + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of weight [rows, d] by integers [...] → [..., d].

    Args:
        padding_idx: the row that gets no gradient.
        max_norm: rows that are looked up and have a greater ``norm_type``-norm are first scaled
            down to it, in place.

    Raises:
        IndexError: an index is not in 0..rows-1.
    """
    if sparse or scale_grad_by_freq:
        raise NotImplementedError(
            "embedding: gradients are dense and not scaled by frequency; leave out sparse and "
            "scale_grad_by_freq"
        )
    if input.dtype.kind not in "iu":
        raise RuntimeError(f"embedding: indices must be integers, not {input.dtype}")
    rows = weight.shape[0]
    if not all_within(input, rows):
        low, high = int(input.min()), int(input.max())
        raise IndexError(
            f"embedding: index {low if low < 0 else high} is out of range, the table has "
            f"{rows} rows"
        )
    if max_norm is not None:
        _shorten(weight, input, max_norm, norm_type)
    y = tensorgrad.embedding(weight, input)
    if padding_idx is None:
        return y
    if not -rows <= padding_idx < rows:
        raise AssertionError(f"embedding: padding_idx {padding_idx} is none of {rows} rows")
    return tensorgrad.where((input == padding_idx % rows).unsqueeze(-1), y.detach(), y)


def _shorten(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows named by ``input`` down to the norm ``max_norm``, in place."""
    with tensorgrad.no_grad():
        index = input.reshape(-1)
        rows = weight[index]
        norms = tensorgrad.norm(rows, norm_type, dim=-1, keepdim=True)
        weight[index] = rows * tensorgrad.where(norms > max_norm, max_norm / (norms + 1e-7), 1.0)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Integers [...] → [..., num_classes]: 1 at the index, 0 elsewhere; by default the greatest
    index decides how many."""
    if tensor.dtype != "int64":
        raise RuntimeError(f"one_hot: indices must be int64, not {tensor.dtype}")
    if not tensor.numel() and num_classes <= 0:
        raise RuntimeError("one_hot: without elements num_classes must be given")
    low, high = (int(tensor.min()), int(tensor.max())) if tensor.numel() else (0, -1)
    classes = high + 1 if num_classes == -1 else num_classes
    if low < 0 or high >= classes:
        raise RuntimeError(
            f"one_hot: index {low if low < 0 else high} is out of range for {classes} classes"
        )
    return (tensor.unsqueeze(-1) == tensorgrad.arange(classes)).long()


# --- lengths and angles ---------------------------------------------------------------------------


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Each vector along ``dim`` divided by its p-norm, or by ``eps`` where that is greater."""
    length = tensorgrad.norm(input, p, dim=dim, keepdim=True)
    return input / tensorgrad.clamp_min(length, eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 / (|x1| |x2|) along ``dim``; a length less than ``eps`` counts as ``eps``.

    The shapes are broadcast first, and ``dim`` is one of the result's.
    """
    x1, x2 = tensorgrad.broadcast_tensors(x1, x2)
    lengths = []
    for x in (x1, x2):
        length = tensorgrad.norm(x, 2, dim=dim, keepdim=True)
        # As in PyTorch, the gradient is that of the length also where eps takes its place.
        lengths.append(length + (tensorgrad.clamp_min(length, eps) - length).detach())
    return (x1 / lengths[0] * (x2 / lengths[1])).sum(dim)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + ``eps`` over the last dim: [..., d] → [...]."""
    return tensorgrad.norm(x1 - x2 + eps, p, dim=-1, keepdim=keepdim)
