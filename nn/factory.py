"""How layers make their parameters."""

from __future__ import annotations

from operator import index
from typing import Any

import tensorgrad

from .module import Module, Parameter


def check_sizes(layer: Module, *sizes: int) -> None:
    """Sizes are integers, and not negative."""
    name = type(layer).__name__
    try:
        numbers = [index(size) for size in sizes]
    except TypeError:
        raise TypeError(f"{name}: sizes must be integers, not {sizes}") from None
    if min(numbers, default=0) < 0:
        raise RuntimeError(f"{name}: sizes must not be negative, got {sizes}")


def new_parameter(layer: Module, *sizes: int, device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter that has a shape and no values yet; there is one device, the CPU."""
    check_sizes(layer, *sizes)
    if device is not None and str(device) != "cpu":
        raise RuntimeError(
            f"{type(layer).__name__}: a parameter on {device}: tensors live on the CPU only"
        )
    return Parameter(tensorgrad.empty(*sizes, dtype=dtype))
