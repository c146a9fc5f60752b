"""All parameters as one vector, for methods that think of them so, and back."""

from __future__ import annotations

from collections.abc import Iterable

import tensorgrad
from tensorgrad import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters in order, differentiable: shapes that hold n elements → [n].

    >>> import nn
    >>> parameters_to_vector(nn.Linear(3, 2).parameters()).shape
    (8,)
    """
    return tensorgrad.cat([p.view(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Let the parameters be views of ``vec``, one after the other; they share its memory.

    Raises:
        RuntimeError: the vector is too short. What is left over is ignored.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: expected a tensor, got {type(vec).__name__}")
    end = 0
    for p in parameters:
        start, end = end, end + p.numel()
        if end > len(vec):
            raise RuntimeError(
                f"vector_to_parameters: a vector of {len(vec)} elements has none left for a "
                f"parameter of shape {tuple(p.shape)}, which takes those from {start} to {end}"
            )
        p.data = vec[start:end].view(p.shape).data
