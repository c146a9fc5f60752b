"""Activation functions as modules. ``inplace`` writes the result into the input."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from .complaints import channels_first
from .factory import new_parameter
from .init import constant_
from .module import Module


class _Activation(Module):
    """The base of those without arguments of their own: ``function`` does it."""

    _expects = "floats [...]"
    function: Callable

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input)


class _InPlaceActivation(Module):
    """The base of those that can write into their input; ``names`` are their other arguments."""

    _expects = "floats [...]"
    function: Callable
    names: tuple[str, ...] = ()
    shown = True

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        given = (getattr(self, name) for name in self.names)
        return type(self).function(input, *given, inplace=self.inplace)

    def extra_repr(self) -> str:
        parts = [f"{name}={getattr(self, name)}" for name in self.names]
        return ", ".join([*parts, "inplace=True"] if self.inplace and self.shown else parts)


# --- without arguments ----------------------------------------------------------------------------


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Sigmoid(), (tensorgrad.randn(2, 3),)


class LogSigmoid(_Activation):
    """log(1 / (1 + exp(-x))), without overflow."""

    function = staticmethod(F.logsigmoid)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LogSigmoid(), (tensorgrad.randn(2, 3),)


class Tanh(_Activation):
    """The hyperbolic tangent."""

    function = staticmethod(F.tanh)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Tanh(), (tensorgrad.randn(2, 3),)


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Tanhshrink(), (tensorgrad.randn(2, 3),)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Softsign(), (tensorgrad.randn(2, 3),)


# --- that can write into their input --------------------------------------------------------------


class ReLU(_InPlaceActivation):
    """max(x, 0)."""

    function = staticmethod(F.relu)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReLU(), (tensorgrad.randn(2, 3),)


class ReLU6(_InPlaceActivation):
    """min(max(x, 0), 6)."""

    function = staticmethod(F.relu6)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReLU6(), (tensorgrad.randn(2, 3),)


class SELU(_InPlaceActivation):
    """:class:`ELU` with the scales that keep mean 0 and variance 1 (Klambauer et al. 2017)."""

    function = staticmethod(F.selu)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return SELU(), (tensorgrad.randn(2, 3),)


class SiLU(_InPlaceActivation):
    """x sigmoid(x), also known as swish."""

    function = staticmethod(F.silu)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return SiLU(), (tensorgrad.randn(2, 3),)


class Mish(_InPlaceActivation):
    """x tanh(softplus(x)) (Misra 2019)."""

    function = staticmethod(F.mish)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Mish(), (tensorgrad.randn(2, 3),)


class Hardsigmoid(_InPlaceActivation):
    """x / 6 + 1/2, within [0, 1]."""

    function = staticmethod(F.hardsigmoid)
    shown = False  # PyTorch does not print inplace here

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Hardsigmoid(), (tensorgrad.randn(2, 3),)


class Hardswish(_InPlaceActivation):
    """x hardsigmoid(x) (Howard et al. 2019)."""

    function = staticmethod(F.hardswish)
    shown = False

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Hardswish(), (tensorgrad.randn(2, 3),)


class LeakyReLU(_InPlaceActivation):
    """x where it is positive, ``negative_slope`` x elsewhere."""

    function, names = staticmethod(F.leaky_relu), ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LeakyReLU(), (tensorgrad.randn(2, 3),)


class ELU(_InPlaceActivation):
    """x where it is positive, alpha (exp(x) - 1) elsewhere (Clevert et al. 2015)."""

    function, names = staticmethod(F.elu), ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ELU(), (tensorgrad.randn(2, 3),)


class CELU(_InPlaceActivation):
    """x where it is positive, alpha (exp(x / alpha) - 1) elsewhere (Barron 2017)."""

    function, names = staticmethod(F.celu), ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return CELU(), (tensorgrad.randn(2, 3),)


class Threshold(_InPlaceActivation):
    """x where it is greater than ``threshold``, ``value`` elsewhere."""

    function, names = staticmethod(F.threshold), ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold, self.value = threshold, value

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Threshold(0.1, 20.0), (tensorgrad.randn(2, 3),)


class Hardtanh(_InPlaceActivation):
    """x within [min_val, max_val]; unlike ``clamp`` with the gradient 0 at the bounds."""

    function, names = staticmethod(F.hardtanh), ("min_val", "max_val")

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__(inplace)
        if min_value is not None or max_value is not None:
            warnings.warn(
                "Hardtanh: min_value and max_value are deprecated, give min_val and max_val",
                stacklevel=2,
            )
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        if self.min_val >= self.max_val:
            raise AssertionError(
                f"Hardtanh: min_val {self.min_val} must be less than max_val {self.max_val}"
            )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Hardtanh(), (tensorgrad.randn(2, 3),)


class RReLU(_InPlaceActivation):
    """:class:`LeakyReLU` with a slope drawn for each element from [lower, upper) in training, and
    their mean in evaluation (Xu et al. 2015)."""

    names = ("lower", "upper")

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.lower, self.upper = lower, upper

    def forward(self, input: Tensor) -> Tensor:
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return RReLU(), (tensorgrad.randn(2, 3),)


# --- with arguments -------------------------------------------------------------------------------


class GELU(Module):
    """x times the normal distribution function of x; ``approximate="tanh"`` is GPT-2's formula."""

    _expects = "floats [...]"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return GELU("tanh"), (tensorgrad.randn(2, 3),)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta; x itself where beta x is greater than ``threshold``."""

    _expects = "floats [...]"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Softplus(), (tensorgrad.randn(2, 3),)


class Hardshrink(Module):
    """x outside [-lambd, lambd], 0 inside."""

    _expects = "floats [...]"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Hardshrink(), (tensorgrad.randn(2, 3),)


class Softshrink(Module):
    """x moved towards 0 by ``lambd``, and 0 where it would pass it."""

    _expects = "floats [...]"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return F.softshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Softshrink(), (tensorgrad.randn(2, 3),)


class PReLU(Module):
    """x where it is positive, weight x elsewhere: the slope is learnt, one or one for each of
    ``num_parameters`` channels (He et al. 2015). It starts at ``init``."""

    _expects = "[N, {0.num_parameters}, ...], or any shape for one parameter"

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = new_parameter(self, num_parameters, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return PReLU(3), (tensorgrad.randn(2, 3, 2),)


# --- along a dim ----------------------------------------------------------------------------------


class _AlongDim(Module):
    """The base of those with a ``dim``."""

    _expects = "floats [...] with a dim {0.dim}"
    function: Callable
    dim: int | None

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_AlongDim):
    """exp(x) / sum(exp(x)) along ``dim``."""

    function = staticmethod(F.softmax)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Softmax(-1), (tensorgrad.randn(2, 3),)


class Softmin(_AlongDim):
    """:class:`Softmax` of -x."""

    function = staticmethod(F.softmin)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Softmin(-1), (tensorgrad.randn(2, 3),)


class LogSoftmax(_AlongDim):
    """The logarithm of :class:`Softmax`, without its cancellation."""

    function = staticmethod(F.log_softmax)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LogSoftmax(-1), (tensorgrad.randn(2, 3),)


class Softmax2d(Module):
    """:class:`Softmax` over the channels of [n, c, h, w] or [c, h, w]."""

    _expects = channels_first("C", 2)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ValueError(
                f"Softmax2d: the input must be [n, c, h, w] or [c, h, w], not {tuple(input.shape)}"
            )
        return F.softmax(input, -3)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Softmax2d(), (tensorgrad.randn(2, 3, 2, 2),)


class GLU(_AlongDim):
    """a sigmoid(b) of the halves a and b of ``dim`` (Dauphin et al. 2016)."""

    _expects = "floats [...] with an even size of dim {0.dim}"
    function = staticmethod(F.glu)

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return GLU(), (tensorgrad.randn(2, 4),)
