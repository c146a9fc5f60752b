"""Dropout."""

from __future__ import annotations

import tensorgrad
from tensorgrad import Generator, Tensor

from . import functional as F
from .module import Module


class Dropout(Module):
    """In training set elements to 0 with probability ``p`` and scale the rest by 1 / (1 - p)
    (Srivastava et al. 2014). ``generator`` draws the elements, by default the global one."""

    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be a probability, not {p}")
        self.p, self.generator = p, generator

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Dropout(0.5), (tensorgrad.randn(4, 5),)
