"""Gradients made smaller before a step: their joint norm, or each of their elements."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from types import GeneratorType
from typing import Any

from ..backend import kernels, xp
from ..source import here
from ..tensor import Tensor
from ..variable import wrap


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients in place so that their joint norm is at most ``max_norm``.

    Returns the norm before scaling, a 0-dim tensor; see :func:`get_total_norm`. ``foreach``
    chooses nothing here. (Pascanu et al. 2013.)
    """
    grads = _gradients(parameters)
    total = _total_norm(grads, norm_type, error_if_nonfinite)
    _scale(grads, max_norm, total, "clip_grad_norm_")
    return _number(total, grads)


def clip_factor(gradients: Iterable[Tensor], max_norm: float) -> tuple[float, float]:
    """The joint norm of gradients, and the factor that :func:`clip_grad_norm_` multiplies them by.

    ``optimizer.step(factor=...)`` takes it in, so that no gradient is written for it.

    >>> import tensorgrad
    >>> norm, factor = clip_factor([tensorgrad.tensor([3.0, 4.0])], max_norm=1.0)
    >>> norm, round(factor, 4)
    (5.0, 0.2)
    """
    total = _total_norm(list(gradients), 2.0, False)
    return total, _factor(max_norm, total)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    total_norm: Tensor,
    foreach: bool | None = None,
) -> None:
    """Scale the gradients in place by ``max_norm / total_norm`` if that is less than 1."""
    _scale(_gradients(parameters), max_norm, float(total_norm), "clip_grads_with_norm_")


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Clamp every element of the gradients in place to [-clip_value, clip_value]."""
    limit = float(clip_value)
    for g in _gradients(parameters):
        xp.maximum(g.array, -limit, out=g.array)  # nan stays nan
        xp.minimum(g.array, limit, out=g.array)
        g.wrote("clip_grad_value_")


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of the tensors' norms, 0-dim; of order 2, that of all elements taken together.

    Args:
        norm_type: the order: a number, or ``inf`` for the largest absolute value.
        error_if_nonfinite: raise a RuntimeError for a norm that is infinite or nan.
        foreach: chooses nothing here.

    >>> import tensorgrad
    >>> get_total_norm([tensorgrad.tensor([3.0, 0.0]), tensorgrad.tensor([-4.0])])
    tensor(5.)
    """
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    return _number(_total_norm(given, norm_type, error_if_nonfinite), given)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if not given and isinstance(parameters, GeneratorType):
        warnings.warn("the parameters are an exhausted generator: nothing is clipped", stacklevel=3)
    return [g for p in given if (g := p.grad) is not None]


def _total_norm(tensors: list[Tensor], norm_type: float, error_if_nonfinite: bool) -> float:
    order = float(norm_type)
    with xp.errstate(over="ignore", divide="ignore"):
        if order == 2:
            squares = kernels.routine("sum_of_squares")
            total = math.sqrt(squares([t.array for t in tensors]))
        else:
            norms = [_norm(t.array.astype(xp.float64), order) for t in tensors]
            total = _norm(xp.asarray(norms, dtype=xp.float64), order) if norms else 0.0
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(
            f"the norm of the gradients is {total}: they cannot be scaled; with "
            "error_if_nonfinite=False they become 0 or nan"
        )
    return total


def _norm(x: Any, order: float) -> float:
    """(Σ|x|ᵖ)^(1/p), and its limits."""
    x = abs(x)
    if math.isinf(order):
        return float(x.max(initial=0.0) if order > 0 else x.min())
    if order == 0:
        return float((x != 0).sum())
    return float(xp.sum(x**order) ** (1 / order))


def _factor(max_norm: float, total: float) -> float:
    """1 for a small norm; nan for one that is nan: no gradient is to look healthy then."""
    factor = float(max_norm) / (total + 1e-6)
    return 1.0 if factor >= 1 else factor


def _scale(grads: list[Tensor], max_norm: float, total: float, writer: str) -> None:
    factor = _factor(max_norm, total)
    if factor != 1:
        place, routine = here(), kernels.routine("scale")
        arrays = [g.array for g in grads]
        with xp.errstate(invalid="ignore"):
            for array in routine(arrays, factor) if routine else arrays:
                array *= factor
        for g in grads:
            g.wrote(writer, place)


def _number(value: float, like: list[Tensor]) -> Tensor:
    dtypes = {t.array.dtype for t in like} or {xp.float32}
    return wrap(xp.asarray(value, dtype=xp.result_type(*dtypes)))
