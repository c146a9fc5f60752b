"""What a kernel is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Kernel(NamedTuple):
    """A fused op and its vector-Jacobian product, on arrays.

    ``forward(*inputs, **params) -> (y, saved)``; ``vjp(g, inputs, saved, needs, **params)`` gives
    one gradient for each input, perhaps ``Unwritten``, or None where none is needed. What they
    return is the caller's.
    """

    forward: Callable
    vjp: Callable
