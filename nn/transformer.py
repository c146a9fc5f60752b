"""The transformer of "Attention is all you need", as PyTorch arranges it.

In the shapes N is the batch, S the source's tokens, T the target's, E the width. The batch comes
second unless ``batch_first``. Boolean masks say True where one must not look.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from . import init
from .attention import MultiheadAttention
from .containers import ModuleList
from .dropout import Dropout
from .linear import Linear, activated
from .module import Module
from .norm import LayerNorm

_ACTIVATIONS: dict[str, Callable] = {"relu": F.relu, "gelu": F.gelu}


def _activation(given: str | Callable, layer: str) -> Callable:
    if isinstance(given, str):
        if given not in _ACTIVATIONS:
            raise RuntimeError(
                f"{layer}: activation must be 'relu', 'gelu' or a function, not {given!r}"
            )
        return _ACTIVATIONS[given]
    return given


class _Layer(Module):
    """What encoder and decoder layers share: the feed-forward part, and where the norms stand."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: str | Callable,
        layer_norm_eps: float,
        batch_first: bool,
        norm_first: bool,
        bias: bool,
        device: Any,
        dtype: Any,
        attentions: tuple[str, ...],
    ) -> None:
        super().__init__()
        for name in attentions:
            attention = MultiheadAttention(
                d_model,
                nhead,
                dropout,
                bias=bias,
                batch_first=batch_first,
                device=device,
                dtype=dtype,
            )
            self.add_module(name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, device=device, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, device=device, dtype=dtype)
        self.norm_first = norm_first
        parts = range(1, len(attentions) + 2)
        for i in parts:
            self.add_module(
                f"norm{i}",
                LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype),
            )
        for i in parts:
            self.add_module(f"dropout{i}", Dropout(dropout))
        self.activation = _activation(activation, type(self).__name__)

    def _add(self, x: Tensor, part: Callable[[Tensor], Tensor], i: int) -> Tensor:
        """x plus the ``i``-th part of it: normalised before the part, or after the sum."""
        norm, dropout = getattr(self, f"norm{i}"), getattr(self, f"dropout{i}")
        if self.norm_first:
            return x + dropout(part(norm(x)))
        return norm(x + dropout(part(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(activated(self.linear1, self.activation, x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a feed-forward network, each added to its input.

    ``norm_first`` puts the norms in front of the parts (GPT-2's order) instead of behind the sums
    (the paper's). ``activation`` is ``"relu"``, ``"gelu"`` or a function.

    >>> import nn, tensorgrad
    >>> layer = nn.TransformerEncoderLayer(d_model=8, nhead=2, batch_first=True)
    >>> layer(tensorgrad.randn(4, 5, 8)).shape
    (4, 5, 8)
    """

    _expects = "src [S, N, E] ([N, S, E] with batch_first) or [S, E]"

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias, device, dtype, ("self_attn",),
        )  # fmt: skip

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """src [S, N, E] → [S, N, E]; ``src_mask`` [S, S], ``src_key_padding_mask`` [N, S]."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(
                x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal
            )[0]

        x = self._add(src, attend, 1)
        return self._add(x, self._feed_forward, 2)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return TransformerEncoderLayer(4, 2, 6), (tensorgrad.randn(3, 2, 4),)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's result, then a feed-forward network.

    The arguments are those of :class:`TransformerEncoderLayer`.

    >>> import nn, tensorgrad
    >>> layer = nn.TransformerDecoderLayer(d_model=8, nhead=2, batch_first=True)
    >>> layer(tensorgrad.randn(4, 5, 8), memory=tensorgrad.randn(4, 7, 8)).shape
    (4, 5, 8)
    """

    _expects = "tgt [T, N, E] and memory [S, N, E] (N first with batch_first), or without N"

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias, device, dtype, ("self_attn", "multihead_attn"),
        )  # fmt: skip

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt [T, N, E], memory [S, N, E] → [T, N, E]; ``memory_mask`` is [T, S]."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(
                x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal
            )[0]

        def look_up(x: Tensor) -> Tensor:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask,
                is_causal=memory_is_causal,
            )[0]  # fmt: skip

        x = self._add(tgt, attend, 1)
        x = self._add(x, look_up, 2)
        return self._add(x, self._feed_forward, 3)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        tgt, memory = tensorgrad.randn(3, 2, 4), tensorgrad.randn(2, 2, 4)
        return TransformerDecoderLayer(4, 2, 6), (tgt, memory)


def _is_causal(mask: Tensor | None, said: bool | None) -> bool:
    """Whether a mask is the causal one, if nobody has said: only a hint, and so not looked at."""
    return bool(said) and mask is not None


class TransformerEncoder(Module):
    """``num_layers`` copies of an encoder layer, and a norm if given.

    The last two arguments are PyTorch's and change nothing.
    """

    _expects = TransformerEncoderLayer._expects

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm: Any = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """src [S, N, E] → [S, N, E]."""
        x = src
        for layer in self.layers:
            x = layer(x, mask, src_key_padding_mask, is_causal=_is_causal(mask, is_causal))
        return x if self.norm is None else self.norm(x)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        layer = TransformerEncoderLayer(4, 2, 6)
        return TransformerEncoder(layer, 2, LayerNorm(4)), (tensorgrad.randn(3, 2, 4),)


class TransformerDecoder(Module):
    """``num_layers`` copies of a decoder layer, and a norm if given."""

    _expects = TransformerDecoderLayer._expects

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.num_layers = num_layers
        self.norm: Any = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt [T, N, E], memory [S, N, E] → [T, N, E]."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
                _is_causal(tgt_mask, tgt_is_causal), memory_is_causal,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        tgt, memory = tensorgrad.randn(3, 2, 4), tensorgrad.randn(2, 2, 4)
        return TransformerDecoder(TransformerDecoderLayer(4, 2, 6), 2, LayerNorm(4)), (tgt, memory)


class Transformer(Module):
    """Encoder and decoder (Vaswani et al. 2017), without embeddings, positions and output layer.

    >>> import nn, tensorgrad
    >>> model = nn.Transformer(8, nhead=2, num_encoder_layers=1, num_decoder_layers=1)
    >>> model(tensorgrad.randn(7, 4, 8), tensorgrad.randn(5, 4, 8)).shape
    (5, 4, 8)
    """

    _expects = (
        "[S, N, {0.d_model}] and [T, N, {0.d_model}] (batch_first: with N in front; or without N)"
    )

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        choices = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first,
            norm_first, bias, device, dtype,
        )  # fmt: skip
        norms = [
            LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
            for _ in range(2)
        ]
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*choices), num_encoder_layers, norms[0]
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*choices), num_decoder_layers, norms[1]
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """src [S, N, E], tgt [T, N, E] → [T, N, E].

        ``src_mask`` is [S, S], ``tgt_mask`` [T, T], ``memory_mask`` [T, S], the padding masks
        [N, S] and [N, T].
        """
        batch = 0 if self.batch_first else 1
        if src.ndim == 3 and src.shape[batch] != tgt.shape[batch]:
            raise RuntimeError(
                f"Transformer: src {tuple(src.shape)} and tgt {tuple(tgt.shape)} must have the "
                f"same batch size in dim {batch}"
            )
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise RuntimeError(
                f"Transformer: the last dim of src {tuple(src.shape)} and tgt {tuple(tgt.shape)} "
                f"must be d_model, {self.d_model}"
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """[sz, sz]: -inf above the diagonal, 0 elsewhere: no position looks at a later one."""
        return tensorgrad.full((sz, sz), -math.inf, dtype=dtype or tensorgrad.float32).triu(1)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        model = Transformer(4, 2, 1, 1, 6)
        return model, (tensorgrad.randn(2, 2, 4), tensorgrad.randn(3, 2, 4))
