"""Normalisation layers."""

from __future__ import annotations

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from .module import Module, Parameter


class LayerNorm(Module):
    """Normalise over the last dims to mean 0 and variance 1, then scale and shift (Ba et al. 2016).

    ``normalized_shape`` is the size of the last dim, or of the last dims.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: object = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape, self.eps = tuple(shape), eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)
        if elementwise_affine:
            self.weight = Parameter(tensorgrad.ones(self.normalized_shape, dtype=dtype))
            if bias:
                self.bias = Parameter(tensorgrad.zeros(self.normalized_shape, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LayerNorm((2, 3)), (tensorgrad.randn(4, 2, 3),)
