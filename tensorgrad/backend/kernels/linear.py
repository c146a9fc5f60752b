"""The linear layer, alone and with what is done with its result at once.

A product begins with the bias, or with what is added to it, instead of zeros; that of the weight's
gradient begins with the ``.grad`` that is there. The activation is a pass of its own, over what is
in the cache: a ReLU writes into the product, but of a GELU the derivative needs what comes before
it, and to write both within the product takes as long (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..products import Product, matmul
from .kernel import Kernel


def column_sums(g):
    """[n, d] → [d]: a matrix product with ones, several times faster than ``sum(axis=0)``."""
    return np.ones(len(g), g.dtype) @ g


# --- linear: y = x Wᵀ + b, and linear_add: y = x Wᵀ + b + r ---------------------------------------


def _linear(x, weight, bias, residual=None):
    if x.dtype is not weight.dtype and x.dtype != weight.dtype:
        raise RuntimeError(
            f"linear: the dtypes must be equal, got {x.dtype} and {weight.dtype}; .to() casts"
        )
    y = matmul(x.reshape(-1, x.shape[-1]), weight.T, bias, residual)
    return y.reshape(*x.shape[:-1], weight.shape[0]), ()


def _linear_vjp(g, inputs, saved, needs):
    x, weight = inputs[:2]
    g = g.reshape(-1, g.shape[-1])
    return (
        matmul(g, weight).reshape(x.shape) if needs[0] else None,
        Product(g.T, x.reshape(-1, x.shape[-1])) if needs[1] else None,
        column_sums(g) if needs[2] else None,
    )


def _linear_add(x, weight, bias, residual):
    shape = (*x.shape[:-1], weight.shape[0])
    try:
        residual = np.broadcast_to(residual, shape)
    except ValueError:
        raise ValueError(
            f"the residual {residual.shape} cannot be broadcast to the result's {shape}"
        ) from None
    return _linear(x, weight, bias, residual.reshape(-1, shape[-1]))


def _linear_add_vjp(g, inputs, saved, needs):
    return *_linear_vjp(g, inputs, saved, needs), g if needs[3] else None


# --- linear_relu and linear_gelu: y = activation(x Wᵀ + b) ----------------------------------------


def _activated(find: Callable[[], Kernel]) -> Kernel:
    """With an activation, whose derivative is given what it has left of its input."""

    def forward(x, weight, bias, **params):
        z, _ = _linear(x, weight, bias)
        return find().forward(z, **params)[0], (z,)

    def vjp(g, inputs, saved, needs, **params):
        (g,) = find().vjp(g, saved, (), (True,), **params)
        return _linear_vjp(g, inputs, (), needs)

    return Kernel(forward, vjp)


def linear_kernels(routine: Callable[[str], Kernel]) -> dict[str, Kernel]:
    """By name; ``routine`` finds the activations, which are those of the backend in use."""
    return {
        "linear": Kernel(_linear, _linear_vjp),
        "linear_add": Kernel(_linear_add, _linear_add_vjp),
        "linear_relu": _activated(lambda: routine("relu_")),
        "linear_gelu": _activated(lambda: routine("gelu")),
    }
