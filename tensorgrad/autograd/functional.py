"""Jacobians, Hessians, and products of vectors with them, of functions of tensors.

Everything is computed by reverse passes; a product with a Jacobian from the right (``jvp``,
``hvp``) is the derivative of a reverse pass with respect to the gradient that enters it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import ops
from ..creation import zeros_like
from ..mode import enable_grad
from ..tensor import Tensor
from .derivatives import filled, jacobian_rows, partial_grad, pushed

Tensors = Any  # a tensor or a tuple of tensors


def vjp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """``func(*inputs)`` and vᵀ times its Jacobian.

    Args:
        func: of tensors, returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        v: in the structure and shapes of the result; not needed for a single element.
        create_graph: make the results differentiable.
        strict: raise where the result does not depend on an input, instead of giving zeros.
    """
    with enable_grad():
        given, one_input = _opened(inputs, create_graph, "vjp")
        outs, one_output = _called(func, given, "vjp", strict)
        starts = _vector(v, outs, "vjp", "output")
        found = partial_grad(outs, given, starts, create_graph)
        results = filled(found, given, strict, create_graph, "vjp")
    return _closed(outs, one_output, create_graph), _closed(results, one_input, create_graph)


def jvp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """``func(*inputs)`` and its Jacobian times v; ``v`` is like ``inputs``, the rest as in
    :func:`vjp`."""
    with enable_grad():
        given, _ = _opened(inputs, create_graph, "jvp")
        vectors = _vector(v, given, "jvp", "input")
        outs, one_output = _called(func, given, "jvp", strict)
        results = pushed(outs, given, vectors, strict, create_graph, "jvp")
    return _closed(outs, one_output, create_graph), _closed(results, one_output, create_graph)


def jacobian(
    func: Callable, inputs: Tensors, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The derivatives of every element of ``func(*inputs)`` by every element of the inputs.

    A result of shape [a] and an input of shape [b] give [a, b]; tuples of results and inputs give
    tuples, of tuples. ``vectorize`` and ``strategy`` are accepted and change nothing: there is one
    reverse pass for each element of the result.

    >>> import tensorgrad
    >>> jacobian(lambda x: x * x, tensorgrad.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    _check_strategy(strategy, vectorize, "jacobian")
    with enable_grad():
        given, one_input = _opened(inputs, create_graph, "jacobian")
        outs, one_output = _called(func, given, "jacobian", strict)
        rows = [jacobian_rows(out, given, strict, create_graph) for out in outs]
    results = tuple(_closed(row, one_input, create_graph) for row in rows)
    return results[0] if one_output else results


def hessian(
    func: Callable, inputs: Tensors, create_graph: bool = False, strict: bool = False,
    vectorize: bool = False, outer_jacobian_strategy: str = "reverse-mode",
) -> Any:  # fmt: skip
    """The second derivatives of a function of one element: [a] and [b] among the inputs give
    [a, b], in a tuple of tuples if ``inputs`` is a tuple. Arguments as in :func:`jacobian`.

    >>> import tensorgrad
    >>> hessian(lambda x: (x * x * x).sum(), tensorgrad.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    _check_strategy(outer_jacobian_strategy, vectorize, "hessian")

    def first(*given: Tensor) -> Any:
        found = jacobian(_single(func, "hessian"), given, create_graph=True, strict=strict)
        return tuple(g.reshape(t.shape) for g, t in zip(found, given, strict=True))

    found = jacobian(first, inputs, create_graph, strict)
    return found if isinstance(inputs, tuple) else found[0]


def vhp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """``func(*inputs)``, of one element, and vᵀ times its Hessian; ``v`` is like ``inputs``."""
    with enable_grad():
        given, one_input = _opened(inputs, create_graph, "vhp")
        vectors = _vector(v, given, "vhp", "input")
        outs, _ = _called(_single(func, "vhp"), given, "vhp", strict)
        first = filled(partial_grad(outs, given, [None], True), given, strict, True, "vhp")
        found = partial_grad(first, given, vectors, create_graph)
        results = filled(found, given, strict, create_graph, "vhp")
    return _closed(outs, True, create_graph), _closed(results, one_input, create_graph)


def hvp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False,
    strict: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """``func(*inputs)``, of one element, and its Hessian times v: :func:`vhp` is cheaper and equal
    where the second derivatives are continuous."""
    with enable_grad():
        given, one_input = _opened(inputs, create_graph, "hvp")
        vectors = _vector(v, given, "hvp", "input")
        outs, _ = _called(_single(func, "hvp"), given, "hvp", strict)
        first = filled(partial_grad(outs, given, [None], True), given, strict, True, "hvp")
        results = pushed(first, given, vectors, strict, create_graph, "hvp")
    return _closed(outs, True, create_graph), _closed(results, one_input, create_graph)


# --- the parts ------------------------------------------------------------------------------------


def _tensors(value: Any, name: str, what: str) -> tuple[tuple, bool]:
    """A tensor or tuple of tensors as a tuple, and whether it was a tensor."""
    alone = not isinstance(value, tuple)
    values = (value,) if alone else value
    for t in values:
        if not isinstance(t, Tensor):
            raise TypeError(
                f"{name}: the {what} must be a tensor or a tuple of tensors, got a "
                f"{type(t).__name__}"
            )
    return values, alone


def _opened(inputs: Any, create_graph: bool, name: str) -> tuple[tuple, bool]:
    """The inputs as tensors to differentiate by, with their own history under ``create_graph``."""
    values, alone = _tensors(inputs, name, "inputs")
    opened = [
        ops.alias(t) if create_graph and t.requires_grad else t.detach().requires_grad_()
        for t in values
    ]
    return tuple(opened), alone


def _called(func: Callable, given: tuple, name: str, strict: bool) -> tuple[tuple, bool]:
    outs, alone = _tensors(func(*given), name, "outputs of the function")
    if strict:
        for i, out in enumerate(outs):
            if not out.requires_grad:
                raise RuntimeError(f"{name}: output {i} does not depend on any input")
    return outs, alone


def _single(func: Callable, name: str) -> Callable:
    """``func`` with a check that it gives a single element."""

    def checked(*given: Tensor) -> Tensor:
        out = func(*given)
        if not isinstance(out, Tensor) or out.numel() != 1:
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise RuntimeError(
                f"{name}: the function must return a tensor of one element, got {shape}"
            )
        return out.reshape(())

    return checked


def _vector(v: Any, like: tuple, name: str, what: str) -> tuple:
    """``v`` as a tuple, or a one for a single element."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"{name}: v may be left out only for a single {what} element")
        return (zeros_like(like[0]) + 1,)
    vectors, _ = _tensors(v, name, "vectors v")
    if [t.shape for t in vectors] != [t.shape for t in like]:
        raise RuntimeError(
            f"{name}: v has the shapes {[tuple(t.shape) for t in vectors]}, the {what}s have "
            f"{[tuple(t.shape) for t in like]}; they must be equal"
        )
    return vectors


def _closed(values: tuple, alone: bool, create_graph: bool) -> Any:
    """Results as the caller gave the arguments, without history unless it was asked for."""
    closed = values if create_graph else tuple(v.detach() for v in values)
    return closed[0] if alone else closed


def _check_strategy(strategy: str, vectorize: bool, name: str) -> None:
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError(f"{name}: the strategy is 'reverse-mode' or 'forward-mode'")
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError(f"{name}: 'forward-mode' is for vectorize=True")


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
