"""PyTorch's type promotion, where it differs from NumPy's.

Three priorities: tensors with dimensions, then 0-dimensional tensors, then Python numbers. A lower
priority changes the result's dtype only when its category (bool < int < float) is higher, and a
Python float among integers gives the default float, float32 unless set otherwise.
Source: PyTorch documentation, "torch.dtype: type promotion".
"""

from __future__ import annotations

import numpy as np

from .dtypes import DTYPE, default_float, known_dtype

_INT64 = np.dtype(np.int64)
_BOOL = np.dtype(np.bool_)
CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2}


def _join(a, b):
    """The dtype of two tensors of the same priority."""
    if a is None or a == b:
        return b
    ranks = CATEGORY[a.kind], CATEGORY[b.kind]
    if ranks[0] != ranks[1]:  # int64 with float32 is float32 here, float64 in NumPy
        return a if ranks[0] > ranks[1] else b
    return np.result_type(a, b)


def result_dtype(*values):
    """The dtype that PyTorch gives to an operation on arrays and Python numbers.

    >>> import numpy as np
    >>> result_dtype(np.zeros(3, np.int64), np.zeros(3, np.float32)).name
    'float32'
    >>> result_dtype(np.zeros(3, np.int64), 0.5).name
    'float32'
    """
    dimensioned = scalar = number = None
    for v in values:
        if isinstance(v, np.ndarray):
            if v.ndim:
                dimensioned = _join(dimensioned, v.dtype)
            else:
                scalar = _join(scalar, v.dtype)
        elif isinstance(v, bool):
            number = _join(number, _BOOL)
        elif isinstance(v, int):
            number = _join(number, _INT64)
        else:
            number = _join(number, default_float())
    result = None
    for dtype in (dimensioned, scalar, number):
        if dtype is None:
            continue
        if result is None or CATEGORY[dtype.kind] > CATEGORY[result.kind]:
            result = dtype
    return result


def _cast(value, dtype):
    """An array; of a Python integer beyond the range, wrapped around as in PyTorch."""
    if type(value) is int:
        value = np.asarray(value).astype(dtype)
    return np.asarray(value, dtype)


def promote(values, to_float=False):
    """Cast arrays to their common dtype; Python numbers stay, NumPy treats them as weak.

    ``to_float`` also turns integers and bools into the default float, as exp or / need.
    """
    dtype = None
    for v in values:
        if type(v) is np.ndarray:
            if dtype is None:
                dtype = v.dtype
            elif v.dtype is not dtype:
                break
    else:
        if dtype is not None and dtype.kind == "f":
            return values  # the hot path: every array has one float dtype already
    dtype = result_dtype(*values)
    if to_float and dtype.kind != "f":
        dtype = default_float()
    return [_cast(v, dtype) for v in values]


def promote_types(type1, type2):
    """The smallest dtype that both can be cast to without losing their category."""
    return DTYPE[_join(known_dtype(type1), known_dtype(type2))]


def can_cast(from_, to):
    """Whether a cast keeps to the order bool < integers < floats, as in-place results must."""
    return CATEGORY[known_dtype(from_).kind] <= CATEGORY[known_dtype(to).kind]
