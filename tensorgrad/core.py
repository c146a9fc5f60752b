"""The chain rule: what an op is, how its applications are recorded, and the backward pass.

No formula stands here. An :class:`Op` knows its forward function and one vector-Jacobian product
(vjp) per differentiable argument; calling it on tensors records a :class:`Node`; :func:`backward`
walks the nodes from last to first and evaluates the vjps.

The same vjp runs under two interpreters. ``xp`` is the array namespace and the values are raw
arrays in an ordinary backward pass; with ``create_graph=True`` it is ``tensorgrad.ops`` and the
values are Tensors, so that derivatives can be differentiated again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import errors
from .backend import is_view_of, kernels, overlap, promote
from .backend import xp as arrays_xp
from .mode import set_grad_enabled
from .mode import state as mode
from .variable import Array, Bound, Storage, Variable, tick, wrap

ndarray = arrays_xp.ndarray

registry: dict[str, Op] = {}


# --- ops ------------------------------------------------------------------------------------------


def _parameters(function: Callable) -> tuple[list[str], str | None, list[str]]:
    """The names of a function's tensors, of its ``*tensors`` if any, and of its parameters.

    In ``def reshape(xp, x, /, shape)`` the slash separates the tensors from the parameters;
    without one every positional argument is a tensor.
    """
    code = function.__code__  # inspect.signature would cost 20 µs for each of the formulas
    n, k = code.co_argcount, code.co_kwonlyargcount
    tensors = code.co_posonlyargcount or n
    variadic = code.co_varnames[n + k] if code.co_flags & 0x04 else None
    return list(code.co_varnames[:tensors]), variadic, list(code.co_varnames[tensors : n + k])


class Plan:
    """What recording an op keeps, and how its vjps are called, for one set of inputs.

    ``keep`` lists what to save, each as ``(what, which)``; a step is ``(argument, formula,
    places)``, with the places of the formula's values in what was saved.
    """

    __slots__ = ("keep", "steps", "keeps_values")

    def __init__(self, op: Op, mask: int) -> None:
        self.keep: list[tuple[str, Any]] = []
        self.steps: list[tuple[int, Callable, list[int]]] = []
        for i, formula in op.formulas_for(mask):
            places = []
            for name in _parameters(formula)[0][2:]:
                item = op.resolve(name, i)
                if item not in self.keep:
                    self.keep.append(item)
                places.append(self.keep.index(item))
            self.steps.append((i, formula, places))
        self.keeps_values = any(what in ("input", "output") for what, _ in self.keep)


class Op:
    """A function of arrays with its derivatives; made by :func:`op`, called on Tensors.

    Its arguments are tensors or Python numbers, then parameters. A vjp names exactly the values it
    needs: ``xp`` and ``g`` first, then any of ``y`` (the output), an argument,
    ``<argument>_shape``, a parameter; a node keeps alive only what was named.
    A variadic op's formula may also name ``i``, its argument's position, and ``shapes``.
    """

    kernel: Callable | None = None  # of a fused op: values, params → the result and what to save

    def __init__(
        self, forward: Callable, *, samples: Callable, view: bool, promotes: str | None
    ) -> None:
        positional, self.variadic, keywords = _parameters(forward)
        self.forward = forward
        self.name = forward.__name__.rstrip("_")
        self.__doc__ = forward.__doc__
        self.__name__ = self.name
        self.arguments = positional[1:]
        self.keywords = keywords
        defaults = forward.__defaults__ or ()
        self.defaults = dict(zip(keywords[-len(defaults) :], defaults)) if defaults else {}
        self.defaults.update(forward.__kwdefaults__ or {})
        self.samples = samples
        self.view = view
        self.promotes = promotes
        self.formulas: dict[str, Callable] = {}
        self.differentiable = 0  # a bit for each argument that has a vjp
        self._plans: dict[int, Plan] = {}
        self.apply = self.function()

    def vjp(self, *formulas: Callable | None) -> Op:
        """Give one formula per argument, in order; None for one that has no derivative."""
        self._plans.clear()
        names = [self.variadic] if self.variadic else self.arguments
        for i, (name, formula) in enumerate(zip(names, formulas, strict=True)):
            if formula is not None:
                self.formulas[name] = formula
                self.differentiable |= -1 if self.variadic else 1 << i
        return self

    def formulas_for(self, mask: int) -> Iterable[tuple[int, Callable]]:
        """(position, formula) of every argument whose bit is set."""
        for i in range(mask.bit_length()):
            if mask >> i & 1:
                name = self.variadic or self.arguments[i]
                if name not in self.formulas:
                    raise RuntimeError(f"{self.name} has no derivative with respect to {name!r}")
                yield i, self.formulas[name]

    def resolve(self, name: str, position: int) -> tuple[str, Any]:
        """Where a formula's value called ``name`` comes from."""
        if name == "y":
            return "output", None
        if name in self.arguments:
            return "input", self.arguments.index(name)
        if name.endswith("_shape") and name[:-6] in self.arguments:
            return "shape", self.arguments.index(name[:-6])
        if name in self.keywords:
            return "param", name
        if self.variadic and name in ("i", "shapes"):
            return name, position if name == "i" else None
        raise TypeError(f"a vjp of {self.name} names {name!r}, which is none of its values")

    def plan(self, mask: int) -> Plan:
        if mask not in self._plans:
            self._plans[mask] = Plan(self, mask)
        return self._plans[mask]

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __call__(self, *args: Any, **params: Any) -> Any:
        return self.apply(*args, **params)

    def bind(self, args: tuple, params: dict) -> tuple:
        """Put parameters that were given by position among ``params``; returns the tensors."""
        n = len(self.arguments)
        if len(args) > n + len(self.keywords):
            raise TypeError(f"{self.name} takes no {len(args)} arguments")
        params.update(zip(self.keywords, args[n:]))
        return args[:n]

    def function(self) -> Callable:
        """What the user calls: checks, evaluates, records.

        A closure and not a method, for it is also put into class Tensor, where Python calls plain
        functions several times as fast as objects. Every line here is paid for by every operation.
        """
        op, forward, kernel, plans = self, self.forward, self.kernel, self._plans
        defaults, promotes, view = self.defaults, self.promotes, self.view
        most = len(self.arguments) if not self.variadic else float("inf")
        new = object.__new__

        def apply(*args: Any, **params: Any) -> Any:
            if len(args) > most:
                args = op.bind(args, params)
            if defaults:
                params = {**defaults, **params}
            mask, bit, uniform, dtype = 0, 1, True, None
            values, parents = [], []
            for a in args:
                parent = None
                if isinstance(a, Variable):
                    if a.needs_grad:
                        parent = a.node or a
                        mask |= bit
                    a = a.array
                    if a.dtype is not dtype:
                        uniform, dtype = dtype is None, a.dtype
                elif type(a) not in _NUMBERS:
                    a, uniform = _operand(a, op), False
                values.append(a)
                parents.append(parent)
                bit += bit
            if promotes and not (uniform and dtype and dtype.kind == "f"):
                values = op.promoted(values)
            try:
                if kernel is None:
                    y, extra = forward(arrays_xp, *values, **params), None
                else:
                    y, extra = kernel(values, params)
            except (ValueError, IndexError, TypeError) as error:
                raise errors.explained(op.name, values, bool(promotes), error) from None
            if type(y) is not ndarray:
                y = arrays_xp.asarray(y)
            tensor = new(Bound.tensor_type)
            tensor.array = y
            shares = view and isinstance(args[0], Variable) and is_view_of(y, values[0])
            tensor.storage = args[0].storage if shares else Storage()
            # Nothing flows through integers and bools.
            if mask and mode.recording and op.differentiable and y.dtype.kind == "f":
                plan = plans.get(mask) or op.plan(mask)
                tensor.node = node = Node(op, params, parents, plan, y)
                tensor.needs_grad = True
                op.save(node, values, y, extra, args, tensor.storage)
            if shares:
                args[0].adopt(tensor)
            return tensor

        apply.__name__ = apply.__qualname__ = self.name
        apply.__doc__ = self.__doc__
        apply.op, apply.vjp = self, self.vjp  # type: ignore[attr-defined]
        return apply

    def promoted(self, values: list) -> list:
        """The values in their common dtype."""
        if self.promotes == "tail":
            return [values[0], *promote(values[1:])]
        return promote(values, self.promotes == "float")

    def save(
        self, node: Node, values: list, y: Array, extra: Any, args: Sequence, storage: Storage
    ) -> None:
        """Keep in ``node`` what its vjps name, and the storages that must not be overwritten."""
        node.saved, node.guards = saved, guards = [], []
        for what, which in node.plan.keep:
            if what == "input":
                a = args[which]
                saved.append(values[which])
                guards.append(a.storage if isinstance(a, Variable) else None)
            elif what == "output":
                saved.append(y)
                guards.append(storage)
            else:
                saved.append(
                    node.params[which] if what == "param"
                    else getattr(values[which], "shape", ()) if what == "shape"
                    else [v.shape for v in values] if what == "shapes"
                    else which
                )  # fmt: skip
                guards.append(None)

    def pull(self, xp: Any, g: Any, node: Node, saved: Sequence) -> list[tuple[int, Any]]:
        """The gradients of the inputs, given that of the output: one vjp per input."""
        return [
            (i, formula(xp, g, *[saved[k] for k in places]))
            for i, formula, places in node.plan.steps
        ]


