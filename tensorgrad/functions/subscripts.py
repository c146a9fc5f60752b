"""What stands in ``x[...]``: PyTorch's meaning of it, as indices that the backend takes.

The two differ where integers stand beside tensors or lists. PyTorch lets the integers select
first; NumPy counts them among the arrays, whose place tells where the result's dims go:
``x[0, :, [1, 2]]`` of an x [2, 3, 4] is [3, 2] in PyTorch and [2, 3] in NumPy.
"""

from __future__ import annotations

from operator import index as as_int
from typing import Any

from ..backend import xp
from ..variable import Variable


def steps_of(key: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The index for a tensor of ``shape``, and the one for what that selects, or None."""
    if type(key) is int:
        return key, None
    if not isinstance(key, tuple):
        if isinstance(key, list):
            _refuse_ambiguous(key)
        part = _part(key)
        if is_mask(part) and part.shape != shape[: part.ndim]:
            _check_masks((part,), shape)  # which says what is wrong
        return part, None
    parts = tuple(map(_part, key))
    arrays = [p for p in parts if isinstance(p, xp.ndarray)]
    if not arrays:
        return parts, None
    parts = _without_ellipsis(parts, len(shape))
    if any(map(is_mask, arrays)):
        _check_masks(parts, shape)
    chosen = [i for i, p in enumerate(parts) if isinstance(p, (int, xp.ndarray))]
    if len(arrays) == len(chosen) or chosen[-1] - chosen[0] == len(chosen) - 1:
        return parts, None  # no integers, or nothing between them and the arrays: no difference
    first: list[Any] = []
    then: list[Any] = []
    for p in parts:
        if isinstance(p, xp.ndarray):
            first += [slice(None)] * _width(p)
            then.append(p)
        else:
            first.append(p)
            if not isinstance(p, int):
                then.append(slice(None))
    return tuple(first), tuple(then)


def is_mask(part: Any) -> bool:
    return isinstance(part, xp.ndarray) and part.dtype.kind == "b"


def array_of(part: Any) -> Any:
    """A tensor or an array as an index array: a copy, for the backward pass needs it, and writing
    into it later is nobody's business. In C order, for the last of repeated indices to win."""
    array = part.array if isinstance(part, Variable) else part
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b" or (kind == "i" and (size >= 4 or array is part)) or (kind == "u" and size > 1):
        return array.copy()
    if array.dtype == xp.uint8:
        raise IndexError(
            "an index of dtype uint8 was once a mask and is ambiguous: use .bool() or .long()"
        )
    raise IndexError(
        f"tensors used as indices must be int64, int32 or bool, not {array.dtype}; .long() makes "
        "integers of them"
    )


def _part(part: Any) -> Any:
    if part is None or part is Ellipsis:
        return part
    if isinstance(part, int):
        return part if type(part) is not bool else xp.asarray(part)
    if isinstance(part, slice):
        bounds = [b if b is None else as_int(b) for b in (part.start, part.stop, part.step)]
        if bounds[2] is not None and bounds[2] < 1:
            raise ValueError(f"a slice's step must be greater than zero, not {part.step}")
        return slice(*bounds)
    if isinstance(part, (list, tuple, range)):
        try:
            part = xp.asarray(part, dtype=None if len(part) else "int64")
        except ValueError as error:
            raise ValueError(f"the nested lists of an index are ragged ({error})") from None
    if isinstance(part, (Variable, xp.ndarray)):
        whole = not part.shape and part.dtype.kind in "iu" and part.dtype != xp.uint8
        return as_int(part) if whole else array_of(part)  # type: ignore[arg-type]
    if isinstance(part, xp.generic) and part.dtype.kind in "iub":
        return int(part) if part.dtype.kind != "b" else xp.asarray(part)
    raise IndexError(
        "tensors are indexed by integers, slices, ..., None, and int or bool tensors or lists, "
        f"not by {type(part).__name__}"
    )


def _refuse_ambiguous(key: list) -> None:
    """``x[[[0, 1], [1, 2]]]`` is ``x[[0, 1], [1, 2]]`` in PyTorch, which announces to change it,
    and ``x[tensor]`` in NumPy."""
    special = (list, tuple, range, slice, Variable, xp.ndarray, type(None), type(Ellipsis))
    if any(isinstance(p, special) for p in key):
        raise IndexError(
            "a list that holds lists, tensors, slices, None or ... is ambiguous as an index: "
            "write x[tuple(...)] for an index to each dim, or x[tensor(...)] for one to the first"
        )


def _width(part: Any) -> int:
    """How many dims of the tensor a part of an index stands for, ``...`` counted as one."""
    if part is None:
        return 0
    return part.ndim if is_mask(part) else 1


def _without_ellipsis(parts: tuple, ndim: int) -> tuple:
    """Slices for the dims that ``...`` stands for: for NumPy it divides arrays even if there are
    none, for PyTorch it does not."""
    at = [i for i, p in enumerate(parts) if p is Ellipsis]
    if len(at) > 1:
        raise IndexError("an index can have a single ellipsis (...)")
    if not at:
        return parts
    missing = ndim - sum(_width(p) for p in parts) + 1
    return (*parts[: at[0]], *[slice(None)] * missing, *parts[at[0] + 1 :])


def _check_masks(parts: tuple, shape: tuple[int, ...]) -> None:
    """Masks must have the sizes of the dims that they stand for."""
    at = 0
    for p in parts:
        n = _width(p)
        if is_mask(p) and p.shape != shape[at : at + n]:
            raise IndexError(
                f"a mask of shape {p.shape} does not fit a tensor of shape {tuple(shape)} at dim "
                f"{at}, where it is {tuple(shape[at : at + n])}"
            )
        at += n
