"""Derivatives as values: ``grad`` returns them instead of adding to ``.grad``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import differentiable, engine
from ..creation import zeros, zeros_like
from ..functions import stack
from ..tensor import Tensor


def _sequence(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The derivatives of the sum of ``outputs`` with respect to each of ``inputs``.

    Args:
        grad_outputs: one gradient per output, of its shape; 1 is implied for single elements.
        retain_graph: keep the saved values for another pass (default: ``create_graph``).
        create_graph: make the results differentiable themselves.
        only_inputs: has no effect, as in PyTorch.
        allow_unused: give None for an input that the outputs do not depend on instead of raising.
        is_grads_batched: each of ``grad_outputs`` has a dimension more in front; there is a pass
            for each of its elements, and the results are stacked.
        materialize_grads: give zeros instead of None.

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
    keep = create_graph if retain_graph is None else retain_graph

    def derivatives(starts: Sequence, keep: bool) -> list:
        starts = [engine.grad_of(o, g, "grad") for o, g in zip(outs, starts, strict=True)]
        return engine.backward(
            outs, starts, inputs=ins, retain_graph=keep, create_graph=create_graph
        )

    if is_grads_batched:
        rows = list(zip(*given, strict=True))
        passes = [derivatives(row, keep or row is not rows[-1]) for row in rows]
        results = [None if gs[0] is None else stack(gs) for gs in zip(*passes, strict=True)]
    else:
        results = derivatives(given, keep)
    unused = [i for i, r in enumerate(results) if r is None]
    if materialize_grads:
        results = [zeros_like(t) if r is None else r for t, r in zip(ins, results, strict=True)]
    elif unused and not allow_unused:
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
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Add the derivatives of the sum of ``tensors`` to the ``.grad`` of their leaves, or only to
    that of ``inputs``."""
    outs = _sequence(tensors)
    given = _sequence(grad_tensors) if grad_tensors is not None else [None] * len(outs)
    differentiable.backward(outs, given, retain_graph, create_graph, inputs)


# --- the parts of functional and func ---


def partial_grad(
    outs: Sequence, given: Sequence, starts: Sequence, create_graph: bool, retain: bool = False
) -> list:
    """What ``grad`` gives, None for what does not exist, also if no output has a history."""
    pairs = [(o, s) for o, s in zip(outs, starts, strict=True) if o.requires_grad]
    if not pairs:
        return [None] * len(given)
    outs, starts = zip(*pairs, strict=True)
    return list(grad(outs, given, starts, retain or create_graph, create_graph, allow_unused=True))


def filled(found: Sequence, like: Sequence, strict: bool, create_graph: bool, name: str) -> tuple:
    """Zeros for the derivatives that do not exist, or a complaint."""
    if strict:
        for i, g in enumerate(found):
            if g is None:
                raise RuntimeError(f"{name}: the output does not depend on input {i}")
            if create_graph and not g.requires_grad:
                raise RuntimeError(f"{name}: the derivative does not depend on input {i}")
    return tuple(zeros_like(t) if g is None else g for g, t in zip(found, like, strict=True))


def pushed(
    outs: tuple, given: tuple, vectors: tuple, strict: bool, create_graph: bool, name: str
) -> tuple:
    """The Jacobian of ``outs`` by ``given``, times ``vectors``."""
    starts = [zeros_like(o).requires_grad_() for o in outs]
    pulled = partial_grad(outs, given, starts, True)  # linear in the starts
    pairs = [(g, v) for g, v in zip(pulled, vectors, strict=True) if g is not None]
    found = partial_grad([g for g, _ in pairs], starts, [v for _, v in pairs], create_graph)
    return filled(found, outs, strict, create_graph, name)


def jacobian_rows(out: Tensor, given: tuple, strict: bool, create_graph: bool) -> tuple:
    """One result's Jacobian by each input: [a] and [b] → [a, b]."""
    rows = []
    for k in range(out.numel()):
        unit = zeros(out.numel(), dtype=out.dtype)
        unit[k] = 1
        found = partial_grad([out], given, [unit.reshape(out.shape)], create_graph, retain=True)
        rows.append(filled(found, given, strict, create_graph, "jacobian"))
    return tuple(
        stack([row[i] for row in rows]).reshape((*out.shape, *t.shape))
        if rows
        else zeros((*out.shape, *t.shape), dtype=t.dtype)
        for i, t in enumerate(given)
    )
