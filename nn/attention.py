"""Multi-head attention: several weighted averages side by side."""

from __future__ import annotations

import math
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from . import init
from .factory import new_parameter
from .linear import Linear
from .module import Module, Parameter


class MultiheadAttention(Module):
    """Queries gather values by how their keys match (Vaswani et al. 2017, section 3.2.2).

    In the shapes N is the batch, L the number of queries, S that of keys and values, and E the
    width ``embed_dim``, which ``num_heads`` divides. The batch comes second unless ``batch_first``,
    and may be missing.

    Args:
        embed_dim: width of queries and results; of keys and values too, unless ``kdim`` and
            ``vdim`` say otherwise.
        dropout: probability with which a weight is dropped in training.
        bias: whether the projections have one.
        add_bias_kv: append a learned key and value to the sequence.
        add_zero_attn: append a key and a value of zeros.

    >>> import nn, tensorgrad
    >>> attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    >>> x = tensorgrad.randn(4, 5, 8)
    >>> y, weights = attention(x, x, x)
    >>> y.shape, weights.shape
    ((4, 5, 8), (4, 5, 5))
    """

    _expects = (
        "[L, N, {0.embed_dim}], [S, N, {0.kdim}] and [S, N, {0.vdim}] (batch_first: with N in "
        "front; or without N)"
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim must be a multiple of num_heads, both positive; "
                f"got {embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn

        def weight(*shape: int) -> Parameter:
            return new_parameter(self, *shape, device=device, dtype=dtype)

        # One matrix for the three projections, unless they take different widths.
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight: Any = weight(3 * embed_dim, embed_dim)
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                self.register_parameter(name, None)
        else:
            self.q_proj_weight: Any = weight(embed_dim, embed_dim)
            self.k_proj_weight: Any = weight(embed_dim, self.kdim)
            self.v_proj_weight: Any = weight(embed_dim, self.vdim)
            self.register_parameter("in_proj_weight", None)
        self.in_proj_bias: Any = weight(3 * embed_dim) if bias else None
        if not bias:
            self.register_parameter("in_proj_bias", None)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype)
        self.bias_k: Any
        self.bias_v: Any
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, weight(1, 1, embed_dim) if add_bias_kv else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform distribution for the projections, 0 for their biases."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if getattr(self, name) is not None:
                init.xavier_uniform_(getattr(self, name))
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for added in (self.bias_k, self.bias_v):
            if added is not None:
                init.xavier_normal_(added)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """query [L, N, E], key [S, N, kdim], value [S, N, vdim] → ([L, N, E], weights [N, L, S]).

        Masks are boolean (True: must not look, the opposite of ``scaled_dot_product_attention``)
        or floats added to the scores.

        Args:
            key_padding_mask: [N, S], for all queries.
            need_weights: also return the weights, the mean over the heads; else None, and faster.
            attn_mask: [L, S] or [N * num_heads, L, S].
            average_attn_weights: False returns the weights of each head, [N, num_heads, L, S].
            is_causal: a hint that ``attn_mask``, which must be given, is the causal one.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("MultiheadAttention: is_causal is a hint, give attn_mask as well")
        batched = query.ndim == 3
        self._check_shapes(query, key, value)
        if not batched:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            same_kv = value is key
            same = key is query and same_kv
            query = query.transpose(0, 1)
            key = query if same else key.transpose(0, 1)
            value = key if same_kv else value.transpose(0, 1)
        y, weights = self._attend(query, key, value, key_padding_mask, attn_mask, need_weights)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return (y if self.batch_first else y.transpose(0, 1)), weights

    def _check_shapes(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        widths = (self.embed_dim, self.kdim, self.vdim)
        several = (query, key, value)
        batch = 0 if self.batch_first else 1
        fits = (
            query.ndim in (2, 3)
            and all(t.ndim == query.ndim for t in several)
            and tuple(t.shape[-1] for t in several) == widths
            and tuple(key.shape[:-1]) == tuple(value.shape[:-1])
            and (query.ndim == 2 or key.shape[batch] == query.shape[batch])
        )
        if not fits:
            order = "[N, L, E]" if self.batch_first else "[L, N, E]"
            raise AssertionError(
                f"MultiheadAttention: query, key and value must be {order} (N may be missing) of "
                f"widths {widths}, with as many keys as values; got shapes "
                f"{tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
            )

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """The three projections, each [N, ·, E]."""
        if self.in_proj_weight is not None and query is key and key is value:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(map(F.linear, (query, key, value), weights, biases))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        need_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        N, L, E = query.shape
        q, k, v = self._projected(query, key, value)
        added = 0  # keys and values after those of the sequence
        if self.bias_k is not None:
            k = tensorgrad.cat([k, self.bias_k.expand(N, 1, E)], 1)
            v = tensorgrad.cat([v, self.bias_v.expand(N, 1, E)], 1)
            added += 1
        if self.add_zero_attn:
            zeros = tensorgrad.zeros(N, 1, E, dtype=k.dtype)
            k, v = tensorgrad.cat([k, zeros], 1), tensorgrad.cat([v, zeros], 1)
            added += 1
        q, k, v = (
            t.reshape(N, -1, self.num_heads, self.head_dim).transpose(1, 2) for t in (q, k, v)
        )  # [N, H, ·, D]
        mask = self._mask(N, L, key.shape[1], key_padding_mask, attn_mask, q.dtype)
        if mask is not None and added:
            seen = tensorgrad.zeros(*mask.shape[:-1], added, dtype=mask.dtype)
            mask = tensorgrad.cat([mask, seen], -1)
        p = self.dropout if self.training else 0.0
        if need_weights:
            scores = (q / math.sqrt(self.head_dim)) @ k.transpose(-2, -1)  # [N, H, L, S]
            weights = F.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, p, self.training)
            y = weights @ v
        else:
            weights = None
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=p)
        return self.out_proj(y.transpose(1, 2).reshape(N, L, E)), weights

    def _mask(
        self,
        N: int,
        L: int,
        S: int,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        dtype: Any,
    ) -> Tensor | None:
        """Both masks as one that is added to scores [N, H, L, S]."""
        total = None
        if attn_mask is not None:
            if tuple(attn_mask.shape) == (L, S):
                total = _additive(attn_mask, dtype)
            elif tuple(attn_mask.shape) == (N * self.num_heads, L, S):
                total = _additive(attn_mask, dtype).reshape(N, self.num_heads, L, S)
            else:
                raise RuntimeError(
                    f"MultiheadAttention: attn_mask has shape {tuple(attn_mask.shape)}, but must "
                    f"be {(L, S)} or {(N * self.num_heads, L, S)}"
                )
        if key_padding_mask is not None:
            if tuple(key_padding_mask.shape) != (N, S):
                raise AssertionError(
                    f"MultiheadAttention: key_padding_mask has shape "
                    f"{tuple(key_padding_mask.shape)}, but must be {(N, S)}"
                )
            padding = _additive(key_padding_mask, dtype).reshape(N, 1, 1, S)
            total = padding if total is None else total + padding
        return total

    @staticmethod
    def example() -> tuple[Module, tuple]:
        x = tensorgrad.randn(3, 2, 4)
        return MultiheadAttention(4, 2), (x, x + 1, x * 2)


def _additive(mask: Tensor, dtype: Any) -> Tensor:
    """A boolean mask (True: must not look) as numbers to add: -inf and 0."""
    if mask.dtype != tensorgrad.bool:
        return mask.to(dtype)
    return tensorgrad.zeros(*mask.shape, dtype=dtype).masked_fill(mask, -math.inf)
