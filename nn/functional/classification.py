"""Losses of classifiers: of the right class's probability, or of a distribution's."""

from __future__ import annotations

import math

import tensorgrad
from tensorgrad import Tensor
from tensorgrad import fused as _fused

from .activation import logsigmoid
from .arguments import all_within
from .reduction import reduced, reduction_of

__all__ = [
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "multilabel_soft_margin_loss", "soft_margin_loss", "kl_div",
]  # fmt: skip


def _class_dim(input: Tensor) -> int:
    return 1 if input.ndim > 1 else 0


def _checked_classes(
    name: str, input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int
) -> Tensor | None:
    """Where the target counts, None for everywhere, after checking that everything fits."""
    dim = _class_dim(input)
    without = tuple(input.shape[:dim]) + tuple(input.shape[dim + 1 :])
    if not input.ndim or tuple(target.shape) != without:
        kind = ValueError if target.ndim == 0 or target.shape[:1] != input.shape[:1] else None
        raise (kind or RuntimeError)(
            f"{name}: input [n, classes, ...] and target [n, ...] do not fit: "
            f"{tuple(input.shape)} and {tuple(target.shape)}"
        )
    if target.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: class indices must be integers, not {target.dtype}")
    classes = input.shape[dim]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(
            f"{name}: weight must have one element for each of {classes} classes, its shape is "
            f"{tuple(weight.shape)}"
        )
    if not 0 <= ignore_index < classes and all_within(target, classes):
        return None
    kept = target != ignore_index
    wrong = kept & ((target < 0) | (target >= classes))
    if wrong.any():
        raise IndexError(
            f"{name}: target {int(target[wrong][0])} is out of range for {classes} classes"
        )
    return kept


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target] over dim 1: input [n, classes, ...] (or [classes]).

    Args:
        target: integers [n, ...] (or []), or probabilities of the shape of the input.
        weight: [classes], a factor for each class.
        ignore_index: a target that counts for nothing, neither in the sum nor in the mean.
        reduction: ``"mean"`` (weighted, over the targets that count), ``"sum"``, or ``"none"``.
        label_smoothing: the part of the target that is spread over all classes
            (Szegedy et al. 2015).

    Raises:
        IndexError: a target is not in 0..classes-1.
    """
    reduction = reduction_of("cross_entropy", reduction, size_average, reduce)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"cross_entropy: label_smoothing {label_smoothing} is not in [0, 1]")
    if target.is_floating_point() and tuple(target.shape) == tuple(input.shape):
        if ignore_index >= 0:
            raise RuntimeError("cross_entropy: probabilities have no ignore_index")
        return _of_probabilities(input, target, weight, reduction, label_smoothing)
    kept = _checked_classes("cross_entropy", input, target, weight, ignore_index)
    if weight is not None:
        return _of_weighted_classes(
            input, target, weight, ignore_index, kept, reduction, label_smoothing
        )
    classes = input.shape[_class_dim(input)]
    logits, targets = input, target
    if input.ndim != 2:
        logits = input if input.ndim < 2 else input.permute(0, *range(2, input.ndim), 1)
        logits = logits.reshape(math.prod(target.shape), classes)
        targets = target.reshape(-1)
    losses = _fused.cross_entropy(
        logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    if reduction == "none":
        return losses.reshape(target.shape)
    total = losses.sum()
    return total if reduction == "sum" else total / _count(target, kept)


def _count(target: Tensor, kept: Tensor | None) -> int:
    return target.numel() if kept is None else int(kept.sum())


def _per_class(weight: Tensor, input: Tensor) -> Tensor:
    return weight.reshape(-1, *[1] * (input.ndim - 2)) if input.ndim > 1 else weight


def _of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    dim = _class_dim(input)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.shape[dim]
    parts = tensorgrad.log_softmax(input, dim) * target
    if weight is not None:
        parts = parts * _per_class(weight, input)
    losses = -parts.sum(dim)
    return reduced(losses, reduction)


def _of_weighted_classes(
    input: Tensor, target: Tensor, weight: Tensor, ignore_index: int, kept: Tensor | None,
    reduction: str, smoothing: float,
) -> Tensor:  # fmt: skip
    dim = _class_dim(input)
    log_p = tensorgrad.log_softmax(input, dim)
    total = nll_loss(log_p, target, weight, ignore_index=ignore_index, reduction="none")
    if smoothing:
        uniform = -(log_p * _per_class(weight, input)).mean(dim)
        uniform = uniform if kept is None else tensorgrad.where(kept, uniform, 0.0)
        total = (1 - smoothing) * total + smoothing * uniform
    if reduction != "mean":
        return reduced(total, reduction)
    return total.sum() / _weights_of(target, weight, kept).sum()


def _weights_of(target: Tensor, weight: Tensor, kept: Tensor | None) -> Tensor:
    if kept is None:
        return weight[target]
    return tensorgrad.where(kept, weight[tensorgrad.where(kept, target, 0)], 0.0)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[target] over dim 1: log-probabilities [n, classes, ...] and integers [n, ...].

    Arguments and errors are those of :func:`cross_entropy`.
    """
    reduction = reduction_of("nll_loss", reduction, size_average, reduce)
    kept = _checked_classes("nll_loss", input, target, weight, ignore_index)
    dim = _class_dim(input)
    index = target if kept is None else tensorgrad.where(kept, target, 0)
    losses = -input.gather(dim, index.long().unsqueeze(dim)).squeeze(dim)
    losses = losses if kept is None else tensorgrad.where(kept, losses, 0.0)
    if weight is None:
        mean = reduction == "mean"
        return losses.sum() / _count(target, kept) if mean else reduced(losses, reduction)
    weights = _weights_of(target, weight, kept)
    if reduction == "mean":
        return (losses * weights).sum() / weights.sum()
    return reduced(losses * weights, reduction)


