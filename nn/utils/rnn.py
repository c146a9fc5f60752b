"""Sequences of different lengths as one tensor.

Packed sequences (``pack_sequence`` and its kin) are not there: they spare a GPU the padding, while
here a mask of the lengths does the same.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorgrad
from tensorgrad import Tensor


def pad_sequence(
    sequences: Iterable[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences [length, ...] as one tensor [longest, n, ...], or [n, longest, ...].

    >>> import tensorgrad
    >>> pad_sequence([tensorgrad.tensor([1, 2]), tensorgrad.tensor([3])], batch_first=True)
    tensor([[1, 2],
            [3, 0]])
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: expected tensors, got {type(sequences).__name__}")
    given = list(sequences)
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"pad_sequence: padding_side is 'left' or 'right', not {padding_side!r}")
    if not given:
        raise RuntimeError("pad_sequence: there are no sequences")
    shapes = [tuple(s.shape) for s in given]
    if () in shapes or len({shape[1:] for shape in shapes}) > 1:
        raise RuntimeError(
            f"pad_sequence: shapes {' and '.join(map(str, shapes))} must be equal but for the size "
            "of dim 0"
        )
    dtype, longest = given[0].dtype, max(shape[0] for shape in shapes)
    rows = []
    for s in given:
        size = (longest - len(s), *s.shape[1:])
        padding = tensorgrad.full(size, padding_value).to(dtype)
        rows.append(tensorgrad.cat([s.to(dtype), padding][:: 1 if padding_side == "right" else -1]))
    return tensorgrad.stack(rows, dim=0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False
) -> list[Tensor]:
    """The sequences that :func:`pad_sequence` padded on the right, given their lengths [n]."""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[: int(length)].clone() for row, length in zip(rows, lengths, strict=True)]
