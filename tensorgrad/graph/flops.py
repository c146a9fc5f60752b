"""How much arithmetic an operation is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .run import Step, Value

Shape = Sequence[int]


def flops(step: Step) -> int:
    """Floating point operations of the products in one operation; an addition counts as one.

    A product of [m, k] and [k, n] counts 2mnk, as in PyTorch's ``FlopCounterMode``; what is not
    such a product counts 0: it is a matter of memory, not of arithmetic. Causal attention counts
    in full. The backward pass of a product is two products of the same size, so that a training
    step counts three times this.
    """
    count = _COUNTS.get(step.op.name)
    shapes = [v.shape if isinstance(v, Value) else () for v in step.inputs]
    return count(shapes, step.output.shape, step.params) if count else 0


def _matmul(inputs: Sequence[Shape], out: Shape, params: Any) -> int:
    return 2 * math.prod(out) * inputs[0][-1]


def _contract(inputs: Sequence[Shape], out: Shape, params: Any) -> int:
    """Every label of the Einstein sum is a loop."""
    terms = params["subscripts"].partition("->")[0].split(",")
    sizes = {c: n for term, shape in zip(terms, inputs) for c, n in zip(term, shape)}
    return 2 * math.prod(sizes.values())


def _attention(inputs: Sequence[Shape], out: Shape, params: Any) -> int:
    """Scores [..., n, m] from keys of length d, then weights times values of length e."""
    d, m, n = inputs[0][-1], inputs[1][-2], out[-2]
    return 2 * math.prod(out[:-2]) * n * m * (d + out[-1])


_COUNTS: dict[str, Callable[[Sequence[Shape], Shape, Any], int]] = {
    "matmul": _matmul,
    "linear": _matmul,
    "linear_add": _matmul,
    "linear_relu": _matmul,
    "linear_gelu": _matmul,
    "contract": _contract,
    "scaled_dot_product_attention": _attention,
}
