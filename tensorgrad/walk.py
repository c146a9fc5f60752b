"""A recorded graph in float64, with derivatives in both directions.

The gradients come down from a root; a small change of one element is pushed up to it. Pushing is
the transpose of a vjp, which is linear in the gradient that it is given: it is the derivative of
the vjp by that gradient, and so comes from the same formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .autograd.function import Applied, Output, Several
from .backend import xp as arrays_xp
from .core import Fused
from .engine import backward, unbroadcast
from .mode import set_detect_anomaly, set_grad_enabled
from .node import Node
from .replay import before, widened
from .variable import Bound, wrap


class Walk:
    """The graph below a loss in float64: the gradient of every node and leaf, and who uses it."""

    def __init__(self, root: Node) -> None:
        self.root = root
        # A Function with several results is reached through the node of each.
        self.nodes = [n for n in before(root) if n.dtype is not None]
        for node in map(owner_of, self.nodes):
            if node.saved is None:
                raise RuntimeError(
                    f"explain: backward() has freed what {node.op.name}, recorded at "
                    f"{node.source}, had saved; explain first, or call "
                    "backward(retain_graph=True)"
                )
        self.users: dict[Any, list[tuple[Node, int]]] = {self.root: []}
        for node in self.nodes:
            for i, parent in enumerate(owner_of(node).parents):
                if parent is not None:
                    self.users.setdefault(parent, []).append((node, i))
        self._pushes: dict[tuple[Node, int], Callable] = {}
        self.gradients = self._backward()

    def _backward(self) -> dict[Any, Any]:
        gradients: dict[Any, Any] = {self.root: arrays_xp.ones(self.root.shape)}
        for node in reversed(self.nodes):
            g = gradients.setdefault(node, arrays_xp.zeros(node.shape))
            for i, gi in self.pull(node, g).items():
                parent = owner_of(node).parents[i]
                gradients[parent] = gradients[parent] + gi if parent in gradients else gi
        for target in self.users:
            gradients.setdefault(target, arrays_xp.zeros(target.shape))
        return gradients

    def pull(self, node: Node, g: Any) -> dict[int, Any]:
        """The gradients of a node's arguments by their positions, from that of its result."""
        owner = owner_of(node)
        with (
            set_grad_enabled(False), set_detect_anomaly(False), arrays_xp.errstate(all="ignore"),
        ):  # fmt: skip
            if isinstance(owner.op, Applied):
                g = _part(node, g.astype(node.dtype))
                pulled = owner.op.pull(arrays_xp, g, owner, owner.values())
            else:
                pulled = owner.op.pull(arrays_xp, g, owner, widened(owner.values()))
        found = {}
        for i, gi in pulled:
            if owner.parents[i] is not None:
                gi = arrays_xp.asarray(gi, dtype="float64")
                shape = owner.parents[i].shape
                found[i] = gi if gi.shape == shape else unbroadcast(arrays_xp, gi, shape)
        return found

    def push(self, node: Node, i: int, change: Any) -> Any:
        """How the result of a node changes to first order with a change of its argument ``i``."""
        if (node, i) not in self._pushes:
            self._pushes[node, i] = self._pusher(node, i)
        return self._pushes[node, i](change)

    def _pusher(self, node: Node, i: int) -> Callable[[Any], Any]:
        """The pull is linear in g, and this is its transpose: its derivative by g."""
        owner = owner_of(node)
        if isinstance(owner.op, Applied):
            return lambda change: self._pushed_by_element(node, i, change)
        start = wrap(arrays_xp.zeros(node.shape))
        start.needs_grad = True
        with set_grad_enabled(True), set_detect_anomaly(False), arrays_xp.errstate(all="ignore"):
            pulled = dict(owner.op.pull(Bound.ops, start, owner, _opened(owner)))
        out = pulled.get(i)
        if out is None:
            return lambda change: arrays_xp.zeros(node.shape)

        def push(change: Any) -> Any:
            along = wrap(arrays_xp.broadcast_to(change, out.shape))
            with arrays_xp.errstate(all="ignore"):
                (found,) = backward([out], [along], inputs=[start], retain_graph=True)
            return arrays_xp.zeros(node.shape) if found is None else widened(found.array)

        return push

    def _pushed_by_element(self, node: Node, i: int, change: Any) -> Any:
        """For a user's Function, whose backward need not be made of recorded operations."""
        result = arrays_xp.zeros(math.prod(node.shape))
        for k in range(result.size):
            row = self.pull(node, unit(k, node.shape)).get(i, 0.0)
            result[k] = arrays_xp.sum(row * change)
        return result.reshape(node.shape)


def owner_of(node: Node) -> Node:
    """The node whose formulas give the gradients: of one of several results, the Function's."""
    return node.parents[0] if isinstance(node.op, Output) else node


def _part(node: Node, g: Any) -> Any:
    """The gradient of one of several results, as the Function takes it."""
    if not isinstance(node.op, Output):
        return g
    return Several(len(owner_of(node).op.outputs), {node.op.number: g})


def _opened(node: Node) -> Sequence:
    """What a node has saved as tensors of float64 without a history."""
    saved = widened(node.values())
    if isinstance(node.op, Fused):
        n = len(node.parents)
        return [*(_leaf(v, p is not None) for v, p in zip(saved, node.parents)), *saved[n:]]
    kinds = [what for what, _ in node.plan.keep]
    return [_leaf(v) if k in ("input", "output") else v for k, v in zip(kinds, saved)]


def _leaf(value: Any, needs_grad: bool = False) -> Any:
    if not isinstance(value, arrays_xp.ndarray):
        return value
    tensor = wrap(value)
    tensor.needs_grad = needs_grad and value.dtype.kind == "f"
    return tensor


def unit(position: int, shape: Sequence[int]) -> Any:
    """Zeros of ``shape`` with a 1 at a flat position."""
    made = arrays_xp.zeros(math.prod(shape))
    made[position] = 1
    return made.reshape(shape)
