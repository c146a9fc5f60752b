"""Activation checkpointing: compute a stretch of the forward pass again instead of keeping it.

What ran inside is recorded as ever, but its nodes keep no values. When the backward pass asks a
node for them, the function runs once more, and each node takes what its double has saved. So hooks,
names, lines and derivatives of derivatives are those of the recorded graph (Chen et al. 2016).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from .. import errors
from ..mode import enable_grad, is_grad_enabled
from ..node import Node, leaves, line, linked, recorded
from ..random import default_generator
from ..tensor import Tensor
from ..variable import tick
from . import pytree


def checkpoint(
    function: Callable,
    *args: Any,
    use_reentrant: bool | None = False,
    preserve_rng_state: bool = True,
    context_fn: Callable | None = None,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """``function(*args, **kwargs)`` without what it computes on the way kept for backward.

    The backward pass calls the function once more, with the random numbers of the first call (of
    the default generator). Inputs and parameters must not be overwritten until then, which is
    checked; state that the function changes, such as running statistics, it changes twice.

    Args:
        use_reentrant: has no effect; there is one implementation, which does what
            PyTorch's with False does.
        preserve_rng_state: whether the second call draws what the first drew.
        context_fn: returns two context managers, for the first call and for the second.
        determinism_check: "none" does not compare the operations of the two calls by shape.
        debug, early_stop: have no effect.

    >>> import tensorgrad
    >>> x = tensorgrad.tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda t: t.exp().sin(), x).sum().backward()
    """
    first, again = context_fn() if context_fn else (nullcontext(), nullcontext())
    if not is_grad_enabled():
        with first:
            return function(*args, **kwargs)
    run = _Run(function, args, kwargs, again, preserve_rng_state, determinism_check != "none")
    with first:
        out = function(*args, **kwargs)
    run.forget(out)
    return out


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = False,
    **kwargs: Any,
) -> Any:
    """Call functions, or the layers of a ``Sequential``, one after another in ``segments``
    checkpoints, the last of which is an ordinary call."""
    parts = list(functions)
    if not 0 < segments <= len(parts):
        raise ValueError(
            f"checkpoint_sequential: {len(parts)} functions do not make {segments} segments"
        )
    size = len(parts) // segments

    def chain(start: int, end: int) -> Callable:
        def run(x: Any) -> Any:
            for function in parts[start:end]:
                x = function(x)
            return x

        return run

    last = size * (segments - 1)
    for start in range(0, last, size):
        input = checkpoint(chain(start, start + size), input, **kwargs)
    return chain(last, len(parts))(input)


class _Run:
    """One call of a function, as far as is needed to make it again.

    Tensors among the arguments are kept as arrays with where their gradients go: a tensor itself
    may be given a later history by a write in place, and would then keep its own graph alive.
    """

    def __init__(
        self, function: Callable, args: tuple, kwargs: dict, context: Any, random: bool, check: bool
    ) -> None:
        self.function, self.context, self.check = function, context, check
        values = pytree.leaves((args, kwargs))
        self.template = pytree.rebuilt((args, kwargs), [None] * len(values))
        self.inputs = [_Input(v) if isinstance(v, Tensor) else v for v in values]
        self.random = default_generator.get_state() if random else None
        self.start = tick()
        self.guards = [v.storage for v in self.inputs if isinstance(v, _Input)]
        self.kinds: list[tuple] = []
        self.found: dict[int, list] = {}
        self.lock = threading.Lock()

    def forget(self, out: Any) -> None:
        """Replace what the nodes have saved by the promise to compute it again."""
        nodes = _nodes(out, self.start)
        self.guards += [leaf.storage for leaf in leaves([], nodes).values()]
        self.kinds = [(n.op.name, n.shape) for n in nodes]
        for i, node in enumerate(nodes):
            if node.plan.keeps_values:
                node.saved = _Forgotten(self, i)

    def saved(self, i: int) -> list:
        """What the node of number ``i`` had saved."""
        with self.lock:
            if i not in self.found:
                self.found = dict(enumerate(self.again()))
            return self.found.pop(i)

    def again(self) -> list[list]:
        """Call the function again: what each node of that call has saved."""
        for storage in self.guards:
            if storage.written > self.start:
                raise errors.recomputed_from_overwritten(
                    storage.writer, line(*(storage.place or (None, 0)))
                )
        values = [v.tensor() if isinstance(v, _Input) else v for v in self.inputs]
        args, kwargs = pytree.rebuilt(self.template, values)
        now, start = default_generator.get_state(), tick()
        if self.random is not None:
            default_generator.set_state(self.random)
        try:
            with enable_grad(), self.context:
                nodes = _nodes(self.function(*args, **kwargs), start)
        finally:
            if self.random is not None:
                default_generator.set_state(now)
        kinds = [(n.op.name, n.shape) for n in nodes]
        if len(kinds) != len(self.kinds) or (self.check and kinds != self.kinds):
            raise RuntimeError(
                "checkpoint: the function did other operations when it was called again for the "
                f"backward pass: first {_names(self.kinds)}, now {_names(kinds)}; it must do the "
                "same for the same inputs"
            )
        return [n.saved for n in nodes]


def _nodes(out: Any, start: int) -> list[Node]:
    """The nodes of a call that led to its result."""
    return recorded([t for t in pytree.leaves(out) if isinstance(t, Tensor)], start)


class _Input:
    """A tensor among the arguments, as it was when the function was called."""

    def __init__(self, t: Tensor) -> None:
        self.array, self.storage = t.array, t.storage
        self.source = t.node or (t if t.needs_grad else None)

    def tensor(self) -> Tensor:
        return linked(self.array, self.source, self.storage)


class _Forgotten:
    """In place of a node's saved values: the call that can make them again."""

    def __init__(self, run: _Run, i: int) -> None:
        self.run, self.i = run, i

    def recalled(self) -> Any:
        saved = self.run.saved(self.i)
        return saved.recalled() if isinstance(saved, _Forgotten) else saved


def _names(kinds: Sequence) -> str:
    names = [f"{name} {list(shape)}" for name, shape in kinds[:8]]
    return f"{len(kinds)} ({', '.join(names)}{', …' if len(kinds) > 8 else ''})"


__all__ = ["checkpoint", "checkpoint_sequential"]
