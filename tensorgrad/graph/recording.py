"""Seeing what a program does: :func:`record` a block of it, or :func:`trace` one call of a model.

All operations are seen, with or without gradients; modules are found by their hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary, ref

from ..autograd.function import Several
from ..backend import xp
from ..engine import backward as backward_pass
from ..engine import unbroadcast
from ..mode import Watcher, watching
from ..mode import state as mode
from ..node import Node, leaves, recorded
from ..source import here
from ..tensor import Tensor
from ..utils import pytree
from ..variable import Storage, Variable, wrap
from .run import Call, Run, Step, Value, norm_of, stats_of


@contextmanager
def record(
    model: Any = None, *, names: Mapping[str, Tensor] | None = None, values: bool = True
) -> Iterator[Run]:
    """See every operation of a ``with`` block, and every backward pass in it.

    Args:
        model: a module, so that the operations are known by the layers that they ran in, and its
            parameters and buffers by their names.
        names: what to call other tensors.
        values: whether to look at the values (mean, norm, ...), and not at shapes only.

    >>> import tensorgrad
    >>> with tensorgrad.graph.record() as run:
    ...     y = tensorgrad.ones(2, 3).exp().sum()
    >>> [(step.op.name, step.output.shape) for step in run.steps]
    [('exp', (2, 3)), ('sum', ())]
    >>> round(run.steps[0].output.stats.mean, 3)
    2.718
    """
    with _recorder(model, names or {}, values) as recorder:
        yield recorder.run
    ends = [s.output for s in recorder.run.steps if not s.output.uses]
    floats = [v for v in ends if getattr(v.dtype, "is_floating_point", False)]
    recorder.run.outputs = floats or ends  # what is no float is a check or a count


def trace(
    model: Callable, *inputs: Any, backward: bool = False, values: bool = True, **keywords: Any
) -> Run:
    """Call ``model(*inputs, **keywords)`` and see every operation of it.

    With ``backward`` the gradients are seen as well, of the sum of all elements of the result; no
    ``.grad`` changes. The model runs as it is: dropout drops unless it is in ``eval()``.

    >>> import tensorgrad, nn
    >>> model = nn.Sequential(nn.Linear(3, 2), nn.GELU())
    >>> run = tensorgrad.graph.trace(model, tensorgrad.ones(4, 3))
    >>> [(step.call.path, step.op.name) for step in run.steps]
    [('0', 'linear'), ('1', 'gelu')]
    """
    module = model if hasattr(model, "named_modules") else None
    with _recorder(module, _named(model, inputs, keywords), values, inside=True) as recorder:
        result = model(*inputs, **keywords)
        outputs = [v for v in pytree.leaves(result) if isinstance(v, Tensor)]
        if backward:
            roots = [t for t in outputs if t.needs_grad]
            ends = list(leaves(roots, recorded(roots)).values())
            ones = [wrap(xp.ones_like(t.array)) for t in roots]
            backward_pass(roots, ones, inputs=ends)
        recorder.run.outputs = [recorder.value(t) for t in outputs]
    recorder.run.result = result
    return recorder.run


def _named(model: Any, inputs: tuple, keywords: dict) -> dict[str, Tensor]:
    """The tensors among the arguments of a call, by the names of the parameters."""
    code = getattr(getattr(type(model), "forward", model), "__code__", None)
    parts = code.co_varnames[: code.co_argcount] if code else ()
    parts = parts[1:] if hasattr(type(model), "forward") else parts
    named = {}
    for i, value in enumerate(inputs):
        keywords = {parts[i] if i < len(parts) else f"input {i}": value, **keywords}
    for name, value in keywords.items():
        found = [v for v in pytree.leaves(value) if isinstance(v, Tensor)]
        for i, v in enumerate(found):
            named[f"{name}[{i}]" if found[1:] else name] = v
    return named


@contextmanager
def _recorder(
    model: Any, names: Mapping[str, Tensor], values: bool, inside: bool = False
) -> Iterator[_Recorder]:
    recorder = _Recorder(values, "constant" if inside else "input")
    with ExitStack() as hooks:
        if model is not None:
            recorder.know(model)
            for path, module in model.named_modules():
                enter = module.register_forward_pre_hook(recorder.entering(path))
                hooks.callback(enter.remove)
                leave = module.register_forward_hook(recorder.leaving, always_call=True)
                hooks.callback(leave.remove)
        for name, tensor in names.items():
            recorder.name(tensor, name, "input")
        hooks.enter_context(watching(recorder))
        yield recorder


class _Recorder(Watcher):
    """Fills a Run. It holds tensors, nodes and arrays weakly, so that memory goes as ever."""

    def __init__(self, values: bool, unknown: str) -> None:
        self.run = Run()
        self.values, self.unknown = values, unknown
        self.call = self.run.root
        self.count = 0
        self.tensors: dict[int, tuple[ref, Value]] = {}
        self.storages: WeakKeyDictionary[Storage, dict[tuple, Value]] = WeakKeyDictionary()
        self.nodes: WeakKeyDictionary[Node, Step] = WeakKeyDictionary()
        self.kept: dict[int, ref] = {}  # arrays that parameters are or that backward keeps
        self.sums: dict[Value, Any] = {}  # gradients of leaves that are used more than once

    # --- tensors ----------------------------------------------------------------------------------

    def know(self, model: Any) -> None:
        """The names of a model's parameters and buffers."""
        for kind, named in (
            ("parameter", model.named_parameters(remove_duplicate=False)),
            ("buffer", model.named_buffers()),
        ):
            for name, tensor in named:
                value = self.name(tensor, name, kind)
                if kind == "parameter" and value not in self.run.parameters:
                    self.run.parameters.append(value)
                self.keep(tensor.array)

    def name(self, tensor: Any, name: str, kind: str) -> Value:
        known = self.known(tensor)
        value = known or self.remember(tensor, Value(kind, tensor.shape, tensor.dtype))
        if name not in value.names:
            value.names.append(name)
        return value

    def remember(self, tensor: Any, value: Value) -> Value:
        self.tensors[id(tensor)] = ref(tensor), value
        self.storages.setdefault(tensor.storage, {})[tuple(tensor.shape)] = value
        return value

    def known(self, tensor: Any) -> Value | None:
        if tensor.node is not None and tensor.node in self.nodes:
            return self.nodes[tensor.node].output
        held, value = self.tensors.get(id(tensor), (None, None))
        if held is not None and held() is tensor:
            return value
        # Another name for memory that is known: detach(), .data
        return self.storages.get(tensor.storage, {}).get(tuple(tensor.shape))

    def value(self, tensor: Any) -> Value:
        """What a tensor stands for; of one never seen, what it is."""
        value = self.known(tensor)
        if value is None:
            value = Value(self.unknown, tensor.shape, tensor.dtype)
            if tensor.needs_grad and tensor.node is None:
                value.kind = "leaf"
            if tensor.name:
                value.names.append(tensor.name)
            self.remember(tensor, value)
        if self.values and value.stats is None:
            value.stats = stats_of(tensor.array)
        if not value.shape and value.maker is None and tensor.array.size == 1:
            value.number = tensor.array.item()
        return value

    # --- operations -------------------------------------------------------------------------------

    def step(
        self, op: Any, args: tuple, params: dict, output: Any, node: Node | None = None
    ) -> Step:
        """An operation whose result is a tensor, or something with a shape and a dtype."""
        inputs = [self.value(a) if isinstance(a, Variable) else a for a in args]
        for value in inputs:
            if isinstance(value, Value):
                value.uses += 1
        place = (node.code, node.offset) if node is not None else here() or (None, 0)
        made = Step(self.count, op, params, inputs, self.call, place)
        self.count += 1
        made.output = Value("result", output.shape, output.dtype, made)
        if isinstance(output, Variable):
            self.remember(output, made.output)
            if self.values:
                made.output.stats = stats_of(output.array)
        if node is not None:
            self.nodes[node] = made
            saved = node.saved if isinstance(node.saved, list) else ()
            made.kept = sum(self.keep(array) for array in saved if isinstance(array, xp.ndarray))
        self.call.items.append(made)
        return made

    def evaluated(self, op: Any, args: tuple, values: list, params: dict, result: Any) -> None:
        self.step(op, args, params, result, result.node)

    def applied(self, name: str, args: tuple, results: list, node: Any) -> None:
        tensors = [r for r in results if isinstance(r, Tensor)]
        op = node.op if node is not None else _op(name)
        if len(results) == 1 and tensors:
            self.step(op, args, {}, tensors[0], node)
            return
        several = SimpleNamespace(shape=(f"{len(results)} outputs",), dtype="")
        whole = self.step(op, args, {}, several, node)
        for i, result in enumerate(results):
            if isinstance(result, Tensor):
                own = result.node if result.node is not node else None
                part = self.step(_op(f"{name}[{i}]", view=True), (), {}, result, own)
                part.inputs = [whole.output]
                whole.output.uses += 1

    def written(self, tensor: Any, source: Any, index: Any) -> None:
        if index is Ellipsis:  # all of it
            self.remember(tensor, self.value(source))
        else:
            before = self.value(tensor)
            made = self.step(_op("setitem"), (source,), {"index": index}, tensor)
            made.inputs.insert(0, before)
            before.uses += 1

    def keep(self, array: Any) -> int:
        """The bytes of an array's memory if it was not known to be kept."""
        while isinstance(array.base, xp.ndarray):
            array = array.base
        held = self.kept.get(id(array))
        if held is not None and held() is array:
            return 0
        self.kept[id(array)] = ref(array)
        return array.nbytes

    # --- gradients --------------------------------------------------------------------------------

    def differentiated(self, node: Any, g: Any, gradients: list) -> None:
        step = self.nodes.get(node)
        if step is None:
            return
        g = getattr(g, "array", g)
        if isinstance(g, (xp.ndarray, xp.generic)):  # not those of several outputs
            step.output.gradient = norm_of(g)
        for i, gradient in gradients:
            parent = node.parents[i]
            gradient = getattr(gradient, "array", gradient)
            if parent is None or isinstance(gradient, Several):
                continue
            gradient = xp.asarray(gradient)
            if gradient.shape != parent.shape:
                gradient = unbroadcast(xp, gradient, parent.shape)
            step.gradients[i] = norm_of(gradient)
            step.inputs[i].parts += 1
            if not isinstance(parent, Node):
                self.arrived(step.inputs[i], gradient)

    def arrived(self, leaf: Any, gradient: Any) -> None:
        """A part of the gradient of a leaf, which is the sum of those of its uses."""
        if leaf.uses == 1:
            leaf.gradient = norm_of(gradient)
        else:
            self.sums[leaf] = self.sums[leaf] + gradient if leaf in self.sums else gradient
            leaf.gradient = norm_of(self.sums[leaf])

    # --- modules ----------------------------------------------------------------------------------

    def entering(self, path: str) -> Callable:
        def hook(module: Any, args: Any) -> None:
            if mode.watcher is not self:  # in a backward pass, which computes something again
                return
            call = Call(path, type(module).__name__, module.extra_repr(), self.call)
            self.call.items.append(call)
            self.call = call
            call.own = [v for p in module.parameters() if (v := self.known(p)) is not None]

        return hook

    def leaving(self, module: Any, args: Any, output: Any) -> None:
        if mode.watcher is not self:
            return
        results = (v for v in pytree.leaves(output) if isinstance(v, Tensor))
        self.call.shapes = [tuple(t.shape) for t in results]
        self.call = self.call.parent or self.run.root


def _op(name: str, view: bool = False) -> Any:
    """What stands in for the op of a step that is not of the registry."""
    return SimpleNamespace(name=name, view=view, arguments=(), defaults={})
