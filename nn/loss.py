"""Losses as modules; what each is, :mod:`nn.functional` says."""

from __future__ import annotations

from collections.abc import Callable

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from .functional.reduction import reduction_of
from .module import Module


class _Loss(Module):
    """The base of all: ``function`` of the inputs, with the module's other arguments by name."""

    _expects = "an input and a target of one shape"
    function: Callable
    names: tuple[str, ...] = ()

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        if size_average is not None or reduce is not None:
            reduction = reduction_of(type(self).__name__, reduction, size_average, reduce)
        self.reduction = reduction

    def forward(self, *inputs: Tensor) -> Tensor:
        given = {name: getattr(self, name) for name in self.names}
        return type(self).function(*inputs, reduction=self.reduction, **given)


class _WeightedLoss(_Loss):
    """The base of those with a ``weight``, a part of the state."""

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


# --- of classifiers -------------------------------------------------------------------------------


class CrossEntropyLoss(_WeightedLoss):
    """-log softmax(input)[target]; see :func:`nn.functional.cross_entropy`."""

    _expects = (
        "[N, C, ...] (or [C]) and classes [N, ...], or probabilities of the shape of the input"
    )
    function = staticmethod(F.cross_entropy)
    names = ("weight", "ignore_index", "label_smoothing")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return CrossEntropyLoss(), (tensorgrad.randn(4, 3), tensorgrad.randint(3, size=(4,)))


class NLLLoss(_WeightedLoss):
    """-input[target] of log-probabilities; see :func:`nn.functional.nll_loss`."""

    _expects = "[N, C, ...] (or [C]) and classes [N, ...]"
    function, names = staticmethod(F.nll_loss), ("weight", "ignore_index")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return NLLLoss(), (tensorgrad.randn(4, 3), tensorgrad.randint(3, size=(4,)))


class BCELoss(_WeightedLoss):
    """-(t log p + (1 - t) log(1 - p)) of probabilities p, the input, and targets t."""

    function, names = staticmethod(F.binary_cross_entropy), ("weight",)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return BCELoss(), (tensorgrad.rand(4) * 0.8 + 0.1, tensorgrad.rand(4))


class BCEWithLogitsLoss(_WeightedLoss):
    """:class:`BCELoss` of sigmoid(input), without overflow; ``pos_weight`` is a factor of t."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
    names = ("weight", "pos_weight")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.register_buffer("pos_weight", pos_weight)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return BCEWithLogitsLoss(), (tensorgrad.randn(4), tensorgrad.rand(4))


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """The mean over the last dim of :class:`BCEWithLogitsLoss`: [n, c] → [n]."""

    _expects = "[N, C] and targets [N, C]"
    function, names = staticmethod(F.multilabel_soft_margin_loss), ("weight",)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return MultiLabelSoftMarginLoss(), (tensorgrad.randn(4, 3), tensorgrad.rand(4, 3))


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target input)) for targets 1 and -1."""

    function = staticmethod(F.soft_margin_loss)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return SoftMarginLoss(), (tensorgrad.randn(4), tensorgrad.tensor([1, -1, -1, 1]))


class KLDivLoss(_Loss):
    """target (log target - input) for log-probabilities, the input; ``reduction="batchmean"`` is
    the divergence. ``log_target``: the target too is given as logarithms."""

    function, names = staticmethod(F.kl_div), ("log_target",)

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    @staticmethod
    def example() -> tuple[Module, tuple]:
        given = tensorgrad.randn(3, 4).log_softmax(-1), tensorgrad.randn(3, 4).softmax(-1)
        return KLDivLoss(reduction="batchmean"), given


# --- of numbers -----------------------------------------------------------------------------------


class MSELoss(_Loss):
    """(input - target)²."""

    function = staticmethod(F.mse_loss)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return MSELoss(), (tensorgrad.randn(2, 3), tensorgrad.randn(2, 3))


