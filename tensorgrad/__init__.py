"""tensorgrad: a small tensor autograd library on NumPy, used like PyTorch.

>>> import tensorgrad
>>> w = tensorgrad.tensor([2.0, -1.0], requires_grad=True)
>>> loss = (w ** 2).sum()
>>> loss.backward()
>>> w.grad
tensor([ 4., -2.])
"""

from __future__ import annotations

from . import autograd, graph, linalg, optim, serialization, testing, utils
from .autograd import grad
from .creation import (
    arange,
    as_tensor,
    bernoulli,
    double,
    empty,
    eye,
    float16,
    float32,
    float64,
    from_dlpack,
    from_numpy,
    full,
    half,
    int8,
    int16,
    int32,
    int64,
    linspace,
    long,
    multinomial,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    randperm,
    tensor,
    uint8,
    zeros,
    zeros_like,
)
from .creation import bool_ as bool
from .creation import float_ as float
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
from .mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .ops import fused, patch
from .random import Generator, default_generator, manual_seed
from .serialization import load, save
from .tensor import Tensor

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """``tensorgrad.nn`` without an import of its own, as in torch; loaded when first asked for."""
    if name == "nn":
        from importlib import import_module

        return import_module("tensorgrad.nn")
    raise AttributeError(f"module 'tensorgrad' has no attribute {name!r}")
