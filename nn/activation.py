"""Activation functions as modules."""

from __future__ import annotations

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReLU(), (tensorgrad.randn(2, 3),)


class GELU(Module):
    """x times the normal distribution function of x; ``approximate="tanh"`` is GPT-2's formula."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return GELU("tanh"), (tensorgrad.randn(2, 3),)
