"""Transformations of functions: derivatives, and one function over many slices.

Each takes a function and gives one, so they can be composed: ``vmap(grad(f))``, ``grad(grad(f))``.
All derivatives come from reverse passes, those of :func:`jvp` and :func:`jacfwd` too. Arguments and
results may be nested in tuples, lists and dicts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import ops
from .autograd.derivatives import filled, jacobian_rows, partial_grad, pushed
from .creation import zeros
from .functions import stack
from .mode import enable_grad, is_grad_enabled
from .node import leaves as leaves_of
from .node import recorded
from .random import default_generator
from .tensor import Tensor
from .utils import pytree

Argnums = Any  # an int or a tuple of them


def grad(func: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """The function that gives the derivative of ``func``, which returns a 0-dim tensor.

    Args:
        argnums: which argument to differentiate by, or which several; may be nested.
        has_aux: ``func`` returns ``(value, aux)``, and the result is ``(gradient, aux)``.

    >>> import tensorgrad
    >>> grad(grad(lambda x: x**3))(tensorgrad.tensor(2.0))
    tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def grad_and_value(func: Callable, argnums: Argnums = 0, has_aux: bool = False) -> Callable:
    """Like :func:`grad`, giving ``(gradient, value)``, or ``(gradient, (value, aux))``."""

    @functools.wraps(func)
    def both(*args: Any, **kwargs: Any) -> Any:
        scope = _Scope()
        given, args = scope.open_some(args, argnums)
        value, aux = scope.call(func, args, kwargs, has_aux)
        if not isinstance(value, Tensor) or value.ndim:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value)
            raise RuntimeError(
                f"grad: the function must return a 0-dim tensor, got {got}; vjp and jacrev take "
                "others"
            )
        own = pytree.leaves(given)
        found = scope.pull([value], own, [None])
        gradient = pytree.rebuilt(given, found)
        return gradient, scope.close((value, aux) if has_aux else value)

    return both


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """``func(*primals)`` and a function from a gradient of it to those of the primals, a tuple;
    then aux, with ``has_aux``."""
    scope = _Scope()
    given, args = scope.open_some(primals, tuple(range(len(primals))))
    out, aux = scope.call(func, args, {}, has_aux)
    outs, own = _only_tensors(out, "vjp"), pytree.leaves(given)

    def pullback(cotangents: Any, retain_graph: bool = True, create_graph: Any = None) -> tuple:
        starts = _like(cotangents, outs, "vjp")
        return pytree.rebuilt(given, scope.pull(outs, own, starts, retain=True))

    result = scope.close(out)
    return (result, pullback, scope.close(aux)) if has_aux else (result, pullback)


def jvp(
    func: Callable, primals: tuple, tangents: tuple, *, strict: bool = False, has_aux: bool = False
) -> tuple:
    """``func(*primals)`` and its derivative along ``tangents``; then aux, with ``has_aux``."""
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("jvp: primals and tangents must be tuples, of the function's arguments")
    scope = _Scope()
    given, args = scope.open_some(primals, tuple(range(len(primals))))
    own = pytree.leaves(given)
    vectors = _like(tangents, own, "jvp")
    out, aux = scope.call(func, args, {}, has_aux)
    outs = _only_tensors(out, "jvp")
    with enable_grad():
        results = pushed(
            tuple(outs), tuple(own), tuple(vectors), strict, scope.recorded(outs, vectors), "jvp"
        )
    derivative = scope.close(pytree.rebuilt(out, results))
    value = scope.close(out)
    return (value, derivative, scope.close(aux)) if has_aux else (value, derivative)


