"""Affine maps and look-up tables."""

from __future__ import annotations

import math

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from . import init
from .module import Module, Parameter


class Linear(Module):
    """y = x Wᵀ + b: [..., in_features] → [..., out_features].

    ``weight`` [out, in] and ``bias`` [out] start uniform in ±1/sqrt(in_features), as in PyTorch.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: object = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(tensorgrad.empty(out_features, in_features, dtype=dtype))
        if bias:
            self.bias = Parameter(tensorgrad.empty(out_features, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Linear(4, 3), (tensorgrad.randn(2, 5, 4),)


class Embedding(Module):
    """A table of vectors: integers [...] → [..., embedding_dim]; drawn from N(0, 1)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: object = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(tensorgrad.empty(num_embeddings, embedding_dim, dtype=dtype))
        init.normal_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Embedding(7, 3), (tensorgrad.randint(7, size=(2, 5)),)
