"""What a tensor knows of gradients, under PyTorch's names; class Tensor inherits it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any
from weakref import ref

from . import engine
from .hooks import RemovableHandle, hooks_of, whole_pass
from .mode import state as mode
from .node import Node
from .variable import Variable, wrap


class Differentiable(Variable):
    """A Variable with the part of PyTorch's Tensor that is about gradients."""

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this tensor: a leaf's choice, inherited by its results."""
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None and not value:
            raise RuntimeError(
                "requires_grad can be switched off only on leaf tensors; use detach() instead"
            )
        if value and self.array.dtype.kind != "f":
            raise RuntimeError(
                f"only tensors of a float dtype can require gradients, not {self.array.dtype}"
            )
        if value and self.storage.inference and not mode.inference:
            raise RuntimeError(
                "a tensor made in inference_mode cannot require gradients outside; clone() it"
            )
        self.needs_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    def is_inference(self) -> bool:
        """Whether this tensor was made in :class:`~tensorgrad.inference_mode`."""
        return self.storage.inference

    @property
    def grad_fn(self) -> Node | None:
        """The recorded operation that made this tensor."""
        return self.node

    def relink(self, now: Variable) -> None:
        """Take over another tensor's history, after a write in place."""
        kept = self.retains_grad
        self.node, self.needs_grad = now.node, now.needs_grad
        if kept and self.node is not None:
            self.retain_grad()

    # --- gradients --------------------------------------------------------------------------------

    @property
    def grad(self) -> Any:
        """The gradient that backward passes have added up, or None.

        Of a leaf, and of a result after :meth:`retain_grad`. What is assigned must be a tensor of
        this shape and dtype, or None.
        """
        if self._grad is None and self.node is not None and not self.retains_grad:
            warnings.warn(
                "the .grad of a tensor that is not a leaf is read, and backward() does not fill "
                "it; call retain_grad() on the tensor first, or read that of the leaf",
                stacklevel=2,
            )
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Variable):
                raise TypeError(f"grad: expected a tensor or None, got {type(value).__name__}")
            if value is self:
                raise RuntimeError("grad: a tensor cannot be its own gradient")
            if value.shape != self.shape or value.dtype != self.dtype:
                raise RuntimeError(
                    f"grad: the gradient of a tensor of shape {tuple(self.shape)} and {self.dtype} "
                    f"cannot be of shape {tuple(value.shape)} and {value.dtype}"
                )
        self._grad = value

    def backward(
        self,
        gradient: Any = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
        inputs: Any = None,
    ) -> None:
        """Add the derivative of this tensor to the ``.grad`` of every leaf it depends on.

        ``gradient`` (the shape of this tensor) is implied to be 1 for a single element. The saved
        values are freed unless ``retain_graph``; ``create_graph`` makes the gradients
        differentiable themselves and implies ``retain_graph``. With ``inputs``, a tensor or
        several, only their ``.grad`` is added to.
        """
        backward([self], [gradient], retain_graph, create_graph, inputs)

    def retain_grad(self) -> None:
        """Have backward passes add to the ``.grad`` of this tensor though it is not a leaf."""
        if not self.needs_grad:
            raise RuntimeError("retain_grad: the tensor does not require grad")
        if self.node is not None and not self.retains_grad:
            hooks_of(self.node).keepers.append(ref(self))

    @property
    def retains_grad(self) -> bool:
        """Whether :meth:`retain_grad` has effect; not on a leaf, whose gradient is kept anyway."""
        hooks = getattr(self.node, "hooks", None)
        return hooks is not None and any(keeper() is self for keeper in hooks.keepers)

    def register_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(gradient)`` with the gradient of this tensor in every backward pass.

        A tensor that it returns replaces the gradient. A leaf's gradient is what is about to be
        added to ``.grad``. After a write in place the hook stays with the value before it.

        >>> import tensorgrad
        >>> x = tensorgrad.tensor([1.0, 2.0], requires_grad=True)
        >>> handle = x.register_hook(lambda g: g * 10)
        >>> x.sum().backward()
        >>> x.grad
        tensor([10., 10.])
        """
        if not self.needs_grad:
            raise RuntimeError("register_hook: the tensor does not require grad")
        return RemovableHandle(hooks_of(self.node or self).before, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(leaf)`` whenever a backward pass has completed the ``.grad`` of this leaf."""
        if not self.needs_grad:
            raise RuntimeError(
                "register_post_accumulate_grad_hook: the tensor does not require grad"
            )
        if self.node is not None:
            raise RuntimeError("register_post_accumulate_grad_hook: the tensor is not a leaf")
        return RemovableHandle(hooks_of(self).after, hook)

    # --- without the history ----------------------------------------------------------------------

    def detach(self) -> Any:
        """The same memory without the history."""
        return wrap(self.array, None, self.storage)

    @property
    def data(self) -> Any:
        """The same memory without the history; assigning replaces the array."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        if self.node is not None and (value.shape, value.dtype) != (self.shape, self.dtype):
            raise RuntimeError(
                f"data: the history of this tensor is of shape {tuple(self.shape)} and "
                f"{self.dtype}, the new values of {tuple(value.shape)} and {value.dtype}; only a "
                "leaf may change"
            )
        self.array, self.storage, self.family = value.array, value.storage, None

    @property
    def _version(self) -> int:
        if self.storage.inference:
            raise RuntimeError("a tensor made in inference_mode does not count its writes")
        return self.storage.version


def backward(
    tensors: Sequence[Any],
    gradients: Sequence[Any],
    retain_graph: bool | None,
    create_graph: bool,
    inputs: Any,
) -> None:
    """Add derivatives to the ``.grad`` of the leaves, or of ``inputs``."""
    keep = create_graph if retain_graph is None else retain_graph
    starts = [engine.grad_of(t, g) for t, g in zip(tensors, gradients, strict=True)]
    with whole_pass():
        if inputs is None:
            engine.backward(tensors, starts, retain_graph=keep, create_graph=create_graph)
            return
        inputs = [inputs] if isinstance(inputs, Variable) else list(inputs)
        if not inputs:
            raise RuntimeError("backward: inputs cannot be empty")
        found = engine.backward(
            tensors, starts, inputs=inputs, retain_graph=keep, create_graph=create_graph
        )
        for t, g in zip(inputs, found, strict=True):
            if g is not None:
                engine.accumulate(t, g if create_graph else g.array, False, create_graph)
