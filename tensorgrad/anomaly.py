"""The search for the first operation, or derivative of one, that gives nan or inf.

It runs only while :class:`~tensorgrad.mode.detect_anomaly` is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .backend import xp
from .node import Node

Named = tuple[str, Any]


def check_result(node: Node, result: Any, values: Sequence, params: dict) -> None:
    """Complain of nan, or of an inf that no operand brought, in the result of an operation."""
    operands = list(_named(node, enumerate(values)))
    kind = _fault(result, [v for _, v in operands] + list(params.values()))
    if kind:
        raise _complaint(
            node,
            f"the forward pass of {node.op.name} gives {kind}, at {node.source}: "
            f"{_described(operands)}; result: {_facts(result)}",
        )


def check_gradients(node: Node, g: Any, saved: Sequence, gradients: Iterable) -> None:
    """The same for the gradients that a node computed from ``g``, that of its result."""
    for i, gradient in gradients:
        gradient = _array(gradient)
        kind = _fault(gradient, [g])
        if kind:
            ((argument, _),) = _named(node, [(i, gradient)])
            known = [("gradient of the result", g), *node.op.kept(node, saved)]
            raise _complaint(
                node,
                f"the backward pass of {node.op.name} gives {kind} in the gradient of its argument "
                f"{argument!r}, recorded at {node.source}: {_described(known)}",
            )


def _complaint(node: Node, text: str) -> RuntimeError:
    """An error that knows the number of the operation, in the order in which they were recorded."""
    error = RuntimeError(text)
    error.number = node.seq  # type: ignore[attr-defined]
    return error


def _named(node: Node, values: Iterable[tuple[int, Any]]) -> Iterator[Named]:
    """Values with the names of the arguments whose positions they have."""
    names = node.op.arguments
    for i, value in values:
        yield (names[i] if i < len(names) else str(i)), value


def _fault(result: Any, operands: Sequence) -> str:
    """What is wrong with a result, if anything: nan, or inf where all operands were finite."""
    result = _array(result)
    if not isinstance(result, (xp.ndarray, xp.generic)) or result.dtype.kind != "f":
        return ""
    if xp.any(xp.isnan(result)):
        return "nan"
    if xp.any(xp.isinf(result)) and all(map(_finite, operands)):
        return "inf"
    return ""


def _array(value: Any) -> Any:
    return getattr(value, "array", value)


def _finite(value: Any) -> bool:
    value = _array(value)
    if isinstance(value, float):
        value = xp.asarray(value)
    floats = isinstance(value, (xp.ndarray, xp.generic)) and value.dtype.kind == "f"
    return not floats or bool(xp.all(xp.isfinite(value)))


def _described(values: Iterable[Named]) -> str:
    return "; ".join(f"{name}: {_facts(value)}" for name, value in values)


def _facts(value: Any) -> str:
    """A value in few words: shape, dtype and range."""
    value = _array(value)
    if not isinstance(value, (xp.ndarray, xp.generic)):
        return repr(value)
    words = f"shape {tuple(value.shape)} {value.dtype}"
    if not value.size:
        return f"{words}, empty"
    if value.dtype.kind != "f":
        return f"{words}, {xp.min(value)} to {xp.max(value)}"
    finite = xp.asarray(value)[xp.isfinite(value)]
    spans = f", {xp.min(finite):.4g} to {xp.max(finite):.4g}" if finite.size else ""
    for kind, count in (("nan", xp.isnan(value)), ("inf", xp.isinf(value))):
        if n := int(xp.sum(count)):
            spans += f", {n} of {value.size} {kind}"
    return words + spans