class Fused(Op):
    """A composite of ops with an optional kernel of the backend; made by :func:`fused`.

    The composite is the definition. A kernel ``name(...) -> (y, saved)`` with its
    ``name_vjp(g, inputs, saved, needs, **params)`` is a faster way to the same numbers. Under
    ``create_graph=True`` the composite is replayed on the inputs.
    """

    def function(self) -> Callable:
        apply = super().function()

        def apply_or_compose(*args: Any, **params: Any) -> Any:
            dtypes = {a.array.dtype for a in args if isinstance(a, Variable)}
            if kernels.find(self.name) is None or sum(d.kind == "f" for d in dtypes) != 1:
                return self.forward(Bound.ops, *args, **{**self.defaults, **params})
            return apply(*args, **params)

        apply_or_compose.__dict__.update(apply.__dict__)
        return apply_or_compose

    def plan(self, mask: int) -> Any:
        return None

    def kernel(self, values: list, params: dict) -> tuple[Array, Any]:
        kernel = kernels.find(self.name)
        assert kernel is not None  # __call__ has looked
        y, saved = kernel.forward(*values, **params)
        return y, (kernel, saved)

    def save(
        self, node: Node, values: list, y: Array, extra: Any, args: Sequence, storage: Storage
    ) -> None:
        node.saved = [values, *extra]
        node.guards = [a.storage if isinstance(a, Variable) else None for a in args]

    def pull(self, xp: Any, g: Any, node: Node, saved: Sequence) -> list[tuple[int, Any]]:
        needs = [p is not None for p in node.parents]
        values, kernel, extra = saved
        if xp is arrays_xp:
            grads = kernel.vjp(g, values, extra, needs, **node.params)
        else:
            # Aliases make every input a node of its own: the derivative asked for is the partial
            # one, also when one input was computed from another.
            inputs = [xp.alias(v) if n else v for v, n in zip(values, needs, strict=True)]
            y = self.forward(xp, *inputs, **node.params)
            wanted = [v for v, n in zip(inputs, needs, strict=True) if n]
            found = iter(backward([y], [g], inputs=wanted, create_graph=True, retain_graph=True))
            grads = [next(found) if n else None for n in needs]
        return [(i, grads[i]) for i, n in enumerate(needs) if n and grads[i] is not None]


