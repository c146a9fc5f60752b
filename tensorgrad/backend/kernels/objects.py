"""Where an array object has what it says of itself: its address tells compiled code all of it.

An object's fields follow those that every object of Python has. They are PyArrayObject_fields and
PyArray_Descr as declared in NumPy's ndarraytypes.h, in words of 8 bytes: the layout is part of
NumPy's C interface.
"""

from __future__ import annotations

import ctypes

import numpy as np

FIELDS = object.__basicsize__  # bytes before the first field; the last word is the object's type
DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = 0, 1, 2, 3, 5, 6
INT = 0xFFFFFFFF  # NDIM and FLAGS are ints of 4 bytes
CONTIGUOUS, ALIGNED, WRITEABLE = 0x0001, 0x0100, 0x0400
KIND = FIELDS + 9  # of a dtype: its letter, and behind it that of the order of its bytes


def _words(address: int, count: int) -> list[int]:
    return (ctypes.c_int64 * count).from_address(address)[:]


def _known() -> bool:
    """Whether array objects of this Python and NumPy are laid out as it is read here."""
    if object.__basicsize__ % 8 or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    a = np.empty((2, 3), np.float32)
    fields = _words(id(a) + FIELDS, 7)
    return (
        (fields[DATA], fields[NDIM] & INT, fields[DTYPE], fields[FLAGS] & INT)
        == (a.ctypes.data, a.ndim, id(a.dtype), a.flags.num)
        and _words(fields[SHAPE], 2) == [2, 3]
        and _words(fields[STRIDES], 2) == [12, 4]
        and _words(id(a) + FIELDS - 8, 1) == [id(np.ndarray)]
        and ctypes.string_at(id(a.dtype) + KIND, 2) == b"f="
    )


KNOWN = _known()