class L1Loss(_Loss):
    """|input - target|."""

    function = staticmethod(F.l1_loss)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return L1Loss(), (tensorgrad.randn(2, 3), tensorgrad.randn(2, 3))


class SmoothL1Loss(_Loss):
    """d² / (2 beta) where |d| = |input - target| is below ``beta``, |d| - beta / 2 elsewhere."""

    function, names = staticmethod(F.smooth_l1_loss), ("beta",)

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return SmoothL1Loss(), (tensorgrad.randn(2, 3), tensorgrad.randn(2, 3))


class HuberLoss(_Loss):
    """d² / 2 where |d| = |input - target| is below ``delta``, else delta (|d| - delta / 2).

    (Huber 1964.)
    """

    function, names = staticmethod(F.huber_loss), ("delta",)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return HuberLoss(), (tensorgrad.randn(2, 3), tensorgrad.randn(2, 3))


class PoissonNLLLoss(_Loss):
    """rate - target log(rate) for counts; see :func:`nn.functional.poisson_nll_loss`."""

    function, names = staticmethod(F.poisson_nll_loss), ("log_input", "full", "eps")

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return PoissonNLLLoss(full=True), (tensorgrad.randn(4), tensorgrad.rand(4) * 4)


class GaussianNLLLoss(_Loss):
    """(log var + (input - target)² / var) / 2; see :func:`nn.functional.gaussian_nll_loss`."""

    _expects = "an input and a target of one shape, and variances of it or with 1 or no last dim"
    function, names = staticmethod(F.gaussian_nll_loss), ("full", "eps")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    @staticmethod
    def example() -> tuple[Module, tuple]:
        given = tensorgrad.randn(3, 2), tensorgrad.randn(3, 2), tensorgrad.rand(3, 2) + 0.5
        return GaussianNLLLoss(), given


# --- of vectors -----------------------------------------------------------------------------------


class _MarginLoss(_Loss):
    """The base of those with a ``margin``."""

    names: tuple[str, ...] = ("margin",)

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin


class CosineEmbeddingLoss(_MarginLoss):
    """1 - cos where the target is 1, and where it is -1 what cos exceeds ``margin`` by."""

    _expects = "[N, d], [N, d] and signs [N]"
    function = staticmethod(F.cosine_embedding_loss)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        given = tensorgrad.randn(4, 3), tensorgrad.randn(4, 3), tensorgrad.tensor([1, -1, -1, 1])
        return CosineEmbeddingLoss(-0.9), given


class MarginRankingLoss(_MarginLoss):
    """max(0, margin - target (input1 - input2)): target 1 wants the first to be the larger."""

    _expects = "two inputs and signs of one shape"
    function = staticmethod(F.margin_ranking_loss)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        given = tensorgrad.randn(4), tensorgrad.randn(4), tensorgrad.tensor([1, -1, -1, 1])
        return MarginRankingLoss(1.0), given


class HingeEmbeddingLoss(_MarginLoss):
    """The distance ``input`` where the target is 1, max(0, margin - input) where it is -1."""

    _expects = "an input and signs of one shape"
    function = staticmethod(F.hinge_embedding_loss)

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, size_average, reduce, reduction)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return HingeEmbeddingLoss(), (tensorgrad.randn(4), tensorgrad.tensor([1, -1, -1, 1]))


class TripletMarginLoss(_MarginLoss):
    """max(0, margin + |anchor - positive| - |anchor - negative|), ``p``-norms: [n, d] → [n]."""

    _expects = "three of the shape [N, d]"
    function, names = staticmethod(F.triplet_margin_loss), ("margin", "p", "eps", "swap")

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, size_average, reduce, reduction)
        if margin <= 0:
            raise ValueError(f"TripletMarginLoss: margin must be greater than 0, not {margin}")
        self.p, self.eps, self.swap = p, eps, swap

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return TripletMarginLoss(2.0), tuple(tensorgrad.randn(4, 3) for _ in range(3))
