"""The recorded graph: one :class:`Node` for each application of an op, pointing to its inputs'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sys import _getframe
from types import CodeType
from typing import TYPE_CHECKING, Any

from . import errors
from .backend import overlap, xp
from .source import OUTSIDE, line, user_frame
from .variable import Array, Bound, Storage, tick, wrap

if TYPE_CHECKING:
    from .hooks import Hooks


class Node:
    """One recorded application of an op.

    ``parents`` has for each argument the node or leaf that its gradient goes to, or None.
    ``strides`` tell how its result lay in memory, and a gradient should, so that the gradients of
    views are views.
    """

    __slots__ = ("seq", "op", "params", "parents", "plan", "shape", "strides", "dtype", "saved",
                 "guards", "code", "offset", "hooks", "__weakref__")  # fmt: skip

    hooks: Hooks  # unset unless there are any

    def __init__(self, op: Any, params: dict, parents: list, plan: Any, y: Any) -> None:
        self.seq = tick()
        self.op = op
        self.params = params
        self.parents = parents
        self.plan = plan
        self.shape = y.shape
        self.strides = y.strides
        self.dtype = y.dtype
        self.saved: Any  # a list; None when freed; of a checkpoint, how to get it again
        self.guards: Sequence[Storage | None]  # for each value saved, where it lies
        # The user's line, which source.here() finds too; in line, for every operation pays for it.
        try:
            frame: Any = _getframe(2)
            self.code: CodeType | None = frame.f_code
            if self.code.co_filename not in OUTSIDE:
                frame = user_frame(frame)
                self.code = frame.f_code
            self.offset = frame.f_lasti
        except (AttributeError, ValueError):  # nobody's: called from C
            self.code, self.offset = None, 0

    def __repr__(self) -> str:
        return f"<{self.op.name} {list(self.shape)}>"

    def name(self) -> str:
        """The name of the op."""
        return self.op.name

    @property
    def source(self) -> str:
        """``file:line`` of the user's program where this was recorded."""
        return line(self.code, self.offset)

    @property
    def next_functions(self) -> tuple[tuple[Node | AccumulateGrad | None, int], ...]:
        """For each argument where its gradient goes, and which output of that it belongs to."""
        return tuple(
            (p if p is None or isinstance(p, Node) else AccumulateGrad(p), 0) for p in self.parents
        )

    def values(self) -> list:
        """What was saved, after checking that it is still there and was not overwritten."""
        saved = self.saved
        if saved is None:
            raise errors.freed(self.op.name, self.source)
        for storage in self.guards:
            if storage is not None and storage.written > self.seq:
                wrote = line(*(storage.place or (None, 0)))
                raise errors.overwritten(
                    self.op.name, self.shape, self.source, storage.writer, wrote
                )
        if type(saved) is not list:
            self.saved = saved = saved.recalled()
        return saved

    def keep_copies(self, array: Array, storage: Storage) -> None:
        """Save copies of what lies in ``array``, which is about to be overwritten."""
        if type(self.saved) is list and storage in self.guards:
            self.saved = [
                s.copy() if isinstance(s, xp.ndarray) and overlap(s, array) else s
                for s in self.saved
            ]
            self.guards = [s if s is not storage else None for s in self.guards]

    def release(self) -> None:
        """Let go of the saved arrays."""
        self.saved, self.guards = None, ()

    def input(self, value: Any, position: int, storage: Storage | None) -> Any:
        """The saved value of an argument as a Tensor with its history."""
        return linked(value, self.parents[position], storage)


class AccumulateGrad:
    """Where a gradient ends: it is added to the ``.grad`` of ``variable``, a leaf."""

    next_functions = ()

    def __init__(self, variable: Any) -> None:
        self.variable = variable

    def name(self) -> str:
        return "AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad {list(self.variable.shape)}>"


def linked(value: Any, source: Any, storage: Storage | None) -> Any:
    """A saved array as the Tensor it was, whose gradient goes to ``source``: a node or leaf."""
    if not isinstance(value, xp.ndarray):
        return value
    if source is None or isinstance(source, Node):
        return wrap(value, source, storage)
    if source.array is value:
        return source
    # The leaf was cast, or given other data since: link to it, with the value seen then.
    tensor = Bound.ops.alias(source)
    tensor.array, tensor.storage = value, storage
    return tensor


def recorded(tensors: Iterable[Any], since: int = 0) -> list[Node]:
    """All operations that led to the tensors, in the order in which they were executed."""
    seen: set[Node] = set()
    stack = [t.node for t in tensors if t.node is not None]
    while stack:
        node = stack.pop()
        if node not in seen and node.seq > since:
            seen.add(node)
            stack.extend(p for p in node.parents if isinstance(p, Node))
    return sorted(seen, key=lambda n: n.seq)


def leaves(tensors: Iterable[Any], nodes: Iterable[Node]) -> dict[int, Any]:
    """The leaves that tensors were computed from by ``nodes``, by their id."""
    found = {id(t): t for t in tensors if t.node is None and t.needs_grad}
    for node in nodes:
        found.update((id(p), p) for p in node.parents if p is not None and type(p) is not Node)
    return found
