"""Functions with a backward of their own: :class:`Function`.

An application is recorded as one node, whose op is made for the occasion. With several outputs
there is one more node for each, which hands the output's gradient to the function's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any
from weakref import ref

from .. import anomaly, errors
from ..backend import xp as arrays_xp
from ..mode import enable_grad, no_grad, watching
from ..mode import state as mode
from ..node import Node, linked
from ..tensor import Tensor
from ..variable import wrap


class FunctionCtx:
    """What the forward of a :class:`Function` leaves to its backward; takes any attributes too."""

    needs_input_grad: tuple[bool, ...] = ()  # for each argument of apply()
    materialize_grads = True
    to_save: tuple = ()
    dirty: tuple = ()
    non_differentiable: tuple = ()
    node: Callable[[], Node | None] | None = None  # a weak reference: the node has the context

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors, arguments and outputs above all, for ``saved_tensors`` in backward.

        They are freed with the graph, and a write in place since is noticed. As an attribute of
        the context an output would keep itself alive.
        """
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward: argument {i} is a {type(t).__name__}, not a tensor; make "
                    "it an attribute of the context"
                )
        self.to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """No effect: there is no forward mode."""

    @property
    def saved_tensors(self) -> tuple:
        """The tensors given to :meth:`save_for_backward`, with their history."""
        node = self.node and self.node()
        if not node:
            return self.to_save
        return node.op.saved_tensors(node)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which arguments forward has overwritten in place; it must return them."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say through which outputs no gradient flows. Integers and bools need not be named."""
        self.non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward is given zeros (the default) or None for an output that is not used."""
        self.materialize_grads = value


class Function:
    """A function of tensors that says itself what its derivative is.

    A subclass defines two static methods. ``forward(ctx, *args)`` computes; nothing is recorded
    meanwhile. ``backward(ctx, *gradients)`` takes a gradient per output and returns one per
    argument, None for what has none. Its operations are recorded under ``create_graph``, so that
    it can be differentiated again. A forward without ``ctx`` is followed by a third static method,
    ``setup_context(ctx, inputs, output)``. ``apply`` calls it all.

    >>> import tensorgrad
    >>> class Cube(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x * x * g
    >>> x = tensorgrad.tensor(2.0, requires_grad=True)
    >>> tensorgrad.grad(Cube.apply(x), x)
    (tensor(12.),)
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function needs a static method forward")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> Any:
        raise NotImplementedError("setup_context is for a Function whose forward takes no ctx")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("a Function needs a static method backward (or vjp)")

    @staticmethod
    def vjp(ctx: Any, *gradients: Any) -> Any:
        """Another name for backward."""
        raise NotImplementedError("a Function needs a static method backward (or vjp)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Call the function, and record the call if an argument requires grad."""
        ctx = FunctionCtx()
        sources = [(a.node or a) if isinstance(a, Tensor) and a.needs_grad else None for a in args]
        ctx.needs_input_grad = tuple(source is not None for source in sources)
        watcher, node = mode.watcher, None
        with no_grad(), watching(None) if watcher else nullcontext():  # one operation, for it
            if cls.setup_context is Function.setup_context:
                output = cls.forward(ctx, *args)
            else:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
        given = output if isinstance(output, tuple) else (output,)
        if any(not any(t is o for o in given) for t in ctx.dirty):
            raise RuntimeError(
                f"{cls.__name__}: forward must return every tensor that it has marked as dirty"
            )
        for t in ctx.dirty:
            t.wrote(cls.__name__)
        outputs = [_result(o, args, ctx) for o in given]
        if mode.recording and any(ctx.needs_input_grad):
            node = _record(cls, ctx, args, sources, outputs, given)
        if watcher is not None:
            watcher.applied(cls.__name__, args, outputs, node)
        ctx.to_save = ctx.dirty = ctx.non_differentiable = ()
        return tuple(outputs) if isinstance(output, tuple) else outputs[0]


def _result(output: Any, args: tuple, ctx: FunctionCtx) -> Any:
    """An output as a tensor that can be given a history: not an argument, unless overwritten."""
    if not isinstance(output, Tensor) or any(output is t for t in ctx.dirty):
        return output
    if output.node is None and not output.needs_grad and not any(output is a for a in args):
        return output
    return wrap(output.array, None, output.storage)


def _record(
    cls: type[Function],
    ctx: FunctionCtx,
    args: tuple,
    sources: list,
    outputs: list,
    given: tuple,
) -> Node:
    """Make the node of an application, and give its outputs their history."""
    saved = [(t, _origin(t, outputs, given)) for t in ctx.to_save]
    op = Applied(cls, ctx, args, outputs, [origin for _, origin in saved])
    flows = [
        isinstance(o, Tensor)
        and o.is_floating_point()
        and not any(given[k] is t for t in ctx.non_differentiable)
        for k, o in enumerate(outputs)
    ]
    alone = len(outputs) == 1 and flows[0]
    node = Node(op, {}, sources, op, outputs[0].array if alone else Several(len(outputs)))
    node.saved = [None if t is None else t.array for t, _ in saved]
    node.guards = [None if t is None else t.storage for t, _ in saved]
    if any(storage is not None and storage.inference for storage in node.guards):
        raise errors.inference_saved(op.name)
    ctx.node = ref(node)
    for k, (o, flowing) in enumerate(zip(outputs, flows, strict=True)):
        if flowing:
            now = wrap(o.array, node if alone else _output_node(node, k, o.array), o.storage)
            if any(o is t for t in ctx.dirty):
                with enable_grad():
                    histories = o._histories(now, op.name)
                for tensor, history in histories:
                    tensor.relink(history)
            else:
                o.node, o.needs_grad = now.node, True
            if mode.checking:
                anomaly.check_result(node, o, args, {})
    return node


def _origin(tensor: Tensor | None, outputs: list, given: tuple) -> Any:
    """Where the gradient of a saved tensor goes: the number of an output, or a node or leaf."""
    if tensor is None:
        return None
    for k, o in enumerate(outputs):
        if tensor is o or (tensor is given[k] and not tensor.needs_grad and tensor.node is None):
            return k
    return tensor.node or (tensor if tensor.needs_grad else None)


class Several:
    """The gradients of a function with several outputs, by their number, and their shape."""

    dtype, strides = None, ()

    def __init__(self, count: int, parts: dict[int, Any] | None = None) -> None:
        self.shape = (f"{count} outputs",)
        self.count, self.parts = count, parts or {}

    def __add__(self, other: Several) -> Several:
        total = dict(self.parts)
        for k, g in other.parts.items():  # a saved output has a second node under create_graph
            total[k] = total[k] + g if k in total else g
        return Several(self.count, total)


class Applied:
    """The op of one application of a Function; also the plan of its node."""

    view = False
    defaults: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionCtx,
        args: tuple,
        outputs: list,
        origins: list,
    ) -> None:
        self.name = function.__name__
        self.function, self.ctx, self.origins = function, ctx, origins
        code = getattr(function.forward, "__code__", None)
        names = code.co_varnames[: code.co_argcount] if code else ()
        self.arguments = names[function.setup_context is Function.setup_context :]
        self.shapes = [a.shape if isinstance(a, Tensor) else None for a in args]
        self.outputs = [(o.shape, o.dtype) if isinstance(o, Tensor) else None for o in outputs]
        self.keeps_values = bool(origins)

    def saved_tensors(self, node: Node) -> tuple:
        return tuple(
            linked(value, self._source(node, origin, value), storage)
            for value, origin, storage in zip(node.values(), self.origins, node.guards)
        )

    def _source(self, node: Node, origin: Any, value: Any) -> Any:
        if not isinstance(origin, int):
            return origin
        if value.dtype.kind != "f":
            return None
        return node if len(self.outputs) == 1 else _output_node(node, origin, value)

    def reopened(self, node: Node) -> Sequence:
        return node.values()  # the context opens them

    def kept(self, node: Node, saved: Sequence) -> list[tuple[str, Any]]:
        return [(f"saved_tensors[{i}]", v) for i, v in enumerate(saved) if v is not None]

    def pull(self, xp: Any, g: Any, node: Node, saved: Sequence) -> list[tuple[int, Any]]:
        """The gradients that the user's backward returns."""
        parts = g.parts if isinstance(g, Several) else {0: g}
        starts = [self._start(parts.get(k), meta) for k, meta in enumerate(self.outputs)]
        overridden = self.function.backward is not Function.backward
        backward = self.function.backward if overridden else self.function.vjp
        found = backward(self.ctx, *starts)
        found = list(found) if isinstance(found, (tuple, list)) else [found]
        wanted = len(self.shapes)
        if len(found) > wanted and all(f is None for f in found[wanted:]):
            del found[wanted:]
        if len(found) != wanted:
            raise RuntimeError(
                f"{self.name}: backward must return as many gradients as forward has arguments: "
                f"expected {wanted}, got {len(found)}"
            )
        for i, f in enumerate(found):
            self._check(i, f)
        pulled = [
            (i, f) for i, f in enumerate(found) if f is not None and node.parents[i] is not None
        ]
        if xp is arrays_xp:  # as views, for the arrays may belong to the user
            return [(i, f.array[...]) for i, f in pulled]
        return pulled

    def _start(self, g: Any, meta: tuple | None) -> Tensor | None:
        """The gradient of an output as backward is given it."""
        if g is not None:
            return g if isinstance(g, Tensor) else wrap(arrays_xp.asarray(g))
        if meta is None or not self.ctx.materialize_grads:
            return None
        return wrap(arrays_xp.zeros(*meta))

    def _check(self, i: int, g: Any) -> None:
        if g is None:
            return
        if not isinstance(g, Tensor):
            raise RuntimeError(
                f"{self.name}: backward must return tensors or None, gradient {i} is a "
                f"{type(g).__name__}"
            )
        shape = self.shapes[i]
        if shape is None:
            raise RuntimeError(
                f"{self.name}: backward must return None for argument {i}, which is no tensor"
            )
        tail = tuple(g.shape)[len(g.shape) - len(shape) :]
        if len(g.shape) < len(shape) or any(n not in (1, m) for n, m in zip(shape, tail)):
            raise RuntimeError(
                f"{self.name}: backward has returned a gradient of shape {tuple(g.shape)} for "
                f"argument {i}, which has shape {tuple(shape)}"
            )


class Output:
    """The op of one of several outputs: its gradient is a part of the function's."""

    view = True
    keeps_values = False
    arguments = ()
    defaults: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = f"{name}[{number}]", number

    def reopened(self, node: Node) -> Sequence:
        return ()

    def kept(self, node: Node, saved: Sequence) -> list[tuple[str, Any]]:
        return []

    def pull(self, xp: Any, g: Any, node: Node, saved: Sequence) -> list[tuple[int, Any]]:
        count = len(node.parents[0].op.outputs)
        return [(0, Several(count, {self.number: g}))]


def _output_node(node: Node, number: int, like: Any) -> Node:
    op = Output(node.op.name, number)
    made = Node(op, {}, [node], op, like)
    made.saved, made.guards = [], ()
    return made


def once_differentiable(function: Callable) -> Callable:
    """For a backward that cannot be differentiated itself: a second derivative raises."""

    @functools.wraps(function)
    def backward(ctx: Any, *gradients: Any) -> Any:
        with no_grad():
            found = function(ctx, *gradients)
        if not any(isinstance(g, Tensor) and g.needs_grad for g in gradients):
            return found
        given = found if isinstance(found, tuple) else (found,)
        marked = _Once.apply(len(given), *given, *gradients)
        return marked if isinstance(found, tuple) else marked[0]

    return backward


class _Once(Function):
    """The first of its arguments, as functions of all of them that have no derivative."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Any) -> Any:
        return tensors[:count]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(
            "a second derivative through a backward marked once_differentiable; without the mark "
            "its operations are recorded"
        )


__all__ = ["Function", "FunctionCtx", "once_differentiable"]
