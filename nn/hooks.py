"""Functions that wait for the calls of a module, and for the gradients that pass through it."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import tensorgrad
from tensorgrad import Tensor
from tensorgrad.autograd import Function
from tensorgrad.utils.hooks import RemovableHandle


class Hooks:
    """The hooks of one module, a table for each kind, in the order in which they are called."""

    def __init__(self) -> None:
        tables: list[OrderedDict[int, Callable]] = [OrderedDict() for _ in range(4)]
        self.before, self.after, self.outputs_gradients, self.gradients = tables
        self.always: set[int] = set()  # those of ``after`` that are called after an error as well

    def __bool__(self) -> bool:
        return any((self.before, self.after, self.outputs_gradients, self.gradients))

    def call(self, module: Any, args: tuple, kwargs: dict) -> Any:
        """``module.forward`` between its hooks."""
        pending, output = dict(self.after), None
        try:
            for hook in list(self.before.values()):
                given = hook(module, args, kwargs)
                if given is not None:
                    args, kwargs = given
            passage = None
            if self.gradients or self.outputs_gradients:
                passage = Passage(module, self)
                args = passage.enter(args)
            output = module.forward(*args, **kwargs)
            for key, hook in list(pending.items()):
                del pending[key]
                given = hook(module, args, kwargs, output)
                output = output if given is None else given
            return output if passage is None else passage.leave(output)
        except Exception:
            for key, hook in pending.items():
                if key in self.always:
                    output = _silenced(hook, module, args, kwargs, output)
            raise


def _silenced(hook: Callable, module: Any, args: tuple, kwargs: dict, output: Any) -> Any:
    """A hook after an error; an error of its own must not take the place of the first."""
    try:
        given = hook(module, args, kwargs, output)
    except Exception as error:
        warnings.warn(
            f"{type(module).__name__}: a hook that is always called has failed after forward "
            f"had: {error}",
            stacklevel=2,
        )
        return output
    return output if given is None else given


class Passage:
    """One call of a module, seen by its backward hooks.

    The tensors among the inputs and among the outputs each go through an identity whose backward
    is the hook's turn: first that of the outputs, and at last that of the inputs.
    """

    def __init__(self, module: Any, hooks: Hooks) -> None:
        self.module = module
        self.before = tuple(hooks.outputs_gradients.values())
        self.after = tuple(hooks.gradients.values())
        self.inputs, self.entered = 0, False
        self.of_outputs: tuple | None = None  # until the pass reaches the inputs

    def enter(self, args: tuple) -> tuple:
        self.inputs = len(args)
        passed = _pass(args, self._at_inputs, zeros=True)
        self.entered = passed is not None
        return args if passed is None else passed

    def leave(self, output: Any) -> Any:
        given = output if isinstance(output, tuple) else (output,)
        passed = _pass(given, self._at_outputs, zeros=False)
        if passed is None:
            return output
        return passed if isinstance(output, tuple) else passed[0]

    def _at_outputs(self, gradients: tuple) -> tuple:
        for hook in self.before:
            given = hook(self.module, gradients)
            gradients = gradients if given is None else self._checked(given, gradients, "output")
        self.of_outputs = gradients
        if not self.entered:  # no gradient flows to the inputs, this is the end
            none = (None,) * self.inputs
            for hook in self.after:
                given = hook(self.module, none, gradients)
                if given is not None and any(g is not None for g in given):
                    raise RuntimeError(
                        f"{type(self.module).__name__}: a backward hook has returned gradients, "
                        "but no input requires one"
                    )
            self.of_outputs = None
        return gradients

    def _at_inputs(self, gradients: tuple) -> tuple:
        if self.of_outputs is None:  # the way here was not through the outputs
            return gradients
        for hook in self.after:
            given = hook(self.module, gradients, self.of_outputs)
            gradients = gradients if given is None else self._checked(given, gradients, "input")
        self.of_outputs = None
        return gradients

    def _checked(self, given: Any, before: tuple, what: str) -> tuple:
        given = given if isinstance(given, tuple) else (given,)
        if len(given) != len(before):
            raise RuntimeError(
                f"{type(self.module).__name__}: a backward hook has returned {len(given)} "
                f"gradients, there are {len(before)} of {what}s"
            )
        return given


def _pass(values: tuple, look: Callable[[tuple], tuple], zeros: bool) -> tuple | None:
    """``values`` with the tensors among them watched; None where no gradient flows.

    ``look`` is called with a gradient for each value and returns as many; what has none is None, or
    of a tensor ``zeros`` if they are wanted.
    """
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor)]
    needing = [i for i in places if values[i].requires_grad]
    if not needing or not tensorgrad.is_grad_enabled():
        return None

    def spread(gradients: tuple) -> tuple:
        everywhere: list = [None] * len(values)
        for i, g in zip(places, gradients):
            everywhere[i] = g
        seen = look(tuple(everywhere))
        return tuple(seen[i] if i in needing else None for i in places)

    passed = _Watched.apply(spread, zeros, *(values[i] for i in places))
    made = list(values)
    for i, v in zip(places, passed):
        made[i] = v
    return tuple(made)


class _Watched(Function):
    """The identity."""

    @staticmethod
    def forward(ctx: Any, look: Callable, zeros: bool, *tensors: Tensor) -> tuple:
        ctx.look = look
        ctx.set_materialize_grads(zeros)
        ctx.mark_non_differentiable(*(t for t in tensors if not t.requires_grad))
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple:
        return None, None, *ctx.look(gradients)


class Hooked:
    """The methods of a module that register hooks; each returns a handle that can ``remove()``."""

    _hooks: Hooks | None = None  # while a module has none, its calls look no further

    def _own_hooks(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; it may return other arguments.

        With ``with_kwargs`` it is called as ``hook(module, args, kwargs)`` and may return both.
        """

        def called(module: Any, args: tuple, kwargs: dict) -> Any:
            given = hook(module, args, kwargs) if with_kwargs else hook(module, args)
            if given is None:
                return None
            if not with_kwargs:
                return (given if isinstance(given, tuple) else (given,)), kwargs
            if not isinstance(given, tuple) or len(given) != 2:
                raise RuntimeError(
                    "a forward pre-hook with keywords must return None or (args, kwargs), not "
                    f"{given!r}"
                )
            return given

        return RemovableHandle(self._own_hooks().before, called, prepend)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:  # fmt: skip
        """Call ``hook(module, args, output)`` after ``forward``; it may return another output.

        With ``with_kwargs`` it is called as ``hook(module, args, kwargs, output)``; with
        ``always_call`` also when something has raised, with the output None if it was ``forward``.
        """

        def called(module: Any, args: tuple, kwargs: dict, output: Any) -> Any:
            if with_kwargs:
                return hook(module, args, kwargs, output)
            return hook(module, args, output)

        handle = RemovableHandle(self._own_hooks().after, called, prepend)
        if always_call:
            self._own_hooks().always.add(handle.id)
        return handle

    def register_full_backward_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs are known; it may
        return others.

        ``grad_output`` is a tuple with one for each output, None for one that has none.
        """
        return RemovableHandle(self._own_hooks().outputs_gradients, hook, prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the inputs are
        known; it may return others for these.

        Both are tuples with one for each positional input or output: zeros for an input that has
        none, None for an output that has none and for what is no tensor. Where no input requires
        grad, it is called with those of the outputs alone.

        >>> import nn, tensorgrad
        >>> layer = nn.Linear(2, 3)
        >>> handle = layer.register_full_backward_hook(
        ...     lambda module, grad_input, grad_output: print(grad_input[0].shape, grad_output)
        ... )
        >>> x = tensorgrad.ones(1, 2, requires_grad=True)
        >>> layer(x).sum().backward()
        (1, 2) (tensor([[1., 1., 1.]]),)
        """
        return RemovableHandle(self._own_hooks().gradients, hook, prepend)
