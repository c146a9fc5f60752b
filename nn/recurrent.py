"""Recurrent networks: one step after the other, with what is remembered handed on.

In the shapes L is the length of the sequences, N the batch, I the inputs' width, H the hidden one.
The batch comes second unless ``batch_first``, and may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorgrad
from tensorgrad import Tensor, fused

from . import functional as F
from . import init
from .factory import new_parameter
from .module import Module
from .utils.rnn import PackedSequence


def _lstm(
    given: Tensor, h: Tensor, c: Tensor, w: Tensor, b: Tensor | None, projection: Any = None
) -> tuple:
    """One step of an LSTM (Hochreiter & Schmidhuber 1997; the forget gate of Gers et al. 2000),
    whose h may be projected to fewer numbers (Sak et al. 2014)."""
    i, f, g, o = fused.linear_add(h, w, b, given).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (h if projection is None else F.linear(h, projection)), c


def _gru(given: Tensor, h: Tensor, w: Tensor, b: Tensor | None) -> tuple:
    """One step of a GRU (Cho et al. 2014), its reset gate behind the product as in cuDNN."""
    r, z, n = given.chunk(3, -1)
    hr, hz, hn = F.linear(h, w, b).chunk(3, -1)
    z = (z + hz).sigmoid()
    n = (n + (r + hr).sigmoid() * hn).tanh()
    return (n + z * (h - n),)


def _elman(activation: Callable[[Tensor], Tensor]) -> Callable:
    """One step of a plain network (Elman 1990)."""
    return lambda given, h, w, b: (activation(fused.linear_add(h, w, b, given)),)


_NONLINEARITIES = {"tanh": tensorgrad.tanh, "relu": F.relu}


def _nonlinearity(name: str, layer: str) -> Callable:
    if name not in _NONLINEARITIES:
        raise ValueError(f"{layer}: nonlinearity must be 'tanh' or 'relu', not {name!r}")
    return _elman(_NONLINEARITIES[name])


# --- whole sequences ------------------------------------------------------------------------------


class _Recurrent(Module):
    """Layers of one kind of step, in one direction or both."""

    _expects = (
        "[L, N, {0.input_size}] ([N, L, {0.input_size}] with batch_first), [L, {0.input_size}] or "
        "a PackedSequence"
    )
    gates: int
    states = 1  # what a step hands on: h, or h and c
    _adds_biases = True  # whether a step only needs the sum of both

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(
                f"{name}: input_size, hidden_size and num_layers must be at least 1, not "
                f"{input_size}, {hidden_size} and {num_layers}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must be a probability, not {dropout}")
        if proj_size and self.states == 1:
            raise ValueError(f"{name}: proj_size is for an LSTM only")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"{name}: proj_size must be less than hidden_size {hidden_size}, or 0 for none, "
                f"not {proj_size}"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._directions = ("", "_reverse") if bidirectional else ("",)
        out = proj_size or hidden_size
        self._widths = (out, hidden_size)[: self.states]
        rows = self.gates * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else out * len(self._directions)
            for direction in self._directions:
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, width),
                    "weight_hh": (rows, out),
                }
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for kind, shape in shapes.items():
                    value = new_parameter(self, *shape, device=device, dtype=dtype)
                    self.register_parameter(f"{kind}_l{layer}{direction}", value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Everything uniform in ±1/sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _step(self) -> Callable:
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """input [L, N, I] → (results [L, N, H], last state [layers, N, H]).

        With two directions the results are [L, N, 2 H] and the state [2 layers, N, H]. ``hx`` is
        the state to begin with, by default zeros; of an LSTM, states are pairs (h, c). Of a
        :class:`nn.utils.rnn.PackedSequence` the results are one as well, and the last state of
        each sequence is that at its own end.
        """
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        batched = input.ndim == 3
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            order = "[N, L, I]" if self.batch_first else "[L, N, I]"
            kind = RuntimeError if input.ndim in (2, 3) else ValueError
            raise kind(
                f"{type(self).__name__}: the input must be {order} or [L, I] with I = "
                f"{self.input_size}; got shape {tuple(input.shape)}"
            )
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        x, states = self._layers(x, self._starts(hx, x, x.shape[1], batched))
        if not batched:
            x, states = x.squeeze(1), [s.squeeze(1) for s in states]
        elif self.batch_first:
            x = x.transpose(0, 1)
        return x, states[0] if self.states == 1 else tuple(states)

    def _packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        x, batch_sizes, order, back = input
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise RuntimeError(
                f"{type(self).__name__}: the packed data must be [steps, {self.input_size}]; got "
                f"shape {tuple(x.shape)}"
            )
        sizes = batch_sizes.tolist()
        starts = self._starts(hx, x, sizes[0], True)
        if order is not None and hx is not None:
            starts = [s[:, order] for s in starts]
        x, states = self._layers(x, starts, sizes)
        if back is not None:
            states = [s[:, back] for s in states]
        packed = PackedSequence(x, batch_sizes, order, back)
        return packed, states[0] if self.states == 1 else tuple(states)

    def _layers(
        self, x: Tensor, starts: list[Tensor], sizes: list[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """All layers: the results of the last one, and the last states of all."""
        lasts: list[tuple] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            found = []
            for direction in self._directions:
                start = tuple(s[len(lasts)] for s in starts)
                suffix = f"_l{layer}{direction}"
                results, last = self._run(x, start, suffix, bool(direction), sizes)
                found.append(results)
                lasts.append(last)
            x = found[0] if len(found) == 1 else tensorgrad.cat(found, -1)
        return x, [tensorgrad.stack(list(several)) for several in zip(*lasts)]

    def _starts(self, hx: Any, x: Tensor, n: int, batched: bool) -> list[Tensor]:
        """The first states of ``n`` sequences, each [layers · directions, n, H]."""
        count = self.num_layers * len(self._directions)
        if hx is None:
            return [tensorgrad.zeros(count, n, width, dtype=x.dtype) for width in self._widths]
        given = [hx] if self.states == 1 else list(hx)
        for state, width in zip(given, self._widths):
            expected = (count, n, width) if batched else (count, width)
            if tuple(state.shape) != expected:
                raise RuntimeError(
                    f"{type(self).__name__}: the first state must have shape {expected}, not "
                    f"{tuple(state.shape)}"
                )
        return given if batched else [state.unsqueeze(1) for state in given]

    def _run(
        self, x: Tensor, start: tuple, suffix: str, backwards: bool, sizes: list[int] | None
    ) -> tuple[Tensor, tuple]:
        """One layer in one direction: the results of all steps [L, N, H], and the last state.

        With ``sizes`` x is packed, [steps, I], and so are the results.
        """
        w_input, b_input, w_hidden, b_hidden, projection = (
            self._parameters.get(kind + suffix)
            for kind in ("weight_ih", "bias_ih", "weight_hh", "bias_hh", "weight_hr")
        )
        if self._adds_biases and b_input is not None and b_hidden is not None:
            b_input, b_hidden = b_input + b_hidden, None  # for all steps at once
        step = self._step()
        hidden = (w_hidden, b_hidden) if projection is None else (w_hidden, b_hidden, projection)
        mapped = F.linear(x, w_input, b_input)  # type: ignore[arg-type]
        given = mapped.unbind(0) if sizes is None else mapped.split(sizes)
        results: list[Tensor] = []
        ended: list[tuple] = []  # states of sequences that are shorter than others
        state = tuple(s[:0] for s in start) if sizes and backwards else start
        for one in reversed(given) if backwards else given:
            if sizes is not None:
                state = _fitted(state, len(one), start, ended)
            state = step(one, *state, *hidden)
            results.append(state[0])
        joined = tensorgrad.stack if sizes is None else tensorgrad.cat
        if ended:
            state = tuple(tensorgrad.cat(several) for several in zip(state, *reversed(ended)))
        return joined(results[::-1] if backwards else results), state

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1), ("bias", True), ("batch_first", False), ("dropout", 0.0),
            ("bidirectional", False),
        ):  # fmt: skip
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)


def _fitted(state: tuple, n: int, start: tuple, ended: list[tuple]) -> tuple:
    """The state of the ``n`` sequences that take part in a step, the longest ones.

    Those that have just ended are put aside; those that begin here, on the way back, join in.
    """
    before = len(state[0])
    if n < before:
        ended.append(tuple(s[n:] for s in state))
        return tuple(s[:n] for s in state)
    if n > before:
        return tuple(tensorgrad.cat([s, t[before:n]]) for s, t in zip(state, start))
    return state


class RNN(_Recurrent):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh) for every step (Elman 1990).

    ``RNN(input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False,
    dropout=0.0, bidirectional=False)``; ``dropout`` acts between the layers.

    >>> import nn, tensorgrad
    >>> results, last = nn.RNN(3, 4)(tensorgrad.randn(5, 2, 3))
    >>> results.shape, last.shape
    ((5, 2, 4), (1, 2, 4))
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _nonlinearity(nonlinearity, type(self).__name__)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0,
            device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity

    def _step(self) -> Callable:
        return _nonlinearity(self.nonlinearity, type(self).__name__)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return RNN(3, 2, num_layers=2), (tensorgrad.randn(4, 2, 3),)


class LSTM(_Recurrent):
    """A network that keeps what it gates in and forgets what it gates out.

    i, f, g, o = the four quarters of W_ih x + b_ih + W_hh h + b_hh; c = σ(f) c + σ(i) tanh(g);
    h = σ(o) tanh(c). Its state is the pair (h, c). With ``proj_size`` h is
    projected to so many numbers.

    >>> import nn, tensorgrad
    >>> results, (h, c) = nn.LSTM(3, 4)(tensorgrad.randn(5, 2, 3))
    >>> results.shape, h.shape, c.shape
    ((5, 2, 4), (1, 2, 4), (1, 2, 4))
    """

    gates = 4
    states = 2

    def _step(self) -> Callable:
        return _lstm

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LSTM(3, 2, bidirectional=True), (tensorgrad.randn(3, 2, 3),)


class GRU(_Recurrent):
    """A network that mixes what it knows with what it would say now (Cho et al. 2014).

    r, z = σ(of two thirds of W_ih x + b_ih + W_hh h + b_hh); n = tanh(W_in x + b_in + r (W_hn h +
    b_hn)); h = (1 - z) n + z h.

    >>> import nn, tensorgrad
    >>> results, last = nn.GRU(3, 4, batch_first=True)(tensorgrad.randn(2, 5, 3))
    >>> results.shape, last.shape
    ((2, 5, 4), (1, 2, 4))
    """

    gates = 3
    _adds_biases = False

    def _step(self) -> Callable:
        return _gru

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return GRU(3, 2, batch_first=True), (tensorgrad.randn(2, 3, 3),)


# --- single steps ---------------------------------------------------------------------------------


class _Cell(Module):
    _expects = "[N, {0.input_size}] or [{0.input_size}], and states [N, {0.hidden_size}]"
    gates: int
    states = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih = new_parameter(self, rows, input_size, device=device, dtype=dtype)
        self.weight_hh = new_parameter(self, rows, hidden_size, device=device, dtype=dtype)
        for name in ("bias_ih", "bias_hh"):
            value = new_parameter(self, rows, device=device, dtype=dtype) if bias else None
            self.register_parameter(name, value)
        bound = 1 / math.sqrt(hidden_size) if hidden_size else 0.0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _step(self) -> Callable:
        raise NotImplementedError

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """input [N, I] (or [I]) and a state [N, H] (by default zeros) → the next state."""
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"{type(self).__name__}: the input must be [N, I] or [I] with I = "
                f"{self.input_size}; got shape {tuple(input.shape)}"
            )
        shape = (*input.shape[:-1], self.hidden_size)
        if hx is None:
            state = [tensorgrad.zeros(*shape, dtype=input.dtype) for _ in range(self.states)]
        else:
            state = [hx] if self.states == 1 else list(hx)
        for one in state:
            if tuple(one.shape) != shape:
                raise RuntimeError(
                    f"{type(self).__name__}: the state must have shape {shape}, not "
                    f"{tuple(one.shape)}"
                )
        given = F.linear(input, self.weight_ih, self.bias_ih)
        found = self._step()(given, *state, self.weight_hh, self.bias_hh)
        return found[0] if self.states == 1 else found

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of an :class:`RNN`: (input [N, I], h [N, H]) → h."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _nonlinearity(nonlinearity, type(self).__name__)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def _step(self) -> Callable:
        return _nonlinearity(self.nonlinearity, type(self).__name__)

    def extra_repr(self) -> str:
        other = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + other

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return RNNCell(3, 2), (tensorgrad.randn(4, 3), tensorgrad.randn(4, 2))


class LSTMCell(_Cell):
    """One step of an :class:`LSTM`: (input [N, I], (h, c)) → (h, c)."""

    gates = 4
    states = 2

    def _step(self) -> Callable:
        return _lstm

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return LSTMCell(3, 2), (tensorgrad.randn(4, 3),)


class GRUCell(_Cell):
    """One step of a :class:`GRU`: (input [N, I], h [N, H]) → h."""

    gates = 3

    def _step(self) -> Callable:
        return _gru

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return GRUCell(3, 2), (tensorgrad.randn(4, 3), tensorgrad.randn(4, 2))