def op(
    *, samples: Callable, view: bool = False, promotes: str | None = None
) -> Callable[[Callable], Any]:
    """Register a function of ``(xp, *arrays, **params)`` as an op.

    Args:
        samples: called with a random source, yields ``(arguments, params)`` pairs; they feed every
            automatic check, so there is no op without them.
        view: the result may share memory with the first argument.
        promotes: ``"same"`` to cast the arguments to their common dtype, ``"float"`` to make that
            a float dtype, ``"tail"`` to leave out the first argument (a condition).
    """

    def register(forward: Callable) -> Any:
        return _register(Op(forward, samples=samples, view=view, promotes=promotes))

    return register


def fused(*, samples: Callable) -> Callable[[Callable], Any]:
    """Register a composite of ops that the backend may have a kernel for."""

    def register(forward: Callable) -> Any:
        made = Fused(forward, samples=samples, view=False, promotes=None)
        made.differentiable = -1  # every argument, through the composite
        return _register(made)

    return register


def _register(made: Any) -> Any:
    if made.name in registry:
        raise ValueError(f"the op {made.name} is registered twice")
    registry[made.name] = made
    return made.apply


_NUMBERS = frozenset((float, int, bool))


def _operand(value: Any, op: Op) -> Any:
    """Anything but a tensor or a plain Python number, as an op takes it."""
    if isinstance(value, arrays_xp.generic):
        value = value.item()  # a weak number as in PyTorch, not a strong NumPy scalar
    if isinstance(value, (ndarray, int, float)) or (value is None and isinstance(op, Fused)):
        return value
    raise TypeError(
        f"{op.name}: expected a tensor or a number, got {type(value).__name__}; "
        "tensorgrad.tensor(...) makes a tensor of nested lists and arrays"
    )


