"""What all losses share: the reduction of many losses to one, and the sizes of their arguments."""

from __future__ import annotations

import warnings

from tensorgrad import Tensor

REDUCTIONS = ("mean", "sum", "none")


def reduction_of(
    name: str, reduction: str, size_average: bool | None = None, reduce: bool | None = None
) -> str:
    """The reduction's name, checked; the two older arguments replace it where they are given."""
    if size_average is not None or reduce is not None:
        warnings.warn(
            f"{name}: size_average and reduce are deprecated, give reduction instead", stacklevel=3
        )
        if reduce is False:
            return "none"
        return "sum" if size_average is False else "mean"
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name}: {reduction!r} is no reduction: mean, sum or none")
    return reduction


def reduced(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def warn_of_sizes(name: str, input: Tensor, target: Tensor) -> None:
    """Broadcasting a target is nearly always a mistake."""
    if tuple(input.shape) != tuple(target.shape):
        warnings.warn(
            f"{name}: the target of shape {tuple(target.shape)} is broadcast with the input of "
            f"shape {tuple(input.shape)}; give them the same shape",
            stacklevel=3,
        )
