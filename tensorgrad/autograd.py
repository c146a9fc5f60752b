"""Derivatives as values: ``grad`` returns them instead of adding to ``.grad``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import core
from .tensor import Tensor


def _sequence(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """The derivatives of the sum of ``outputs`` with respect to each of ``inputs``.

    Args:
        grad_outputs: one gradient per output, of its shape; 1 is implied for single elements.
        retain_graph: keep the saved values for another pass (default: ``create_graph``).
        create_graph: make the results differentiable themselves.
        allow_unused: give None for an input that the outputs do not depend on instead of raising.

    >>> import tensorgrad
    >>> x = tensorgrad.tensor(3.0, requires_grad=True)
    >>> (dy,) = grad(x**3, x, create_graph=True)
    >>> grad(dy, x)
    (tensor(18.),)
    """
    outs, ins = _sequence(outputs), _sequence(inputs)
    given = _sequence(grad_outputs) if grad_outputs is not None else [None] * len(outs)
    if len(given) != len(outs):
        raise RuntimeError(f"grad: {len(outs)} outputs but {len(given)} grad_outputs")
    for i, t in enumerate(ins):
        if not t.needs_grad:
            raise RuntimeError(f"grad: input {i} does not require grad")
    gradients = [core.grad_of(o, g, "grad") for o, g in zip(outs, given, strict=True)]
    keep = create_graph if retain_graph is None else retain_graph
    results = core.backward(
        outs, gradients, inputs=ins, retain_graph=keep, create_graph=create_graph
    )
    if not allow_unused and any(r is None for r in results):
        unused = [i for i, r in enumerate(results) if r is None]
        raise RuntimeError(
            f"grad: the outputs do not depend on inputs {unused}; pass allow_unused=True to get "
            "None for them"
        )
    return tuple(results)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the derivatives of the sum of ``tensors`` to the ``.grad`` of their leaves."""
    outs = _sequence(tensors)
    given = _sequence(grad_tensors) if grad_tensors is not None else [None] * len(outs)
    gradients = [core.grad_of(o, g) for o, g in zip(outs, given, strict=True)]
    keep = create_graph if retain_graph is None else retain_graph
    core.backward(outs, gradients, retain_graph=keep, create_graph=create_graph)
