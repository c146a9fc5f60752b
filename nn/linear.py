"""Affine and bilinear maps, look-up tables, and other shapes of the same elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorgrad
from tensorgrad import Tensor, fused

from . import functional as F
from . import init
from .activation import GELU, ReLU
from .factory import new_parameter
from .module import Module, Parameter


class Linear(Module):
    """y = x Wᵀ + b: [..., in_features] → [..., out_features].

    ``weight`` [out, in] and ``bias`` [out] start uniform in ±1/sqrt(in_features), as in PyTorch.
    """

    _expects = "[..., {0.in_features}]"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter(self, out_features, in_features, device=device, dtype=dtype)
        if bias:
            self.bias = new_parameter(self, out_features, device=device, dtype=dtype)
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


def activated(layer: Module, activation: Callable, x: Tensor) -> Tensor:
    """``activation(layer(x))``, as one operation where there is one and no hook sees the calls."""
    if type(layer) is Linear and _is_plain(layer) and _is_plain(activation):
        try:
            weight, bias = layer.weight, layer.bias
            if activation is F.relu or type(activation) is ReLU:
                return fused.linear_relu(x, weight, bias)
            if activation is F.gelu:
                return fused.linear_gelu(x, weight, bias)
            if type(activation) is GELU and activation.approximate in ("none", "tanh"):
                return fused.linear_gelu(x, weight, bias, approximate=activation.approximate)
        except Exception:
            pass  # the calls themselves will say what is wrong
    return activation(layer(x))


def _is_plain(module: Any) -> bool:
    """A function, or a module without hooks that has the ``forward`` of its class."""
    return not isinstance(module, Module) or (
        not module._hooks and "forward" not in module.__dict__
    )


class Bilinear(Module):
    """y = x1ᵀ W x2 + b: [..., in1_features] and [..., in2_features] → [..., out_features].

    ``weight`` [out, in1, in2] and ``bias`` [out] start uniform in ±1/sqrt(in1_features).
    """

    _expects = "[..., {0.in1_features}] and [..., {0.in2_features}]"

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"Bilinear: in1_features must be positive, not {in1_features}")
        self.in1_features, self.in2_features = in1_features, in2_features
        self.out_features = out_features
        sizes = (out_features, in1_features, in2_features)
        self.weight = new_parameter(self, *sizes, device=device, dtype=dtype)
        if bias:
            self.bias = new_parameter(self, out_features, device=device, dtype=dtype)
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Bilinear(3, 4, 2), (tensorgrad.randn(5, 3), tensorgrad.randn(5, 4))


class Embedding(Module):
    """A table of vectors: integers [...] → [..., embedding_dim]; drawn from N(0, 1).

    The row ``padding_idx`` starts as zeros and gets no gradient. Rows that are looked up are first
    scaled down to the ``norm_type``-norm ``max_norm``, if it is given.
    """

    _expects = "integers [...] below {0.num_embeddings}"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise AssertionError(
                    f"Embedding: padding_idx {padding_idx} is none of {num_embeddings} rows"
                )
            padding_idx %= num_embeddings
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = padding_idx, max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        if _weight is None:
            self.weight = new_parameter(
                self, num_embeddings, embedding_dim, device=device, dtype=dtype
            )
            self.reset_parameters()
        else:
            if tuple(_weight.shape) != (num_embeddings, embedding_dim):
                raise AssertionError(
                    f"Embedding: a weight of shape {tuple(_weight.shape)} is no table of "
                    f"{num_embeddings} rows of {embedding_dim}"
                )
            self.weight = Parameter(_weight)
        self.weight.requires_grad_(not _freeze)

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with tensorgrad.no_grad():
                self.weight[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A layer around the table ``embeddings`` [rows, d], not trained if ``freeze``."""
        if embeddings.ndim != 2:
            raise AssertionError(
                f"Embedding: a table has two dims, not the shape {tuple(embeddings.shape)}"
            )
        rows, width = embeddings.shape
        return cls(
            rows, width, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse,
            _weight=embeddings, _freeze=freeze,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type,
            self.scale_grad_by_freq, self.sparse,
        )  # fmt: skip

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        for name, default in (
            ("padding_idx", None), ("max_norm", None), ("norm_type", 2),
            ("scale_grad_by_freq", False), ("sparse", False),
        ):  # fmt: skip
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Embedding(7, 3), (tensorgrad.randint(7, size=(2, 5)),)


class Identity(Module):
    """Its input; whatever it is constructed with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Identity(), (tensorgrad.randn(2, 3),)


class Flatten(Module):
    """Dims ``start_dim`` to ``end_dim`` (included) as one; by default all after the batch."""

    _expects = "[...] with the dims {0.start_dim} to {0.end_dim}"

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Flatten(), (tensorgrad.randn(2, 3, 4),)


class Unflatten(Module):
    """Dim ``dim`` as several, of the sizes ``unflattened_size``, one of which may be -1."""

    _expects = "[...] with a dim {0.dim} of the product of {0.unflattened_size}"

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(dim, int):
            raise TypeError(f"Unflatten: dim must be an integer, dims have no names; got {dim!r}")
        if not isinstance(unflattened_size, (tuple, list)) or not all(
            isinstance(size, int) for size in unflattened_size
        ):
            raise TypeError(
                f"Unflatten: unflattened_size must be a tuple of integers, not {unflattened_size!r}"
            )
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        if not -input.ndim <= self.dim < input.ndim:
            raise IndexError(f"Unflatten: dim {self.dim} is none of shape {tuple(input.shape)}")
        dim, shape = self.dim % input.ndim, tuple(input.shape)
        sizes, n = list(self.unflattened_size), shape[self.dim]
        known = math.prod(size for size in sizes if size != -1)
        if sizes.count(-1) == 1 and known and n % known == 0:
            sizes[sizes.index(-1)] = n // known
        if math.prod(sizes) != n or min(sizes, default=0) < 0:
            raise RuntimeError(
                f"Unflatten: dim {self.dim} of shape {shape} is not the product of the sizes "
                f"{tuple(self.unflattened_size)}"
            )
        return input.reshape(*shape[:dim], *sizes, *shape[dim + 1 :])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Unflatten(1, (2, -1)), (tensorgrad.randn(3, 6, 2),)


class CosineSimilarity(Module):
    """The cosine of the angle between vectors along ``dim``."""

    _expects = "[...] and [...] that broadcast to one shape with a dim {0.dim}"

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return CosineSimilarity(), (tensorgrad.randn(3, 4), tensorgrad.randn(3, 4))


class PairwiseDistance(Module):
    """The ``p``-norm of the difference of vectors: [..., d] and [..., d] → [...]."""

    _expects = "[..., d] and [..., d] that broadcast"

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return PairwiseDistance(), (tensorgrad.randn(3, 4), tensorgrad.randn(3, 4))
