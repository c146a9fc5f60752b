"""Losses as modules."""

from __future__ import annotations

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from .module import Module


class CrossEntropyLoss(Module):
    """-log softmax(input)[target]; see :func:`nn.functional.cross_entropy`."""

    def __init__(
        self, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.ignore_index, self.reduction = ignore_index, reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input, target, self.ignore_index, self.reduction, self.label_smoothing
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return CrossEntropyLoss(), (tensorgrad.randn(4, 3), tensorgrad.randint(3, size=(4,)))
