"""Dropout: of elements, and of whole channels."""

from __future__ import annotations

from collections.abc import Callable

import tensorgrad
from tensorgrad import Generator, Tensor

from . import functional as F
from .complaints import channels_first
from .module import Module


class _Dropout(Module):
    """The base of all: ``function`` does it."""

    function: Callable

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None
    ) -> None:
        super().__init__()
        if not isinstance(p, (int, float)):
            raise TypeError(f"{type(self).__name__}: p must be a number, not {p!r}")
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p must be a probability, not {p}")
        self.p, self.inplace, self.generator = p, inplace, generator

    def forward(self, input: Tensor) -> Tensor:
        function = type(self).function
        return function(input, self.p, self.training, self.inplace, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """In training set elements to 0 with probability ``p`` and scale the rest by 1 / (1 - p)
    (Srivastava et al. 2014). ``generator`` draws the elements, by default the global one."""

    _expects = "floats [...]"
    function = staticmethod(F.dropout)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Dropout(0.5), (tensorgrad.randn(4, 5),)


class Dropout1d(_Dropout):
    """:class:`Dropout` of whole channels of [n, c, length] or [c, length] (Tompson et al. 2015)."""

    _expects = channels_first("C", 1)
    function = staticmethod(F.dropout1d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Dropout1d(0.5), (tensorgrad.randn(2, 3, 4),)


class Dropout2d(_Dropout):
    """:class:`Dropout` of whole channels of [n, c, height, width]."""

    _expects = channels_first("C", 2)
    function = staticmethod(F.dropout2d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Dropout2d(0.5), (tensorgrad.randn(2, 3, 2, 2),)


class Dropout3d(_Dropout):
    """:class:`Dropout` of whole channels of [n, c, depth, height, width] or without n."""

    _expects = channels_first("C", 3)
    function = staticmethod(F.dropout3d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Dropout3d(0.5), (tensorgrad.randn(2, 3, 2, 1, 2),)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1, for :class:`SELU` (Klambauer et al. 2017)."""

    _expects = "floats [...]"
    function = staticmethod(F.alpha_dropout)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AlphaDropout(0.5), (tensorgrad.randn(4, 5),)
