"""What an op is, and how its applications are evaluated and recorded.

No formula stands here. An :class:`Op` knows its forward function and one vector-Jacobian product
(vjp) per differentiable argument; calling it on tensors records a :class:`Node`;
:func:`~tensorgrad.engine.backward` walks the nodes from last to first and evaluates the vjps.

The same vjp runs under two interpreters. ``xp`` is the array namespace and the values are raw
arrays in an ordinary backward pass; with ``create_graph=True`` it is ``tensorgrad.ops`` and the
values are Tensors, so that derivatives can be differentiated again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import anomaly, errors
from .backend import is_view_of, kernels, promote
from .backend import xp as arrays_xp
from .engine import backward
from .mode import state as mode
from .mode import unusual
from .node import Node
from .variable import Array, Bound, InferenceStorage, Storage, Variable, wrap

ndarray = arrays_xp.ndarray

registry: dict[str, Op] = {}


# --- ops ------------------------------------------------------------------------------------------


def _parameters(function: Callable) -> tuple[list[str], str | None, list[str]]:
    """The names of a function's tensors, of its ``*tensors`` if any, and of its parameters.

    In ``def reshape(xp, x, /, shape)`` the slash separates the tensors from the parameters;
    without one every positional argument is a tensor.
    """
    # (inspect.signature would cost 20 µs for each of the formulas.)
    code = getattr(function, "__wrapped__", function).__code__
    n, k = code.co_argcount, code.co_kwonlyargcount
    tensors = code.co_posonlyargcount or n
    variadic = code.co_varnames[n + k] if code.co_flags & 0x04 else None
    return list(code.co_varnames[:tensors]), variadic, list(code.co_varnames[tensors : n + k])


class Plan:
    """What recording an op keeps, and how its vjps are called, for one set of inputs.

    ``keep`` lists what to save, each as ``(what, which)``; a step is ``(argument, formula,
    places)``, with the places of the formula's values in what was saved, None for all in order.
    """

    __slots__ = ("keep", "steps", "keeps_values", "facts")

    def __init__(self, op: Op, mask: int) -> None:
        self.keep: list[tuple[str, Any]] = []
        steps = []
        for i, formula in op.formulas_for(mask):
            places = []
            for name in _parameters(formula)[0][2:]:
                item = op.resolve(name, i)
                if item not in self.keep:
                    self.keep.append(item)
                places.append(self.keep.index(item))
            steps.append((i, formula, places))
        everything = list(range(len(self.keep)))
        self.steps = [(i, f, None if places == everything else places) for i, f, places in steps]
        self.keeps_values = any(what in ("input", "output") for what, _ in self.keep)
        only_facts = all(what in ("param", "shape") for what, _ in self.keep)
        self.facts = (None,) * len(self.keep) if only_facts else None  # their guards


class Op:
    """A function of arrays with its derivatives; made by :func:`op`, called on Tensors.

    Its arguments are tensors or Python numbers, then parameters. A vjp names exactly the values it
    needs: ``xp`` and ``g`` first, then any of ``y`` (the output), an argument,
    ``<argument>_shape``, a parameter; a node keeps alive only what was named.
    A variadic op's formula may also name ``i``, its argument's position, and ``shapes``.
    """

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
        written: Any = getattr(forward, "__wrapped__", forward)
        defaults = written.__defaults__ or ()
        self.defaults = dict(zip(keywords[-len(defaults) :], defaults)) if defaults else {}
        self.defaults.update(written.__kwdefaults__ or {})
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
        op, forward, plans = self, self.forward, self._plans
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
                y = forward(arrays_xp, *values, **params)
            except (ValueError, IndexError, TypeError, OverflowError) as error:
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
                if plan.keep:
                    op.save(node, values, y, args, tensor.storage)
                else:
                    node.saved, node.guards = _NOTHING, ()
            if shares:
                args[0].adopt(tensor)
            if unusual:
                _observe(op, args, values, params, tensor, shares)
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

    def save(self, node: Node, values: list, y: Array, args: Sequence, storage: Storage) -> None:
        """Keep in ``node`` what its vjps name, and the storages that must not be overwritten."""
        plan = node.plan
        if plan.facts is not None:  # the common case of views, with nothing to guard
            node.saved = [
                node.params[which] if what == "param" else getattr(values[which], "shape", ())
                for what, which in plan.keep
            ]
            node.guards = plan.facts
            return
        node.saved, node.guards = saved, guards = [], []
        for what, which in plan.keep:
            if what == "input":
                a = args[which]
                lies = a.storage if isinstance(a, Variable) else None
                if type(lies) is InferenceStorage:
                    raise errors.inference_saved(self.name)
                saved.append(values[which])
                guards.append(lies)
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

    def reopened(self, node: Node) -> Sequence:
        """What a node saved, as Tensors with their history, for ``create_graph=True``."""
        reopened = []
        for (what, which), value, storage in zip(
            node.plan.keep, node.values(), node.guards, strict=True
        ):
            if what == "output":
                value = wrap(value, node, storage)
            elif what == "input":
                value = node.input(value, which, storage)
            reopened.append(value)
        return reopened

    def kept(self, node: Node, saved: Sequence) -> list[tuple[str, Any]]:
        """The arguments and the result among the saved values, by name, for messages."""
        return [
            (self.arguments[which] if what == "input" else "result", value)
            for (what, which), value in zip(node.plan.keep, saved)
            if what in ("input", "output")
        ]

    def operands(self, node: Node) -> dict[int, Any]:
        """The arguments among the saved values, by position."""
        pairs = zip(node.plan.keep, node.values())
        return {which: value for (what, which), value in pairs if what == "input"}

    def pull(self, xp: Any, g: Any, node: Node, saved: Sequence) -> list[tuple[int, Any]]:
        """The gradients of the inputs, given that of the output: one vjp per input."""
        pulled = []
        for i, formula, places in node.plan.steps:
            named = saved if places is None else [saved[k] for k in places]
            pulled.append((i, formula(xp, g, *named)))
        return pulled


class Fused(Op):
    """A composite of ops with an optional kernel of the backend; made by :func:`fused`.

    The composite is the definition. A kernel ``name(...) -> (y, saved)`` with its
    ``name_vjp(g, inputs, saved, needs, **params)`` is a faster way to the same numbers. Under
    ``create_graph=True`` the composite is replayed on the inputs.
    """

    def function(self) -> Callable:
        """As of any op, but that everything is kept, and that a kernel takes floats of one dtype,
        32 or 64 bits long: for others, and without a kernel, the composite is recorded instead."""
        op, name, forward, defaults = self, self.name, self.forward, self.defaults
        new = object.__new__

        def apply(*args: Any, **params: Any) -> Any:
            if len(args) > len(op.arguments):
                args = op.bind(args, params)
            if defaults:
                params = {**defaults, **params}
            dtype, needed, mixed = None, False, False
            values, parents, guards = [], [], []
            for a in args:
                parent = storage = None
                if isinstance(a, Variable):
                    if a.needs_grad:
                        parent, needed = a.node or a, True
                    storage, a = a.storage, a.array
                    if a.dtype is not dtype and a.dtype.kind == "f":
                        mixed = mixed or (dtype is not None and a.dtype != dtype)
                        dtype = a.dtype
                elif a is not None and type(a) not in _NUMBERS:
                    a = _operand(a, op)
                values.append(a)
                parents.append(parent)
                guards.append(storage)
            kernel = None if mixed or dtype is None or dtype.char == "e" else kernels.find(name)
            if kernel is None:
                return forward(Bound.ops, *args, **params)
            try:
                y, kept = kernel.forward(*values, **params)
            except (ValueError, IndexError, TypeError, OverflowError) as error:
                raise errors.explained(name, values, False, error) from None
            if type(y) is not ndarray:
                y = arrays_xp.asarray(y)
            tensor = new(Bound.tensor_type)
            tensor.array, tensor.storage = y, Storage()
            if needed and mode.recording:
                if InferenceStorage in map(type, guards):
                    raise errors.inference_saved(name)
                tensor.node = node = Node(op, params, parents, op, y)
                tensor.needs_grad = True
                for value in kept:
                    guards.append(tensor.storage if value is y else None)
                node.saved, node.guards = [*values, *kept, kernel], guards
            if unusual:
                _observe(op, args, values, params, tensor, False)
            return tensor

        apply.__name__ = apply.__qualname__ = name
        apply.__doc__ = self.__doc__
        apply.op, apply.vjp = self, self.vjp  # type: ignore[attr-defined]
        return apply

    keep = keeps_values = True  # of the plan, which is the op itself: everything is kept

    def reopened(self, node: Node) -> Sequence:
        saved, n = node.values(), len(node.parents)
        triples = zip(saved[:n], range(n), node.guards)
        return [*(node.input(*triple) for triple in triples), *saved[n:]]

    def kept(self, node: Node, saved: Sequence) -> list[tuple[str, Any]]:
        return list(zip(self.arguments, saved))

    def operands(self, node: Node) -> dict[int, Any]:
        return dict(enumerate(node.values()[: len(node.parents)]))

    def pull(self, xp: Any, g: Any, node: Node, saved: Sequence) -> list[tuple[int, Any]]:
        needs = [p is not None for p in node.parents]
        values, kept, kernel = saved[: len(needs)], saved[len(needs) : -1], saved[-1]
        if xp is arrays_xp:
            grads = kernel.vjp(g, values, kept, needs, **node.params)
        else:
            # Aliases make every input a node of its own: the derivative asked for is the partial
            # one, also when one input was computed from another.
            inputs = [xp.alias(v) if n else v for v, n in zip(values, needs, strict=True)]
            y = self.forward(xp, *inputs, **node.params)
            wanted = [v for v, n in zip(inputs, needs, strict=True) if n]
            found = iter(backward([y], [g], inputs=wanted, create_graph=True, retain_graph=True))
            grads = [next(found) if n else None for n in needs]
        return [(i, gi) for i, gi in enumerate(grads) if gi is not None and needs[i]]


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


def accelerated(name: str) -> Callable[[Callable], Callable]:
    """A formula for which the backend may have a routine, a faster way to the same numbers.

    The routine gives None for arrays that it is not made for. Tensors, whose derivatives are to be
    recorded, go by the formula.
    """

    def accelerate(formula: Callable) -> Callable:
        @functools.wraps(formula)
        def either(xp: Any, *values: Any, **params: Any) -> Any:
            if xp is arrays_xp and (routine := kernels.find(name)) is not None:
                y = routine(*values, **params)
                if y is not None:
                    return y
            return formula(xp, *values, **params)

        return either

    return accelerate


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


def _observe(op: Op, args: tuple, values: list, params: dict, tensor: Any, shares: bool) -> None:
    """What the modes other than recording do with a result."""
    if mode.inference and not shares:
        tensor.storage = InferenceStorage()
    if mode.checking and tensor.node is not None:
        anomaly.check_result(tensor.node, tensor.array, values, params)
    if mode.watcher is not None:
        mode.watcher.evaluated(op, args, values, params, tensor)


_NOTHING: list = []  # what a node has saved whose vjps name no value

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
