"""The op namespace: the calculus, one definition per op.

Its names are those of the array namespace, over Tensors. Given as ``xp`` to a formula it records
what the formula does, which is how derivatives of derivatives come about.
"""

from __future__ import annotations

from ..backend import xp as _xp
from ..backend.xp import inf, nan
from ..core import wrap as _wrap
from .elementwise import (
    abs,
    add,
    astype,
    cos,
    divide,
    equal,
    erf,
    exp,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    masked_fill,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    relu,
    sign,
    sin,
    sqrt,
    subtract,
    tanh,
    where,
)
from .fused import cross_entropy, gelu, layer_norm, linear, scaled_dot_product_attention
from .index import getitem, scatter, scatter_rows, take_along_axis, take_rows, update_index
from .linalg import matmul
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
    min,
    softmax,
    sum,
    var,
)
from .shape import (
    alias,
    broadcast_to,
    clone,
    concat,
    expand_dims,
    permute_dims,
    reshape,
    squeeze,
    stack,
    swapaxes,
    tril,
    triu,
)


def ones(shape, dtype):
    return _wrap(_xp.ones(shape, dtype=dtype))
