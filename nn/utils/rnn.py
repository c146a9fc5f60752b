"""Sequences of different lengths as one tensor: padded to one length, or packed step by step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

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


# --- packed ---------------------------------------------------------------------------------------


class PackedSequence(NamedTuple):
    """Sequences as the recurrent layers read them: all first steps, all second ones, and so on.

    ``data`` is [steps, ...], ``batch_sizes`` says how many of them each point in time has. The
    longest sequence comes first: ``sorted_indices`` puts the sequences into this order,
    ``unsorted_indices`` back; both are None where they came in it.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """With the data cast; the arguments are those of Tensor.to."""
        return self._replace(data=self.data.to(*args, **kwargs))


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Padded sequences [longest, n, ...] (or [n, longest, ...]) without their padding.

    With ``enforce_sorted`` the ``lengths`` [n] must not increase.

    >>> import tensorgrad
    >>> padded = tensorgrad.tensor([[1, 2], [3, 0]])
    >>> pack_padded_sequence(padded, [2, 1], batch_first=True).data
    tensor([1, 3, 2])
    """
    given = [int(length) for length in lengths]
    x = input.transpose(0, 1) if batch_first else input
    longest, n = x.shape[:2]
    if len(given) != n:
        raise RuntimeError(
            f"pack_padded_sequence: {len(given)} lengths for {n} sequences in a tensor of shape "
            f"{tuple(input.shape)}"
        )
    if min(given, default=0) < 1 or max(given) > longest:
        raise RuntimeError(
            f"pack_padded_sequence: lengths must be from 1 to {longest}, not {given}"
        )
    order = sorted(range(n), key=lambda i: -given[i])
    if enforce_sorted and order != list(range(n)):
        raise RuntimeError(
            f"pack_padded_sequence: the lengths {given} increase; sort them, or give "
            "enforce_sorted=False"
        )
    indices = back = None
    if not enforce_sorted:
        indices = tensorgrad.tensor(order)
        back = indices.argsort()
        x = x[:, indices]
    sizes = [sum(length > t for length in given) for t in range(max(given))]
    data = tensorgrad.cat([x[t, :size] for t, size in enumerate(sizes)])
    return PackedSequence(data, tensorgrad.tensor(sizes), indices, back)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The inverse: (padded sequences [longest, n, ...], lengths [n]).

    They are padded to ``total_length`` if it is given.
    """
    data, batch_sizes, _, back = sequence
    sizes = batch_sizes.tolist()
    total = len(sizes) if total_length is None else total_length
    if total < len(sizes):
        raise ValueError(
            f"pad_packed_sequence: total_length {total} is less than the longest sequence, "
            f"{len(sizes)}"
        )
    rows = []
    for step in data.split(sizes):
        missing = tensorgrad.full((sizes[0] - len(step), *step.shape[1:]), padding_value)
        rows.append(tensorgrad.cat([step, missing.to(data.dtype)]))
    empty = tensorgrad.full((sizes[0], *data.shape[1:]), padding_value).to(data.dtype)
    padded = tensorgrad.stack(rows + [empty] * (total - len(sizes)))
    lengths = tensorgrad.tensor([sum(size > i for size in sizes) for i in range(sizes[0])])
    if back is not None:
        padded, lengths = padded[:, back], lengths[back]
    return (padded.transpose(0, 1) if batch_first else padded), lengths


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences [length, ...] packed."""
    lengths = [len(s) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that :func:`pack_sequence` packed."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