# --- the recorded graph and the backward pass -----------------------------------------------------


class Node:
    """One recorded application of an op.

    ``parents`` has for each argument the node or leaf that its gradient goes to, or None.
    """

    __slots__ = ("seq", "op", "params", "parents", "plan", "shape", "dtype", "saved", "guards",
                 "__weakref__")  # fmt: skip

    def __init__(self, op: Op, params: dict, parents: list, plan: Any, y: Array) -> None:
        self.seq = tick()
        self.op = op
        self.params = params
        self.parents = parents
        self.plan = plan  # None for a fused op, which keeps its inputs
        self.shape = y.shape
        self.dtype = y.dtype
        self.saved: Sequence | None
        self.guards: Sequence[Storage | None]  # for each value saved, where it lies

    def __repr__(self) -> str:
        return f"<{self.op.name} {list(self.shape)}>"

    def values(self) -> Sequence:
        """What was saved, after checking that it is still there and was not overwritten."""
        if self.saved is None:
            raise errors.freed(self.op.name)
        for storage in self.guards:
            if storage is not None and storage.written > self.seq:
                raise errors.overwritten(self.op.name, self.shape, storage.writer)
        return self.saved

    def keep_copies(self, array: Array, storage: Storage) -> None:
        """Save copies of what lies in ``array``, which is about to be overwritten."""
        if self.saved is not None and storage in self.guards:
            self.saved = [
                s.copy() if isinstance(s, ndarray) and overlap(s, array) else s for s in self.saved
            ]
            self.guards = [s if s is not storage else None for s in self.guards]

    def release(self) -> None:
        """Let go of the saved arrays."""
        if self.plan is None or self.plan.keeps_values:
            self.saved, self.guards = None, ()

    def reopened(self) -> Sequence:
        """The saved values as Tensors with their history, for ``create_graph=True``."""
        saved = self.values()
        if self.plan is None:  # a fused op: the inputs
            inputs = [self._tensor(v, i, s) for i, (v, s) in enumerate(zip(saved[0], self.guards))]
            return [inputs, *saved[1:]]
        reopened = []
        for (what, which), value, storage in zip(self.plan.keep, saved, self.guards, strict=True):
            if what == "output":
                value = wrap(value, self, storage)
            elif what == "input":
                value = self._tensor(value, which, storage)
            reopened.append(value)
        return reopened

    def _tensor(self, value: Any, position: int, storage: Storage | None) -> Any:
        if not isinstance(value, ndarray):
            return value
        parent = self.parents[position]
        if parent is None or isinstance(parent, Node):
            return wrap(value, parent, storage)
        if parent.array is value:
            return parent
        # The leaf was cast, or given other data since: link to it, with the value seen then.
        tensor = Bound.ops.alias(parent)
        tensor.array, tensor.storage = value, storage
        return tensor