def jacrev(
    func: Callable, argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Callable:
    """The function that gives the Jacobian of ``func``: a result [a] and an argument [b] give
    [a, b]. There is a reverse pass for each element of the result, whatever ``chunk_size``.

    >>> import tensorgrad
    >>> jacrev(lambda x: x * x)(tensorgrad.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        scope = _Scope()
        given, args = scope.open_some(args, argnums)
        out, aux = scope.call(func, args, kwargs, has_aux)
        own, rows = pytree.leaves(given), []
        outs = _only_tensors(out, "jacrev")
        create_graph = scope.recorded(outs)
        for o in outs:
            with enable_grad():
                row = jacobian_rows(o, tuple(own), False, create_graph)
            rows.append(scope.close(pytree.rebuilt(given, row)))
        found = pytree.rebuilt(out, rows)
        return (found, scope.close(aux)) if has_aux else found

    return jacobian


def jacfwd(
    func: Callable, argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable:
    """:func:`jacrev` under the name of PyTorch's forward mode, which does not exist here."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable, argnums: Argnums = 0) -> Callable:
    """The function that gives the second derivatives of ``func``.

    >>> import tensorgrad
    >>> hessian(lambda x: (x**3).sum())(tensorgrad.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


# --- one level of differentiation -----------------------------------------------------------------


class _Scope:
    """One transformation's tensors, and what they have to do with those of the levels outside.

    The arguments are opened as leaves of this level, or, where they have a history already, as new
    nodes of it. What depends on nothing else that requires grad leaves the level without history.
    """

    def __init__(self) -> None:
        self.outer = is_grad_enabled()
        self.own: dict[int, Tensor] = {}

    def open_some(self, args: tuple, argnums: Argnums) -> tuple[Any, tuple]:
        """The arguments to differentiate by, opened, and all arguments with them in place."""
        numbers = argnums if isinstance(argnums, tuple) else (argnums,)
        opened = list(args)
        for n in numbers:
            if not isinstance(n, int) or not -len(args) <= n < len(args):
                raise RuntimeError(f"argnum {n} is not one of the {len(args)} positional arguments")
            opened[n] = pytree.mapped(self._opened, args[n])
        given = tuple(opened[n] for n in numbers)
        return (given if isinstance(argnums, tuple) else given[0]), tuple(opened)

    def _opened(self, t: Any) -> Tensor:
        if not isinstance(t, Tensor):
            raise ValueError(f"differentiation is by tensors, not by a {type(t).__name__}")
        if self.outer and t.requires_grad:
            return ops.alias(t)
        own = t.detach().requires_grad_()
        self.own[id(own)] = own
        return own

    def call(self, func: Callable, args: tuple, kwargs: dict, has_aux: bool) -> tuple:
        """``(value, aux)`` of the function."""
        with enable_grad():
            out = func(*args, **kwargs)
        if not has_aux:
            return out, None
        if not isinstance(out, tuple) or len(out) != 2:
            raise RuntimeError("has_aux: the function must return a pair, (value, aux)")
        return out

    def recorded(self, *groups: Sequence) -> bool:
        """Whether derivatives of these tensors matter to a level outside."""
        tensors = [t for group in groups for t in group if isinstance(t, Tensor)]
        found = leaves_of(tensors, recorded(tensors))
        return self.outer and any(key not in self.own for key in found)

    def pull(self, outs: list, own: list, starts: list, retain: bool = False) -> list:
        """The derivatives of ``outs`` by ``own``, zeros where there are none."""
        create_graph = is_grad_enabled() and self.recorded(outs, starts)
        found = partial_grad(outs, own, starts, create_graph, retain)
        return [self._closed(g) for g in filled(found, own, False, create_graph, "")]

    def close(self, tree: Any) -> Any:
        """Results as the level outside sees them."""
        return pytree.mapped(self._closed, tree)

    def _closed(self, value: Any) -> Any:
        inner = isinstance(value, Tensor) and value.requires_grad and not self.recorded([value])
        return value.detach() if inner else value


def _only_tensors(out: Any, name: str) -> list[Tensor]:
    outs = pytree.leaves(out)
    for o in outs:
        if not isinstance(o, Tensor):
            raise RuntimeError(
                f"{name}: the function must return tensors only, got a {type(o).__name__}"
            )
    return outs


def _like(given: Any, tensors: list, name: str) -> list:
    """The tensors in ``given``, which must have the shapes of ``tensors``."""
    found = pytree.leaves(given)
    shapes = [getattr(t, "shape", None) for t in found]
    if shapes != [t.shape for t in tensors]:
        raise RuntimeError(
            f"{name}: got tensors of shapes {shapes} for {[tuple(t.shape) for t in tensors]}"
        )
    return found


# --- many slices ----------------------------------------------------------------------------------


def vmap(
    func: Callable,
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable:
    """``func`` over slices of its arguments, its results stacked.

    It is a loop: as slow as one, and with nothing that a loop could not do. PyTorch's runs all
    slices at once.

    Args:
        in_dims: the dim of every argument along which the slices lie, None for one that is given
            whole; for all arguments alike, or nested as they are.
        out_dims: where the dim of the slices is put in every result; None for a result that is the
            same for all.
        randomness: "different" draws for each slice, the "same" ones for all, or an "error".
        chunk_size: has no effect.

    >>> import tensorgrad
    >>> rows = tensorgrad.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> vmap(grad(lambda x: (x * x).sum()))(rows)
    tensor([[2., 4.],
            [6., 8.]])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError("vmap: randomness is 'error', 'different' or 'same'")

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        values, dims, size = _slices(args, in_dims)
        state, outs = default_generator.get_state(), []
        for k in range(size or 1):
            if randomness == "same":
                default_generator.set_state(state)
            parts = [
                v if d is None else _slice(v, d, k) if size else _empty_slice(v, d)
                for v, d in zip(values, dims, strict=True)
            ]
            outs.append(func(*pytree.rebuilt(args, parts), **kwargs))
            if randomness == "error" and default_generator.get_state().tolist() != state.tolist():
                raise RuntimeError(
                    "vmap: the function draws random numbers; say with randomness whether those of "
                    "all slices are to be 'different' or the 'same'"
                )
        return _stacked(outs, out_dims, size)

    return mapped


def _slices(args: tuple, in_dims: Any) -> tuple[list, list, int]:
    """The values in the arguments, the dim of each, and the number of slices."""
    values = pytree.leaves(args)
    if not isinstance(in_dims, (int, tuple, list)):
        raise ValueError(f"vmap: in_dims must be an int or a tuple, not {type(in_dims).__name__}")
    prefix = in_dims if isinstance(in_dims, int) else tuple(in_dims)
    dims = pytree.spread(prefix, args)
    if dims is None:
        raise ValueError(f"vmap: in_dims {in_dims} is not nested as the arguments are")
    sizes = set()
    for v, d in zip(values, dims, strict=True):
        if d is None:
            continue
        if not isinstance(v, Tensor):
            raise ValueError(
                f"vmap: an argument is a {type(v).__name__}, which has no dim {d}; its in_dim must "
                "be None"
            )
        if not -v.ndim <= d < v.ndim:
            raise ValueError(f"vmap: a tensor of shape {tuple(v.shape)} has no dim {d}")
        sizes.add(v.shape[d])
    if len(sizes) != 1:
        raise ValueError(f"vmap: the dims to map over must be of one size, got {sorted(sizes)}")
    return values, dims, sizes.pop()


def _slice(t: Tensor, dim: int, k: int) -> Tensor:
    return t[(slice(None),) * (dim % t.ndim) + (k,)]


def _empty_slice(t: Tensor, dim: int) -> Tensor:
    """What a slice of a tensor without any would look like."""
    shape = list(t.shape)
    del shape[dim]
    return zeros(shape, dtype=t.dtype)


def _stacked(outs: list, out_dims: Any, size: int) -> Any:
    dims = pytree.spread(out_dims, outs[0])
    if dims is None:
        raise ValueError(f"vmap: out_dims {out_dims} is not nested as the results are")
    stacked = []
    for d, *parts in zip(dims, *map(pytree.leaves, outs), strict=True):
        if d is None:
            stacked.append(parts[0])
            continue
        if not isinstance(parts[0], Tensor):
            raise ValueError(
                f"vmap: the function must return tensors, got a {type(parts[0]).__name__}"
            )
        whole = stack(parts, d)
        stacked.append(whole if size else whole.narrow(d, 0, 0))
    return pytree.rebuilt(outs[0], stacked)


# --- modules --------------------------------------------------------------------------------------


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: Any = None,
    kwargs: dict | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in place of its parameters and buffers, by their names.

    Args:
        args: the arguments, a tuple, or the only one.
        tie_weights: a tensor that the module has under several names is replaced under all.
        strict: every name must be given.
    """
    dicts = parameter_and_buffer_dicts
    given: dict[str, Tensor] = {}
    for some in [dicts] if isinstance(dicts, Mapping) else dicts:
        given.update(some)
    places = dict(_places(module, ""))
    unknown = sorted(given.keys() - places.keys())
    if unknown:
        raise RuntimeError(f"functional_call: the module has no tensors of the names {unknown}")
    originals = {name: members[key] for name, (members, key) in places.items()}
    if tie_weights:
        new = {id(originals[name]): tensor for name, tensor in given.items()}
        given = {name: new[id(t)] for name, t in originals.items() if id(t) in new}
    if strict and (missing := sorted(places.keys() - given.keys())):
        raise RuntimeError(f"functional_call: strict, but without the tensors {missing}")
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    try:
        for name, tensor in given.items():
            members, key = places[name]
            members[key] = tensor
        return module(*arguments, **(kwargs or {}))
    finally:
        for name, (members, key) in places.items():
            if name in given:
                members[key] = originals[name]


def _places(module: Any, prefix: str) -> list[tuple[str, tuple[dict, str]]]:
    """Where a module keeps each of its parameters and buffers, by their full names."""
    places = [
        (prefix + key, (members, key))
        for members in (module._parameters, module._buffers)
        for key, tensor in members.items()
        if tensor is not None
    ]
    for key, child in module._modules.items():
        if child is not None:
            places += _places(child, f"{prefix}{key}.")
    return places


__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "vjp",
    "vmap",
]  # fmt: skip
