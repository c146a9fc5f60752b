"""Losses of distances: between numbers, between vectors."""

from __future__ import annotations

import math
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from .reduction import reduced, reduction_of, warn_of_sizes
from .vectors import pairwise_distance

__all__ = [
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss",
    "gaussian_nll_loss", "cosine_embedding_loss", "margin_ranking_loss", "hinge_embedding_loss",
    "triplet_margin_loss",
]  # fmt: skip


# --- between numbers ------------------------------------------------------------------------------


def _weighted(
    name: str, losses: Tensor, weight: Tensor | None, reduction: str, by_weight: bool = True
) -> Tensor:
    """Reduced with a weight for each loss; ``by_weight``: the mean is divided by their sum."""
    if weight is None:
        return reduced(losses, reduction)
    if tuple(weight.shape) != tuple(losses.shape):
        raise ValueError(
            f"{name}: weight must have the shape {tuple(losses.shape)}, not {tuple(weight.shape)}"
        )
    if reduction == "mean" and by_weight:
        return (losses * weight).sum() / weight.sum()
    return reduced(losses * weight, reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)², of each element; with ``weight`` the weighted mean."""
    reduction = reduction_of("mse_loss", reduction, size_average, reduce)
    warn_of_sizes("mse_loss", input, target)
    return _weighted("mse_loss", tensorgrad.square(input - target), weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|, of each element; with ``weight`` the weighted mean."""
    reduction = reduction_of("l1_loss", reduction, size_average, reduce)
    warn_of_sizes("l1_loss", input, target)
    return _weighted("l1_loss", tensorgrad.abs(input - target), weight, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d² / (2 beta) where |d| = |input - target| is below ``beta``, |d| - beta / 2 elsewhere."""
    reduction = reduction_of("smooth_l1_loss", reduction, size_average, reduce)
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: beta must be 0 or greater, not {beta}")
    warn_of_sizes("smooth_l1_loss", input, target)
    d = input - target
    size = tensorgrad.abs(d)
    if beta == 0:
        return reduced(size, reduction)
    return reduced(
        tensorgrad.where(size < beta, d * d * (0.5 / beta), size - 0.5 * beta), reduction
    )


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d² / 2 where |d| = |input - target| is below ``delta``, else delta (|d| - delta / 2).

    (Huber 1964.) ``weight`` multiplies the losses.
    """
    reduction = reduction_of("huber_loss", reduction)
    if delta <= 0:
        raise RuntimeError(f"huber_loss: delta must be greater than 0, not {delta}")
    warn_of_sizes("huber_loss", input, target)
    d = input - target
    size = tensorgrad.abs(d)
    losses = tensorgrad.where(size < delta, d * d * 0.5, (size - 0.5 * delta) * delta)
    return _weighted("huber_loss", losses, weight, reduction, by_weight=False)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """rate - target log(rate) for counts ``target``; ``log_input``: the input is log(rate).

    ``full`` adds Stirling's approximation of log(target!) for targets above 1.
    """
    reduction = reduction_of("poisson_nll_loss", reduction, size_average, reduce)
    if log_input:
        losses = tensorgrad.exp(input) - target * input
    else:
        losses = input - target * tensorgrad.log(input + eps)
    if full:
        many = target > 1
        t = tensorgrad.where(many, target, 1.0)
        stirling = t * tensorgrad.log(t) - t + 0.5 * tensorgrad.log(t * (2 * math.pi))
        losses = losses + tensorgrad.where(many, stirling, 0.0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log var + (input - target)² / var) / 2, with ``var``, tensor or number, at least ``eps``.

    The gradient of ``var`` flows as if it were not bounded. ``full`` adds log(2 π) / 2.
    """
    reduction = reduction_of("gaussian_nll_loss", reduction)
    if not isinstance(var, Tensor):
        var = tensorgrad.ones_like(input) * var
    if (var < 0).any():
        raise ValueError("gaussian_nll_loss: a variance is negative")
    shape, own = tuple(input.shape), tuple(var.shape)
    if own != shape:
        if own == shape[:-1]:
            var = var.unsqueeze(-1)
        elif len(own) != len(shape) or [v for n, v in zip(shape, own) if n != v] != [1]:
            raise ValueError(
                f"gaussian_nll_loss: var of shape {own} does not fit the input {shape}: it may "
                "lack the last dim, or have size 1 in one dim"
            )
    # The bound changes the value and not the derivative, which has to say how to leave it.
    var = var + (tensorgrad.clamp_min(var.detach(), eps) - var.detach())
    losses = (tensorgrad.log(var) + tensorgrad.square(input - target) / var) * 0.5
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


# --- between vectors ------------------------------------------------------------------------------


def _excess(x: Tensor) -> Tensor:
    """max(x, 0); at 0 the gradient passes, as in PyTorch's losses."""
    return tensorgrad.clamp_min(x, 0.0)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """[n, d], [n, d] and targets [n] → [n]: 1 - cos where the target is 1, and where it is -1 what
    cos exceeds ``margin`` by."""
    reduction = reduction_of("cosine_embedding_loss", reduction, size_average, reduce)
    if target.ndim not in (0, 1) or input1.ndim != target.ndim + 1 or input2.ndim != input1.ndim:
        raise RuntimeError(
            "cosine_embedding_loss: inputs [n, d] and target [n] do not fit: "
            f"{tuple(input1.shape)}, {tuple(input2.shape)} and {tuple(target.shape)}"
        )
    squares = [(x * x).sum(-1) + 1e-12 for x in (input1, input2)]
    cos = (input1 * input2).sum(-1) / tensorgrad.sqrt(squares[0] * squares[1])
    apart = tensorgrad.where(target == -1, _excess(cos - margin), 0.0)
    return reduced(tensorgrad.where(target == 1, 1 - cos, apart), reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - target (input1 - input2)): target 1 wants the first to be the larger."""
    reduction = reduction_of("margin_ranking_loss", reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            "margin_ranking_loss: the inputs and the target must have as many dims, got "
            f"{tuple(input1.shape)}, {tuple(input2.shape)} and {tuple(target.shape)}"
        )
    return reduced(_excess((input1 - input2) * -target + margin), reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The distance ``input`` where the target is 1, max(0, margin - input) where it is -1."""
    reduction = reduction_of("hinge_embedding_loss", reduction, size_average, reduce)
    far = tensorgrad.where(target != 1, _excess(margin - input), 0.0)
    return reduced(far + tensorgrad.where(target != -1, input, 0.0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + |anchor - positive| - |anchor - negative|) in the p-norm: [n, d] → [n].

    ``swap``: the second distance is from the anchor or the positive, whichever is nearer.
    """
    reduction = reduction_of("triplet_margin_loss", reduction, size_average, reduce)
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "triplet_margin_loss: the three inputs must have as many dims, got "
            f"{tuple(anchor.shape)}, {tuple(positive.shape)} and {tuple(negative.shape)}"
        )
    if margin <= 0:
        raise ValueError(f"triplet_margin_loss: margin must be greater than 0, not {margin}")
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = tensorgrad.minimum(far, pairwise_distance(positive, negative, p, eps))
    return reduced(_excess(near - far + margin), reduction)