def _unbroadcast(xp: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which its input was repeated."""
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        i for i, n in enumerate(shape, extra) if n == 1 != g.shape[i]
    )
    return xp.reshape(xp.sum(g, axis=axes), shape)


def _leading_to(roots: Iterable[Node], targets: set[int]) -> set[Node]:
    """The nodes between ``roots`` and the targets (given by id), targets included."""
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(p for p in node.parents if isinstance(p, Node))
    needed: set[Node] = set()
    for node in sorted(seen, key=lambda n: n.seq):
        if id(node) in targets or any(id(p) in targets or p in needed for p in node.parents):
            needed.add(node)
    return needed


def backward(
    roots: Sequence[Any],
    gradients: Sequence[Any],
    *,
    inputs: Sequence[Any] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[Any]:
    """The reverse pass from ``roots``, whose gradients are given, with no recursion.

    Without ``inputs`` every leaf's gradient is added to its ``.grad``. With them, only the way to
    them is walked, and their gradients are returned (None where there is no way).
    """
    xp: Any = Bound.ops if create_graph else arrays_xp
    found: dict[int, Any] = {}
    needed: set[Node] | None = None
    if inputs is not None:
        targets = {id(t.node or t) for t in inputs}
        needed = _leading_to([r.node for r in roots if r.node], targets)

    pending: dict[Node, Any] = {}  # gradients of nodes not yet visited
    owned: set[Node] = set()  # those whose pending gradient nobody else can see
    queue: list[tuple[int, Node]] = []  # latest first

    def ours(g: Any, fresh: bool) -> Any:
        """``g`` for the caller, who may write into it."""
        return g if fresh or create_graph else arrays_xp.array(g)

    def receive(to: Any, g: Any, fresh: bool) -> None:
        """Add ``g`` to the gradient of a node or leaf; ``fresh``: ``g`` is ours to keep."""
        if isinstance(g, arrays_xp.Scattered):
            if to in owned:
                g.add_to(pending[to])
                return
            g, fresh = arrays_xp.asarray(g), True
        if g.shape != to.shape:
            g, fresh = _unbroadcast(xp, g, to.shape), not create_graph
        dtype = to.dtype if isinstance(to, Node) else to.array.dtype
        if g.dtype is not dtype and g.dtype != dtype:
            g, fresh = xp.astype(g, dtype), not create_graph
        if not isinstance(to, Node):
            if inputs is None:
                _accumulate(to, g, fresh, create_graph)
            elif id(to) in targets:
                found[id(to)] = found[id(to)] + g if id(to) in found else ours(g, fresh)
        elif to not in pending:
            if needed is not None and to not in needed:
                return
            pending[to] = g
            if fresh and type(g) is ndarray:
                owned.add(to)
            heapq.heappush(queue, (-to.seq, to))
        elif to in owned:
            arrays_xp.add(pending[to], g, out=pending[to])
        else:
            pending[to] = total = pending[to] + g
            if type(total) is ndarray:  # not a Tensor, nor a NumPy scalar
                owned.add(to)

    with set_grad_enabled(create_graph), arrays_xp.errstate(all="ignore"):
        for root, g in zip(roots, gradients, strict=True):
            receive(root.node or root, g if create_graph else g.array, False)
        while queue:
            node = heapq.heappop(queue)[1]
            g = pending.pop(node)
            if needed is not None and id(node) in targets:
                found[id(node)] = ours(g, node in owned)
            saved = node.reopened() if create_graph else node.values()
            for i, gi in node.op.pull(xp, g, node, saved):
                parent = node.parents[i]
                if parent is not None:
                    fresh = type(gi) is ndarray and gi.base is None and gi is not g
                    receive(parent, gi, fresh)
            if not retain_graph:
                del saved
                node.release()
    results = [found.get(id(t.node or t)) for t in inputs or ()]
    return [r if r is None or create_graph else wrap(arrays_xp.asarray(r)) for r in results]


def _accumulate(leaf: Any, g: Any, fresh: bool, create_graph: bool) -> None:
    if create_graph:
        leaf.grad = Bound.ops.clone(g) if leaf.grad is None else leaf.grad + g
    elif leaf.grad is None:
        leaf.grad = wrap(arrays_xp.asarray(g) if fresh else arrays_xp.array(g))
    elif leaf.grad.needs_grad:
        leaf.grad = leaf.grad + wrap(arrays_xp.asarray(g))
    else:
        arrays_xp.add(leaf.grad.array, g, out=leaf.grad.array)
        leaf.grad.wrote("the accumulation of gradients")


def grad_of(tensor: Any, gradient: Any | None, name: str = "backward") -> Any:
    """The gradient to start from at ``tensor``: the one given, or 1 for a single element."""
    if not tensor.needs_grad:
        raise errors.no_history(name)
    if gradient is None:
        if tensor.array.size != 1:
            raise errors.wrong_gradient(name, tensor.shape, None)
        return wrap(arrays_xp.ones_like(tensor.array))
    if not isinstance(gradient, Variable):
        raise TypeError(f"{name}: a gradient must be a tensor, not {type(gradient).__name__}")
    if gradient.shape != tensor.shape:
        raise errors.wrong_gradient(name, tensor.shape, gradient.shape)
    return gradient
