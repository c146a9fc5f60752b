"""The op namespace: the calculus, one definition per op.

Its names are those of the array namespace, over Tensors. Given as ``xp`` to a formula it records
what the formula does, which is how derivatives of derivatives come about.
"""

from __future__ import annotations

from ..backend import xp as _xp
from ..backend.xp import inf, nan
from ..variable import wrap as _wrap
from . import linalg
from .compare import (
    bitwise_and,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    coin_flips,
    equal,
    gcd,
    greater,
    greater_equal,
    heaviside,
    isfinite,
    isinf,
    isnan,
    lcm,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
    signbit,
)
from .elementwise import (
    abs,
    add,
    astype,
    ceil,
    clamp_max,
    clamp_min,
    copysign,
    cos,
    divide,
    erf,
    erfc,
    erfinv,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    fmax,
    fmin,
    fmod,
    hypot,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logaddexp2,
    masked_fill,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    reciprocal,
    relu,
    remainder,
    round,
    rsqrt,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    trunc,
    trunc_divide,
    where,
    xlogy,
)
from .fused import (
    binary_cross_entropy,
    cross_entropy,
    dropout,
    gelu,
    layer_norm,
    linear,
    linear_add,
    linear_gelu,
    linear_relu,
    rms_norm,
    scaled_dot_product_attention,
)
from .index import (
    getitem,
    group_extreme,
    scatter,
    scatter_rows,
    take_along_axis,
    take_rows,
    update_index,
)
from .linalg import matmul
from .patch import add_patches, pad, patches
from .reduce import (
    all,
    any,
    argmax,
    argmin,
    argsort,
    log_softmax,
    logsumexp,
    max,
    mean,
    median,
    min,
    prod,
    softmax,
    sum,
    var,
)
from .scan import cumargmax, cumprod, cumsum, logcumsumexp
from .shape import (
    add_windows,
    alias,
    broadcast_to,
    clone,
    concat,
    contiguous,
    expand_dims,
    flip,
    permute_dims,
    reshape,
    roll,
    squeeze,
    stack,
    swapaxes,
    tril,
    triu,
    windows,
)
from .trigonometry import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cosh,
    sinc,
    sinh,
    tan,
)


def ones(shape, dtype):
    return _wrap(_xp.ones(shape, dtype=dtype))


def zeros_like(x):
    return _wrap(_xp.zeros_like(x.array))
