"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from . import init
from .complaints import channels_first
from .factory import check_sizes, new_parameter
from .module import Module


class _Affine(Module):
    """The base of all: a scale ``weight``, which starts at 1, and a shift ``bias``, from 0."""

    def _make_affine(
        self, sizes: tuple[int, ...], weight: bool, bias: bool, device: Any, dtype: Any
    ) -> None:
        for name, wanted in (("weight", weight), ("bias", bias)):
            made = new_parameter(self, *sizes, device=device, dtype=dtype) if wanted else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self._parameters.get("bias") is not None:
            init.zeros_(self.bias)


# --- over the last dims ---------------------------------------------------------------------------


def _sizes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class LayerNorm(_Affine):
    """Normalise over the last dims to mean 0 and variance 1, then scale and shift (Ba et al. 2016).

    ``normalized_shape`` is the size of the last dim, or of the last dims.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self._expects = f"[..., {', '.join(map(str, self.normalized_shape))}]"
        self.elementwise_affine = affine = elementwise_affine
        self._make_affine(self.normalized_shape, affine, affine and bias, device, dtype)

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


class RMSNorm(_Affine):
    """Divide by the root of the mean square over the last dims, then scale (Zhang & Sennrich 2019).

    ``eps`` is by default the smallest step from 1 of the input's dtype.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps = _sizes(normalized_shape), eps
        self._expects = f"[..., {', '.join(map(str, self.normalized_shape))}]"
        self.elementwise_affine = elementwise_affine
        made = (
            new_parameter(self, *self.normalized_shape, device=device, dtype=dtype)
            if elementwise_affine
            else None
        )
        self.register_parameter("weight", made)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return RMSNorm(4), (tensorgrad.randn(2, 3, 4),)


class GroupNorm(_Affine):
    """Normalise ``num_groups`` groups of the channels of each sample (Wu & He 2018)."""

    _expects = "[N, {0.num_channels}, ...]"

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(
                f"GroupNorm: {num_channels} channels cannot be divided into {num_groups} groups"
            )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        self._make_affine((num_channels,), affine, affine and bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return GroupNorm(2, 4), (tensorgrad.randn(2, 4, 3),)


# --- of channels, with running statistics ---------------------------------------------------------


class _ChannelNorm(_Affine):
    """The base of batch and instance norms: affine, with running statistics, both optional."""

    dims: tuple[int, ...] = ()  # of the inputs that it takes

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        check_sizes(self, num_features)
        tracked = track_running_stats
        mean = tensorgrad.zeros(num_features, dtype=dtype) if tracked else None
        var = tensorgrad.ones(num_features, dtype=dtype) if tracked else None
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", var)
        self.register_buffer("num_batches_tracked", tensorgrad.tensor(0) if tracked else None)
        self._make_affine((num_features,), affine, affine and bias, device, dtype)

    def reset_running_stats(self) -> None:
        """Back to mean 0 and variance 1, of no batches."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        super().reset_parameters()

    def _check(self, input: Tensor) -> None:
        if input.ndim not in self.dims:
            allowed = " or ".join(f"{n}" for n in self.dims)
            raise ValueError(
                f"{type(self).__name__}: the input must have {allowed} dims, its shape is "
                f"{tuple(input.shape)}"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    """Normalise each channel over the batch and all positions (Ioffe & Szegedy 2015).

    In training by the batch, in evaluation by the running statistics if there are some. These move
    towards each batch's by ``momentum``; with None they are the means over all batches.
    """

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        moving = self.training and self.track_running_stats
        momentum = self.momentum
        if moving and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if momentum is None:
                momentum = 1 / int(self.num_batches_tracked)
        used = moving or not self.training
        return F.batch_norm(
            input,
            self.running_mean if used else None,
            self.running_var if used else None,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            momentum or 0.0,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    __doc__, dims = _BatchNorm.__doc__, (2, 3)
    _expects = "[N, {0.num_features}] or [N, {0.num_features}, L]"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return BatchNorm1d(3), (tensorgrad.randn(4, 3),)


class BatchNorm2d(_BatchNorm):
    __doc__, dims = _BatchNorm.__doc__, (4,)
    _expects = channels_first("{0.num_features}", 2, batched=True)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return BatchNorm2d(2), (tensorgrad.randn(3, 2, 2, 2),)


class BatchNorm3d(_BatchNorm):
    __doc__, dims = _BatchNorm.__doc__, (5,)
    _expects = channels_first("{0.num_features}", 3, batched=True)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return BatchNorm3d(2), (tensorgrad.randn(2, 2, 2, 1, 2),)


class _InstanceNorm(_ChannelNorm):
    """Normalise each channel of each sample by itself (Ulyanov et al. 2016).

    With ``track_running_stats`` evaluation normalises by the running statistics instead. The input
    may lack the batch dim.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        whole = input.ndim == max(self.dims)
        if self.affine and input.shape[-max(self.dims) + 1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}: {self.num_features} features do not fit the input's shape "
                f"{tuple(input.shape)}"
            )
        y = F.instance_norm(
            input if whole else input.unsqueeze(0),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum or 0.0,
            self.eps,
        )
        return y if whole else y.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    __doc__, dims = _InstanceNorm.__doc__, (2, 3)
    _expects = channels_first("{0.num_features}", 1)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return InstanceNorm1d(3, affine=True), (tensorgrad.randn(2, 3, 4),)


class InstanceNorm2d(_InstanceNorm):
    __doc__, dims = _InstanceNorm.__doc__, (3, 4)
    _expects = channels_first("{0.num_features}", 2)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return InstanceNorm2d(2), (tensorgrad.randn(2, 2, 2, 3),)


class InstanceNorm3d(_InstanceNorm):
    __doc__, dims = _InstanceNorm.__doc__, (4, 5)
    _expects = channels_first("{0.num_features}", 3)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return InstanceNorm3d(2), (tensorgrad.randn(1, 2, 2, 1, 2),)


# --- over neighbouring channels -------------------------------------------------------------------


class LocalResponseNorm(Module):
    """Divide by the activity of ``size`` channels around; see
    :func:`nn.functional.local_response_norm`."""

    _expects = "[N, C, ...] with 3 dims or more"

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LocalResponseNorm(2, 0.5), (tensorgrad.randn(2, 4, 3),)