# --- two classes ----------------------------------------------------------------------------------


def _same_shape(name: str, input: Tensor, target: Tensor) -> None:
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"{name}: input and target must have the same shape, got {tuple(input.shape)} and "
            f"{tuple(target.shape)}"
        )


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)) of probabilities p = ``input``; a logarithm is at least -100.

    :func:`binary_cross_entropy_with_logits` does not lose digits near 0 and 1.
    """
    reduction = reduction_of("binary_cross_entropy", reduction, size_average, reduce)
    _same_shape("binary_cross_entropy", input, target)
    if input.numel() and not (float(input.min()) >= 0 and float(input.max()) <= 1):
        raise RuntimeError("binary_cross_entropy: the input must be probabilities, within [0, 1]")
    losses = _fused.binary_cross_entropy(input, target)
    return reduced(losses if weight is None else losses * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """:func:`binary_cross_entropy` of sigmoid(input), without overflow or cancellation.

    ``pos_weight`` is a factor for the loss where the target is 1.
    """
    name = "binary_cross_entropy_with_logits"
    reduction = reduction_of(name, reduction, size_average, reduce)
    _same_shape(name, input, target)
    # With s = log(1 + exp(-x)): -log p = s, and -log(1 - p) = x + s.
    s = tensorgrad.logaddexp(-input, 0.0)
    losses = (1 - target) * input
    if pos_weight is None:
        losses = losses + s
    else:
        losses = losses + (1 + (pos_weight - 1) * target) * s
    return reduced(losses if weight is None else losses * weight, reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the last dim of :func:`binary_cross_entropy_with_logits`: [n, c] → [n]."""
    reduction = reduction_of("multilabel_soft_margin_loss", reduction, size_average, reduce)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    losses = losses if weight is None else losses * weight
    return reduced(losses.mean(-1), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target input)) for targets 1 and -1."""
    reduction = reduction_of("soft_margin_loss", reduction, size_average, reduce)
    return reduced(-logsigmoid(target * input), reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target (log target - input), elementwise: a divergence of log-probabilities ``input``.

    ``log_target``: the target too is given as logarithms. ``"batchmean"`` divides the sum by the
    size of dim 0, as the divergence of distributions wants it.
    """
    by_batch = reduction == "batchmean" and size_average is None and reduce is None
    reduction = reduction_of("kl_div", "sum" if by_batch else reduction, size_average, reduce)
    if log_target:
        losses = tensorgrad.exp(target) * (target - input)
    else:
        positive = target > 0
        log = tensorgrad.log(tensorgrad.where(positive, target, 1.0))  # 0 log 0 is 0
        losses = target * log - target * input
    total = reduced(losses, reduction)
    return total / input.shape[0] if by_batch and input.ndim else total
