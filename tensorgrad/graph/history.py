"""The recorded history of tensors, the graph that a backward pass walks, as a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..node import Node, recorded
from ..tensor import Tensor
from ..variable import Variable
from .run import Run, Step, Value


def history(tensors: Sequence[Tensor]) -> tuple[Run, dict[int, Value]]:
    """What led to the tensors; also the values by the id of the node or leaf they belong to.

    Only what gradients flow through is recorded, and of that the shapes.
    """
    run = Run()
    values: dict[int, Value] = {}

    def leaf(t: Any) -> Value:
        if id(t) not in values:
            values[id(t)] = value = Value("leaf", t.shape, t.dtype)
            value.names = [t.name] if t.name else []
        return values[id(t)]

    for number, node in enumerate(recorded(tensors)):
        inputs = [
            None if p is None else values[id(p)] if isinstance(p, Node) else leaf(p)
            for p in node.parents
        ]
        step = Step(number, node.op, node.params, inputs, run.root, (node.code, node.offset))
        step.output = values[id(node)] = Value("result", node.shape, node.dtype or "", step)
        run.root.items.append(step)
        for value in inputs:
            if value is not None:
                value.uses += 1
    for t in tensors:
        value = values[id(t.node)] if t.node is not None else leaf(t)
        if t.name and not value.names:
            value.names = [t.name]
        run.outputs.append(value)
    return run, values


def checked(tensor: Any) -> list[Any]:
    """The tensor or tensors whose history can be drawn."""
    tensors = [tensor] if isinstance(tensor, Variable) else list(tensor)
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"draw: expected a tensor or several, got a {type(t).__name__}")
        if not t.needs_grad:
            raise ValueError(
                f"draw: no history is recorded for the tensor of shape {tuple(t.shape)}; was it "
                "computed under no_grad, or from tensors without requires_grad=True?"
            )
    return tensors


def called(names: Any, values: dict[int, Value]) -> None:
    """Give values the names that the caller has for their tensors; tied ones can have several."""
    given: dict[int, list[str]] = {}
    for name, t in names.items() if hasattr(names, "items") else names or ():
        if not isinstance(t, Variable):
            raise TypeError(f"draw: names: {name!r} is a {type(t).__name__}, not a tensor")
        if name:
            given.setdefault(id(t.node or t), []).append(str(name))
    for key, found in given.items():
        if key in values:
            values[key].names = found
