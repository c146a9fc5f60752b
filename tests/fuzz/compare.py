"""A line of statements, run on both libraries; what differs between the two, in words."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, nan, prod
from types import ModuleType

import numpy as np

from .known import ours_may_differ, ours_may_go_on, ours_may_refuse
from .values import indices_of, permutation_of, tensor_of

KINDS = (IndexError, TypeError, ValueError, RuntimeError)
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 1e-2}  # of the largest number around


@dataclass
class Outcome:
    """What a line does in one library."""

    errors: dict[int, Exception] = field(default_factory=dict)  # by number of statement
    values: dict = field(default_factory=dict)  # by name
    grads: object = None
    second: object = None


@lru_cache(4096)
def _compiled(statement):
    return compile(statement, statement, "exec")


def namespace(m: ModuleType) -> dict:
    """What a line may name, for the library ``m``."""
    makers = {"t": tensor_of(m), "i": indices_of(m), "p": permutation_of(m)}
    return {"m": m, **makers, "inf": inf, "nan": nan}


def run_with_copies(torch: ModuleType, line: str, stop: bool) -> Outcome:
    """PyTorch as if it had saved copies: it never has to refuse because of a later write."""
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        return run(torch, line, stop)


def run(m: ModuleType, line: str, stop: bool = True) -> Outcome:
    """Run the statements of ``line``, up to the first that fails if ``stop``, and differentiate.

    ``m`` is the library; ``t``, ``i`` and ``p`` make tensors (see ``values``).
    """
    got, names, known = Outcome(), {}, namespace(m)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for k, statement in enumerate(line.split("; ")):
            try:
                exec(_compiled(statement), known, names)
            except Exception as error:
                got.errors[k] = error
                if stop:
                    break
        got.values = {name: _described(value, names) for name, value in names.items()}
        if not (got.errors and stop):
            _differentiate(m, names, got)
    return got


def _tensors(value):
    if hasattr(value, "requires_grad"):
        return [value]
    return [t for v in value for t in _tensors(v)] if isinstance(value, (tuple, list)) else []


def _storage(t):
    return t.storage if hasattr(t, "storage") and not callable(t.storage) else (
        t.untyped_storage().data_ptr()
    )  # fmt: skip


def _array(t):
    """A copy of the values (``force``: PyTorch has zeros that exist only when asked for)."""
    force = {"force": True} if hasattr(t, "is_complex") else {}
    return np.array(t.detach().numpy(**force))


def _described(value, names):
    """A result as arrays and plain values that compare, with the names that it is a view of."""
    if hasattr(value, "requires_grad"):
        array = _array(value)
        shares = [
            name for name, other in names.items()
            if array.size and hasattr(other, "requires_grad") and other.numel()
            and _storage(other) == _storage(value)
        ]  # fmt: skip
        return {"": array, ".requires_grad": value.requires_grad, " shares memory": shares}
    if isinstance(value, (tuple, list)):
        return [_described(v, names) for v in value]
    if isinstance(value, np.dtype) or type(value).__name__ == "dtype":
        return str(value).rpartition(".")[2]
    return value


def _differentiate(m, names, got):
    """The gradients of an irregular weighting of all results, and of one of those gradients."""
    try:
        tensors = {id(t): t for v in names.values() for t in _tensors(v) if t.requires_grad}
        leaves = [t for t in tensors.values() if t.is_leaf]
        outs = [t for t in tensors.values() if not t.is_leaf]
        if not leaves or not outs:
            return
        twice = all(str(t.dtype).endswith("float64") for t in outs + leaves)
        grads = m.autograd.grad(outs, leaves, _weights(m, outs), create_graph=twice,
                                allow_unused=True)  # fmt: skip
        got.grads = [_plain(g) for g in grads]
        if twice:
            grads = [g for g in grads if g is not None and g.requires_grad]
            found = [None] * len(leaves)
            if grads:
                found = m.autograd.grad(grads, leaves, _weights(m, grads), allow_unused=True)
            # Whether a second derivative of 0 is there at all is a matter of how it was written.
            got.second = [np.zeros(tuple(v.shape)) if g is None else _plain(g)
                          for v, g in zip(leaves, found)]  # fmt: skip
    except Exception as error:
        got.errors[-1] = error


def _plain(t):
    return None if t is None else _array(t)


def _weights(m, tensors):
    def weight(t):
        array = np.cos(np.arange(prod(t.shape)) + t.ndim).reshape(tuple(t.shape))
        return m.from_numpy(array.astype(str(t.dtype).rpartition(".")[2]))

    return [weight(t) for t in tensors]


# --- the difference -------------------------------------------------------------------------------


def _kind(error):
    return next((kind for kind in KINDS if isinstance(error, kind)), type(error)).__name__


def difference(line: str, stop: bool = True, notes: Counter | None = None) -> str | None:
    """What tensorgrad does otherwise than PyTorch, in words; None if nothing.

    ``notes`` counts the excuses of ``known`` that were made use of.
    """
    import torch

    import tensorgrad

    theirs, ours = run(torch, line, stop), run(tensorgrad, line, stop)
    if "modified by an inplace" in str(theirs.errors.get(-1)) and -1 not in ours.errors:
        theirs = run_with_copies(torch, line, stop)
    notes = Counter() if notes is None else notes
    for k in sorted({*theirs.errors, *ours.errors}, key=lambda k: (k < 0, k)):  # -1: the end
        statement = line.split("; ")[k] if k >= 0 else "the backward pass"
        a, b = ours.errors.get(k), theirs.errors.get(k)
        if a and b:
            if _kind(a) != _kind(b) and not (excuse := ours_may_refuse(statement, a, b)):
                return f"{statement}: {_said(a)}, PyTorch {_said(b)}"
        elif a:
            if not (excuse := ours_may_refuse(statement, a, None)):
                return f"{statement}: {_said(a)}, PyTorch goes on"
        elif not (excuse := ours_may_go_on(statement, b)):
            return f"{statement}: goes on, PyTorch {_said(b)}"
        if a is None or b is None:  # from here on the two are at different places
            notes[excuse] += 1
            return None
        if _kind(a) != _kind(b):
            notes[excuse] += 1
            return None
        if k >= 0 and "_(" in statement:  # PyTorch may have written a part before it complained
            notes["both refuse to write"] += 1
            return None
    if theirs.errors and stop:
        notes["both refuse"] += 1
        return None
    tolerance = TOLERANCE[_least_precise(line, theirs.values.values())]
    found = list(_unequal("", ours.values, theirs.values, tolerance))
    found += _unequal("grads", ours.grads, theirs.grads, tolerance)
    found += _unequal("second grads", ours.second, theirs.second, tolerance)
    for what in found:
        if not (excuse := ours_may_differ(line, what)):
            return what
        notes[excuse] += 1
    return None


def _said(error):
    return f"{_kind(error)} {str(error).splitlines()[0][:150]!r}" if str(error) else _kind(error)


def _least_precise(line, values):
    """The float dtype that limits how exact the numbers of a line can be."""
    dtypes = line + " ".join(str(v[""].dtype) for v in values if isinstance(v, dict))
    return next((d for d in ("float16", "float32") if d in dtypes), "float64")


def _unequal(name, ours, theirs, tolerance):
    """Every difference of two results, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, b in theirs.items():
            yield from _unequal(name + key, ours[key], b, tolerance)
    elif isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)):
        if len(ours) != len(theirs):
            yield f"{name}: {ours}, PyTorch {theirs}"
        for k, (a, b) in enumerate(zip(ours, theirs)):
            yield from _unequal(f"{name}[{k}]", a, b, tolerance)
    elif isinstance(theirs, np.ndarray) and isinstance(ours, np.ndarray):
        kinds = [f"{t.dtype}{list(t.shape)}" for t in (ours, theirs)]
        if kinds[0] != kinds[1]:
            yield f"{name}: {kinds[0]}, PyTorch {kinds[1]}"
        elif not close(ours, theirs, tolerance):
            yield f"{name}: {ours.tolist()}, PyTorch {theirs.tolist()}"
    elif isinstance(theirs, float) and isinstance(ours, float):
        if not close(np.float64(ours), np.float64(theirs), tolerance):
            yield f"{name}: {ours}, PyTorch {theirs}"
    elif type(ours) is not type(theirs) or ours != theirs:
        yield f"{name}: {ours!r}, PyTorch {theirs!r}"


def close(ours, theirs, tolerance):
    """Equal, floats up to a tolerance: relative to the number and to the largest of the array."""
    if theirs.dtype.kind != "f":
        return bool((ours == theirs).all())
    tolerance = max(tolerance, TOLERANCE[theirs.dtype.name])
    finite = np.abs(theirs[np.isfinite(theirs)].astype("float64"))
    scale = max(1.0, finite.max(initial=0.0))
    with np.errstate(all="ignore"):
        near = np.abs(ours.astype("float64") - theirs) <= tolerance * scale
    return bool((near | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))).all())
