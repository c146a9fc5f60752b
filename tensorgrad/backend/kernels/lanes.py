"""What the loops of the compiled kernels are written in, so that LLVM makes vector instructions.

A loop is several times slower where it is not vectorised, so nothing in one may call the C
library or leave early. exp and the normal distribution are polynomials here (for float32; float64
is for checks and takes the library's), maxima are taken of integers, and division by zero gives
inf, as in NumPy, instead of a check of every element.

No loop is made parallel by Numba: its threads would have to fight those of the matrix products for
the cores, and the loops would lose their vector instructions. See ``backend/threads.py``.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic, overload

from .machine_code import ALLOCATE, FREE
from .parts import part

# --- exp ------------------------------------------------------------------------------------------


@intrinsic
def _float_of_bits(typing_context, bits):
    """The float32 that the bits of an int32 stand for."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


_f = np.float32
_LOG2_E = _f(1 / math.log(2))
_LOG_2_HIGH = _f(0.693359375)  # few bits, so that n times it is exact
_LOG_2_LOW = _f(math.log(2) - 0.693359375)

# exp(r) = 1 + r + r^2 P(r) for |r| <= log(2) / 2: 3e-9 is the largest relative error. (This and
# the next one were fitted for this file, by iterated weighted least squares.)
_E0, _E1, _E2, _E3, _E4 = map(_f, (
    0.4999999341226161, 0.1666652010554259, 0.041668394258998, 0.008368780622563, 0.0013814464762,
))  # fmt: skip


def exp(x):
    """e to the power of x <= 88: to the dtype's rounding, but 0 where that is below 1e-38."""
    return math.exp(x)


@overload(exp)
def _exp_of(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def exp32(x):
        # x = n log(2) + r with an integer n, so exp(x) = 2^n exp(r), and 2^n is written as bits.
        z = max(min(x, _f(88)), _f(-88))
        n = np.floor(z * _LOG2_E + _f(0.5))
        r = z - n * _LOG_2_HIGH - n * _LOG_2_LOW
        p = (((_E4 * r + _E3) * r + _E2) * r + _E1) * r + _E0
        y = (p * r * r + r + _f(1)) * _float_of_bits(np.int32(n) + np.int32(127) << np.int32(23))
        y = y if x > _f(-87.3) else _f(0)
        return y if x == x else x  # the clamping has lost a nan

    return exp32


# --- the normal distribution ----------------------------------------------------------------------

# erfc(z) = exp(-z^2) P(t), t = 1 / (1 + 0.4 z), for z >= 0: 3e-8, absolute. (The form is that of
# Abramowitz & Stegun 1964, 7.1.26.)
_C1, _C2, _C3, _C4, _C5, _C6 = map(_f, (
    0.2319224395, 0.1618214097, 0.4682795059, -0.3709145056, 0.7091513422, -0.2002602194,
))  # fmt: skip


def normal_cdf(x, bell):
    """The probability that a normal variable is at most x, given exp(-x²/2)."""
    return 0.5 * math.erfc(-x * math.sqrt(0.5))


@overload(normal_cdf)
def _normal_cdf_of(x, bell):
    if x != types.float32:
        return lambda x, bell: 0.5 * math.erfc(-x * math.sqrt(0.5))

    def normal_cdf32(x, bell):
        t = _f(1) / (_f(1) + _f(0.4 * math.sqrt(0.5)) * abs(x))
        p = (((((_C6 * t + _C5) * t + _C4) * t + _C3) * t + _C2) * t + _C1) * t
        tail = _f(0.5) * p * bell
        return tail if x < _f(0) else _f(1) - tail

    return normal_cdf32


# --- the maximum of a row -------------------------------------------------------------------------

_SMALLEST, _ALL_BUT_SIGN = np.int32(-(2**31)), np.int32(2**31 - 1)


@intrinsic
def _bits_of_float(typing_context, x):
    """The bits of a float32 as an int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


def largest(row, size, scale):
    """The maximum of scale * row[:size]; -inf if that is empty, anything where there are nans."""
    return (scale * row[:size]).max(initial=-np.inf)


@overload(largest)
def _largest_of(row, size, scale):
    if row.dtype != types.float32:

        def largest64(row, size, scale):
            peak = -np.inf
            for j in range(size):
                peak = max(peak, row[j] * scale)
            return peak

        return largest64

    def largest32(row, size, scale):
        # LLVM vectorises maxima of integers, not of floats. The bits of floats are ordered like
        # integers, but that negative ones have all other bits the wrong way round.
        peak = _SMALLEST
        for j in range(size):
            bits = _bits_of_float(row[j] * scale)
            peak = max(peak, bits ^ ((bits >> np.int32(31)) & _ALL_BUT_SIGN))
        if peak == _SMALLEST:
            return _f(-np.inf)
        return _float_of_bits(np.int32(peak ^ ((peak >> np.int32(31)) & _ALL_BUT_SIGN)))

    return largest32


# --- arrays by their addresses --------------------------------------------------------------------


@intrinsic
def _pointer(typing_context, address):
    """An address as a pointer."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.uintp), generate


@part
def array_at(address, size, like):
    """The array of ``size`` elements side by side that begins there, in the dtype of ``like``."""
    return numba.carray(_pointer(np.uintp(address)), (size,), like.dtype)


@part
def contiguous(matrix, i):
    """Row i, of which the caller knows that its elements lie side by side."""
    address = np.uintp(matrix.ctypes.data + i * matrix.strides[0])
    return numba.carray(_pointer(address), (matrix.shape[1],), matrix.dtype)


@part
def everything_from(matrix):
    """All of the memory from the matrix's first number on."""
    return numba.carray(_pointer(np.uintp(matrix.ctypes.data)), (1 << 56,), matrix.dtype)


# --- memory to work with --------------------------------------------------------------------------

_LINE = 64  # bytes of the processor's cache that come and go together


@intrinsic
def _allocate(typing_context, size):
    """The address of so many bytes; 0 if there are none."""

    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)])
        function = get_or_insert_function(builder.module, kind, ALLOCATE)
        return builder.call(function, arguments)

    return types.int64(types.int64), generate


@intrinsic
def _free(typing_context, address):
    def generate(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(get_or_insert_function(builder.module, kind, FREE), arguments)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@part
def room(size, like):
    """So many elements of the dtype of ``like``, from a line of the cache on, of any value.

    The loop has to give them back.
    """
    start = _allocate(size * like.itemsize + 2 * _LINE)
    if start == 0:
        raise MemoryError
    first = (start + 2 * _LINE - 1) // _LINE * _LINE
    numba.carray(_pointer(np.uintp(first - 8)), (1,), np.int64)[0] = start
    return numba.carray(_pointer(np.uintp(first)), (size,), like.dtype)


@part
def give_back(array):
    """What came from ``room``."""
    first = array.ctypes.data
    _free(numba.carray(_pointer(np.uintp(first - 8)), (1,), np.int64)[0])
