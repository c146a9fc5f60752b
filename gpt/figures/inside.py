"""What is inside a model while it reads: the residual stream, queries and keys.

Taken by hooks from the model itself; its weights, gradients and mode stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import nn
import nn.functional as F
import tensorgrad
from tensorgrad import Tensor

from ..model import GPT


@contextmanager
def undisturbed(model: GPT) -> Iterator[None]:
    """Nothing is dropped out, recomputed or recorded; afterwards the model is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    recompute, model.recompute = model.recompute, False
    model.eval()
    try:
        with tensorgrad.no_grad():
            yield
    finally:
        model.recompute = recompute
        for module, training in modes:
            module.training = training


def _outputs(model: GPT, tokens: Sequence[int], modules: Sequence[nn.Module]) -> list[Tensor]:
    """What each of ``modules`` returns, once each, while the model reads ``tokens``."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output[0])

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        with undisturbed(model):
            model(tensorgrad.tensor([list(tokens)]))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def residual_stream(model: GPT, tokens: Sequence[int]) -> list[Tensor]:
    """The vectors [T, C] of the tokens before the first block, and after each."""
    return _outputs(model, tokens, [model.dropout, *model.blocks])


def attention_weights(model: GPT, tokens: Sequence[int]) -> np.ndarray:
    """How much each token attends to each: [layers, heads, T, T], every row sums to 1.

    Softmax of the queries and keys that the model itself computes; those of its kernel, which
    never writes them down, differ by rounding.
    """
    maps = []
    projections = [block.attention.qkv for block in model.blocks]
    for qkv in _outputs(model, tokens, projections):
        T, H = len(qkv), model.config.heads
        q, k, _ = qkv.view(T, 3, H, -1).permute(1, 2, 0, 3).unbind(0)  # 3 times [H, T, D]
        scores = q @ k.transpose(-2, -1) / model.config.head_size**0.5  # [H, T, T]
        future = tensorgrad.ones(T, T, dtype=tensorgrad.bool).triu(diagonal=1)
        maps.append(F.softmax(scores.masked_fill(future, float("-inf")), -1).numpy())
    return np.stack(maps)


def lens_logits(model: GPT, tokens: Sequence[int]) -> np.ndarray:
    """What the model would say without its last blocks: [layers + 1, T, V].

    The final norm and the output layer on the residual stream before the first block and after
    each (nostalgebraist 2020, "interpreting GPT: the logit lens"). The last are the model's logits.
    """
    stream = residual_stream(model, tokens)
    with undisturbed(model):
        return np.stack([model.output(model.norm(x)).numpy() for x in stream])
