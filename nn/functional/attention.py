"""Attention."""

from __future__ import annotations

import math

from tensorgrad import Generator, Tensor
from tensorgrad import fused as _fused

from . import noise

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """softmax(query keyᵀ · scale + mask) value (Vaswani et al. 2017, eq. 1).

    Args:
        query: [..., n, d]; ``key`` [..., m, d]; ``value`` [..., m, e]. The result is [..., n, e].
        attn_mask: [..., n, m], boolean (True: may look) or floats added to the scores.
        dropout_p: the probability with which a weight is dropped, always (pass 0 in evaluation).
        is_causal: query i looks at the keys 0..i only.
        scale: by default 1 / sqrt(d).
    """
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: give attn_mask or is_causal, not both")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    seeds = None
    if dropout_p > 0:
        seeds = noise.dropout_seeds(query.shape[:-2], generator)
    return _fused.scaled_dot_product_attention(
        query, key, value, attn_mask, seeds, scale=scale, causal=is_causal, dropout=dropout_p
    )
