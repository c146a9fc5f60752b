"""What recorded operations saw, and evaluating them once more in float64.

A graph keeps of the operands only what its derivatives need. :func:`watched` calls a function and
keeps all of them, so that the whole graph can be evaluated again: from other values, to take finite
differences, or operation by operation, to check each on its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .autograd.function import Applied, Output
from .backend import xp
from .mode import Watcher, no_grad, watching
from .node import Node, recorded
from .tensor import Tensor
from .variable import wrap

Operands = dict[Node, list]


class NotKept(ValueError):
    """The graph alone does not say what an operation was given."""


def watched(function: Callable) -> tuple[Any, Operands]:
    """``function()``, and the operands of every operation that it recorded, as they were then."""
    watcher = _Operands()
    with watching(watcher):
        return function(), watcher.found


class _Operands(Watcher):
    """The operands of recorded operations."""

    def __init__(self) -> None:
        self.found: Operands = {}

    def evaluated(self, op: Any, args: tuple, values: list, params: dict, result: Any) -> None:
        if result.node is not None:
            self.found[result.node] = [widened(v, copy=True) for v in values]

    def applied(self, name: str, args: tuple, results: list, node: Any) -> None:
        if node is not None:
            arrays = [v.array if isinstance(v, Tensor) else v for v in args]
            self.found[node] = [widened(v, copy=True) for v in arrays]


def widened(value: Any, copy: bool = False) -> Any:
    """A saved value or an operand, its floats in float64: an array, a list of them, a number."""
    if type(value) in (list, tuple):  # not a Kernel, which is a tuple, too
        return type(value)([widened(v, copy) for v in value])
    if isinstance(value, xp.ndarray):
        return xp.array(value, dtype=_wide(value.dtype), copy=copy or None)
    return value


def _wide(dtype: Any) -> Any:
    return xp.dtype("float64") if dtype.kind == "f" else dtype


def parameters(node: Node) -> dict:
    """The parameters of an operation for float64: a cast between floats casts to that."""
    if node.op.name != "astype":
        return node.params
    return {**node.params, "dtype": _wide(xp.dtype(node.params["dtype"]))}


def evaluated(node: Node, values: Sequence) -> Any:
    """An operation applied to ``values``: a tensor; a tuple of a Function with several results.

    Arrays are wrapped, and tensors are taken as they are: with their history, if they have one.
    """
    if isinstance(node.op, Applied):  # which may write into what it is given, and take arrays
        tensors = [shape is not None for shape in node.op.shapes]
        given = [_tensor(v).clone() if t else v for v, t in zip(values, tensors)]
        return node.op.function.apply(*given)
    return node.op.apply(*map(_tensor, values), **parameters(node))


def _tensor(value: Any) -> Any:
    return wrap(value) if isinstance(value, xp.ndarray) else value


def before(root: Node) -> list[Node]:
    """All operations that led to the result of ``root``, in their order, and itself."""
    return recorded([wrap(None, root)])


class Replay:
    """The recorded operations that led to ``root``, and the constants that they were given.

    Raises:
        NotKept: the graph does not say what an operation was given, and ``operands`` neither.
    """

    def __init__(self, root: Node, operands: Operands | None = None) -> None:
        self.root = root
        self.nodes = before(root)
        kept = operands or {}
        self.constants = {n: _constants(n, kept.get(n)) for n in self.nodes if not _is_part(n)}
        self.leaves = {}
        for node, values in self.constants.items():
            for parent, value in zip(node.parents, values):
                if parent is not None and not isinstance(parent, Node):
                    self.leaves[parent] = value if node in kept else _unwritten(node, parent)

    def run(self, instead: Callable[[Any, Any], Any] | None = None) -> dict[Node, Any]:
        """The values of all nodes, arrays; ``instead(node or leaf, value)`` may replace any."""
        change = instead or (lambda what, value: value)
        values: dict[Any, Any] = {leaf: change(leaf, v) for leaf, v in self.leaves.items()}
        with no_grad(), xp.errstate(all="ignore"):
            for node in self.nodes:
                if _is_part(node):
                    result = values[node.parents[0]][node.op.number]
                else:
                    result = _arrays(evaluated(node, self.operands(node, values)))
                values[node] = change(node, result)
        return values

    def operands(self, node: Node, values: dict) -> list:
        """What an operation is given where nodes and leaves have ``values``."""
        return [
            constant if parent is None else values[parent]
            for parent, constant in zip(node.parents, self.constants[node])
        ]


def _unwritten(node: Node, leaf: Any) -> Any:
    """The value of a leaf, which must be the one that the node was given."""
    if leaf.storage.written > node.seq:
        raise NotKept(
            f"a leaf that {node.op.name} was given, at {node.source}, was overwritten since"
        )
    return widened(leaf.array)


def _arrays(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_arrays(r) for r in result)
    return result.array if isinstance(result, Tensor) else result


def _is_part(node: Node) -> bool:
    """Whether a node only hands on one of several results of a Function."""
    return isinstance(node.op, Output)


def _constants(node: Node, known: list | None) -> list:
    """The operands of a node; those that are results or leaves only if they are known."""
    if known is not None:
        return known
    if isinstance(node.op, Applied):
        raise NotKept(f"the graph does not keep what {node.op.name}, at {node.source}, was given")
    kept = node.op.operands(node)
    missing = [i for i, p in enumerate(node.parents) if p is None and i not in kept]
    if missing:
        raise NotKept(
            f"the graph does not keep the constant that {node.op.name} was given at {node.source}"
        )
    return [widened(kept.get(i)) for i in range(len(node.parents))]
