"""The array namespace that formulas are written in: NumPy 2 / array-API names, plus erf.

This list is the whole language of the op formulas. ``tensorgrad.ops`` offers the same names over
Tensors, so that one formula serves both; another array library becomes a backend by offering
them too.
"""

from __future__ import annotations

# ruff: noqa: F401  (re-exported: this file is a vocabulary)
import numpy as _numpy
from numpy import (
    abs,
    add,
    all,
    any,
    arange,
    argmax,
    argmin,
    array,
    array2string,
    asarray,
    ascontiguousarray,
    bincount,
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    broadcast_shapes,
    broadcast_to,
    ceil,
    concat,
    copysign,
    copyto,
    cos,
    cosh,
    divide,
    dtype,
    einsum,
    einsum_path,
    empty,
    empty_like,
    equal,
    errstate,
    exp,
    exp2,
    expand_dims,
    expm1,
    eye,
    finfo,
    flip,
    float16,
    float32,
    float64,
    floor,
    floor_divide,
    fmax,
    fmin,
    fmod,
    from_dlpack,
    full,
    gcd,
    generic,
    greater,
    greater_equal,
    hypot,
    iinfo,
    inf,
    int8,
    int16,
    int32,
    int64,
    isclose,
    isfinite,
    isinf,
    isnan,
    lcm,
    less,
    less_equal,
    lexsort,
    linspace,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logaddexp2,
    logical_and,
    logical_not,
    logical_or,
    max,
    maximum,
    mean,
    min,
    minimum,
    multiply,
    nan,
    ndarray,
    nonzero,
    not_equal,
    ones,
    ones_like,
    prod,
    remainder,
    repeat,
    result_type,
    roll,
    round,
    signbit,
    sin,
    sinc,
    sinh,
    sort,
    split,
    sqrt,
    squeeze,
    stack,
    subtract,
    sum,
    take_along_axis,
    tan,
    tanh,
    tril,
    tril_indices,
    triu,
    triu_indices,
    trunc,
    uint8,
    unravel_index,
    vdot,
    where,
    zeros,
    zeros_like,
)
from numpy import arccos as acos
from numpy import arccosh as acosh
from numpy import arcsin as asin
from numpy import arcsinh as asinh
from numpy import arctan as atan
from numpy import arctan2 as atan2
from numpy import arctanh as atanh
from numpy import bool as bool_
from numpy.random import PCG64, Generator, SeedSequence

from . import linalg
from .coins import coin_flips
from .patches import add_patches, pad, patches
from .products import matmul
from .scan import cumargmax, cumprod, cumsum, logcumsumexp
from .scatter import (
    Scattered,
    assembled,
    group_extreme,
    last_writes,
    places_along,
    scatter,
    scatter_rows,
    update_index,
    write_at,
)
from .special import erf, erfc, erfinv
from .unwritten import Unwritten
from .views import add_windows, windows


def astype(x, to):
    """``x`` cast; NumPy's own function of this name refuses scalars in its first versions."""
    return x.astype(to)


# NumPy's functions of these names take several times as long as its methods.
def reshape(x, shape):
    return (x if type(x) is ndarray else asarray(x)).reshape(shape)


def permute_dims(x, axes):
    return (x if type(x) is ndarray else asarray(x)).transpose(axes)


def swapaxes(x, axis1, axis2):
    return (x if type(x) is ndarray else asarray(x)).swapaxes(axis1, axis2)


def sign(x):
    """-1, 0 or 1; that of nan is 0 as in PyTorch."""
    return x.copy() if x.dtype == bool_ else astype(x > 0, x.dtype) - astype(x < 0, x.dtype)


def argsort(x, axis=-1, descending=False):
    """The indices that sort along ``axis``; equal elements keep their order, nan is largest."""
    if not descending:
        return _numpy.argsort(x, axis=axis, stable=True)
    # Sorted upwards from behind, then read from behind: equal elements keep their order.
    backwards = _numpy.argsort(_numpy.flip(x, axis), axis=axis, stable=True)
    return x.shape[axis] - 1 - _numpy.flip(backwards, axis)
