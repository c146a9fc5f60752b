"""Normalisation: over a sample, over a batch, over groups of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorgrad
from tensorgrad import Tensor
from tensorgrad import fused as _fused

from .arguments import check_float
from .resampling import pad

__all__ = [
    "layer_norm", "rms_norm", "batch_norm", "instance_norm", "group_norm", "local_response_norm",
]  # fmt: skip


def _ends_in(input: Tensor, normalized_shape: Sequence[int], name: str) -> tuple[int, ...]:
    shape = tuple(normalized_shape)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise RuntimeError(
            f"{name}: the input of shape {tuple(input.shape)} does not end in {shape}"
        )
    return shape


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last dims, ``normalized_shape``, then scale and shift."""
    check_float(input, "layer_norm")  # or a kernel would write its result into integers
    shape = _ends_in(input, normalized_shape, "layer_norm")
    return _fused.layer_norm(input, weight, bias, eps=eps, dims=len(shape))


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divide by the root of the mean square over the last dims, then scale (Zhang & Sennrich 2019).

    ``eps`` is added to the mean square, by default the dtype's smallest step from 1.
    """
    shape = _ends_in(input, normalized_shape, "rms_norm")
    eps = 2.0 ** (-52 if input.dtype == "float64" else -23) if eps is None else eps
    return _fused.rms_norm(input, weight, eps=eps, dims=len(shape))


def _channels(value: Tensor, input: Tensor) -> Tensor:
    """One value for each channel, [c], so that it broadcasts over [n, c, ...]."""
    return value.reshape(-1, *[1] * (input.ndim - 2))


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * _channels(weight, y)
    return y if bias is None else y + _channels(bias, y)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of [n, c, ...] over all else (Ioffe & Szegedy 2015).

    In ``training`` with the mean and variance of the batch, towards which the running ones are
    moved by ``momentum``, in place; else with the running ones.
    """
    check_float(input, "batch_norm")
    if input.ndim < 2:
        raise RuntimeError(f"batch_norm: the input must be [n, c, ...], not {tuple(input.shape)}")
    channels = input.shape[1]
    for name, value in (
        ("running_mean", running_mean), ("running_var", running_var), ("weight", weight),
        ("bias", bias),
    ):  # fmt: skip
        if value is not None and tuple(value.shape) != (channels,):
            raise RuntimeError(
                f"batch_norm: {name} must have one element for each of {channels} channels, its "
                f"shape is {tuple(value.shape)}"
            )
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("batch_norm: without training the running statistics are needed")
        mean, scale = running_mean, tensorgrad.rsqrt(running_var + eps)
        return _affine((input - _channels(mean, input)) * _channels(scale, input), weight, bias)
    axes = (0, *range(2, input.ndim))
    count = math.prod(input.shape[a] for a in axes)
    if count <= 1:
        raise ValueError(
            f"batch_norm: training needs more than one value for each channel, the input is "
            f"{tuple(input.shape)}"
        )
    mean = input.mean(axes, keepdim=True)
    centred = input - mean
    var = (centred * centred).mean(axes, keepdim=True)
    with tensorgrad.no_grad():
        if running_mean is not None:
            _move(running_mean, mean, momentum)
        if running_var is not None:
            _move(running_var, var * (count / (count - 1)), momentum)
    return _affine(centred * tensorgrad.rsqrt(var + eps), weight, bias)


def _move(running: Tensor, seen: Tensor, momentum: float) -> None:
    running.copy_(running * (1 - momentum) + seen.detach().reshape(-1) * momentum)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each sample of [n, c, ...] by itself (Ulyanov et al. 2016).

    Without ``use_input_stats`` with the running mean and variance, as :func:`batch_norm`; with it
    these are moved by ``momentum`` towards those of the input, averaged over the samples.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if input.ndim < 3 or math.prod(input.shape[2:]) <= 1:
        raise ValueError(
            "instance_norm: needs more than one value for each channel of each sample, the input "
            f"is {tuple(input.shape)}"
        )
    axes = tuple(range(2, input.ndim))
    count = math.prod(input.shape[2:])
    mean = input.mean(axes, keepdim=True)
    centred = input - mean
    var = (centred * centred).mean(axes, keepdim=True)
    with tensorgrad.no_grad():
        if running_mean is not None:
            _move(running_mean, mean.mean(0), momentum)
        if running_var is not None:
            _move(running_var, var.mean(0) * (count / (count - 1)), momentum)
    return _affine(centred * tensorgrad.rsqrt(var + eps), weight, bias)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise groups of channels of each sample of [n, c, ...] (Wu & He 2018)."""
    if input.ndim < 2:
        raise RuntimeError(f"group_norm: the input must be [n, c, ...], not {tuple(input.shape)}")
    n, channels = input.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise RuntimeError(
            f"group_norm: {channels} channels cannot be divided into {num_groups} equal groups"
        )
    size = math.prod(input.shape[1:]) // num_groups
    groups = input.reshape(n, num_groups, size)
    y = _fused.layer_norm(groups, None, None, eps=eps, dims=1).reshape(tuple(input.shape))
    return _affine(y, weight, bias)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divide [n, c, ...] by (k + alpha · mean of the squares in ``size`` channels around)^beta.

    (Krizhevsky et al. 2012.)
    """
    if input.ndim < 3:
        raise ValueError(
            f"local_response_norm: the input must be [n, c, ...] with 3 dims or more, its shape "
            f"is {tuple(input.shape)}"
        )
    if size < 1:
        raise RuntimeError(f"local_response_norm: size must be positive, not {size}")
    channels = input.shape[1]
    around = (0, 0) * (input.ndim - 2) + (size // 2, (size - 1) // 2)
    squares = pad(input * input, around)
    total = sum((squares[:, i : i + channels] for i in range(1, size)), squares[:, :channels])
    return input / (total * (alpha / size) + k) ** beta
