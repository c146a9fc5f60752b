"""tensorgrad: a small tensor autograd library on NumPy, used like PyTorch.

>>> import tensorgrad
>>> w = tensorgrad.tensor([2.0, -1.0], requires_grad=True)
>>> loss = (w ** 2).sum()
>>> loss.backward()
>>> w.grad
tensor([ 4., -2.])
"""

from __future__ import annotations

from . import autograd, distributed, func, graph, linalg, optim, serialization, testing, utils
from .autograd import grad
from .backend.dtypes import (
    bool_ as bool,
)
from .backend.dtypes import (
    dtype,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
)
from .backend.dtypes import float16 as half
from .backend.dtypes import float32 as float
from .backend.dtypes import float64 as double
from .backend.dtypes import int16 as short
from .backend.dtypes import int32 as int
from .backend.dtypes import int64 as long
from .backend.promotion import can_cast, promote_types
from .creation import (
    arange,
    as_tensor,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    scalar_tensor,
    tensor,
    zeros,
    zeros_like,
)
from .creation import inclusive_range as range
from .devices import (
    backends,
    contiguous_format,
    cuda,
    device,
    get_num_threads,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from .explain import explain
from .functions.casting import *
from .functions.counting import *
from .functions.elementwise import *
from .functions.indexing import *
from .functions.joining import *
from .functions.moving import *
from .functions.reductions import *
from .functions.shapes import *
from .functions.sorting import *
from .linalg import (
    addbmm,
    addmm,
    addmv,
    baddbmm,
    bmm,
    chain_matmul,
    det,
    diagonal,
    dot,
    einsum,
    ger,
    inner,
    inverse,
    kron,
    logdet,
    matmul,
    matrix_power,
    mm,
    mv,
    outer,
    slogdet,
    tensordot,
    trace,
    vdot,
)
from .linalg import p_norm as norm
from .mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .ops import fused, patch
from .printing import set_printoptions
from .random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from .sampling import (
    bernoulli,
    multinomial,
    normal,
    poisson,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
)
from .serialization import load, save
from .tensor import Tensor

__version__ = "0.1.0"


_ABSENT_DTYPES = (
    "bfloat16", "complex32", "complex64", "complex128", "cfloat", "cdouble", "chalf", "uint16",
    "uint32", "uint64", "qint8", "quint8", "qint32", "float8_e4m3fn", "float8_e5m2",
)  # fmt: skip


def __getattr__(name: str) -> object:
    """``tensorgrad.nn`` without an import of its own, as in torch; loaded when first asked for."""
    if name in _ABSENT_DTYPES:
        raise AttributeError(
            f"tensorgrad has no dtype {name}; it has bool, uint8, int8 to int64 and float16 to "
            "float64"
        )
    if name == "nn":
        from importlib import import_module

        return import_module("tensorgrad.nn")
    raise AttributeError(f"module 'tensorgrad' has no attribute {name!r}")
