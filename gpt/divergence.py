"""Why a training diverged: the operation, the layer and the step where nan or inf came up.

The step is computed again in the anomaly mode, which names the first operation with nan or inf;
the layer is the innermost module that was at work when that operation was recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nn
import tensorgrad
from tensorgrad import Tensor
from tensorgrad.autograd import detect_anomaly

from .model import GPT


class Diverged(RuntimeError):
    """The loss or the gradients are not finite, or the loss has jumped."""

    exit_code = 3  # of the command line


def explained(
    step: int, what: str, where: str, lr: float, kept: Path, again: str, remedy: str = ""
) -> Diverged:
    """One paragraph: what was seen, where it came from, what is kept, how to go on.

    Args:
        kept: the last good checkpoint, if there is one.
        again: the command that resumes the run.
        remedy: more that can be done.
    """
    return Diverged(
        f"the training has diverged in step {step}: {what}"
        + (f"; {where}" if where else "; no single operation gives nan or inf")
        + f". The learning rate is {lr:.3g}: try a lower --lr, a longer --warmup"
        f"{remedy}. "
        + (
            f"The last good checkpoint, {kept}, is kept; to go on from it: {again} "
            f"--lr {lr / 4:.1g}"
            if kept.exists()
            else "There is no checkpoint yet: begin again"
        )
    )


def largest(now: dict[str, float], before: dict[str, float]) -> str:
    """Which layer has the largest gradient, and how large it was.

    Args:
        now: the norms of the layers' gradients.
        before: the layers' norms when they were last measured.
    """
    layer = max(now, key=lambda name: now[name])
    then = before.get(layer)
    return f"the largest gradient is that of the layer {layer}, of norm {now[layer]:.3g}" + (
        f" (when last measured: {then:.3g})" if then else ""
    )


def layer_of(parameter: str) -> str:
    """The part of the model that a parameter belongs to: a block, an embedding, ...

    >>> layer_of("blocks.3.attention.qkv.weight"), layer_of("norm.bias")
    ('blocks.3', 'norm')
    """
    parts = parameter.split(".")
    return ".".join(parts[:2] if parts[0] == "blocks" else parts[:1])


def layer_norms(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """The norm of each layer's gradients, all its parameters' together."""
    squares: dict[str, float] = {}
    for name, parameter in parameters:
        if parameter.grad is not None:
            g = parameter.grad.numpy().reshape(-1)
            layer = layer_of(name)
            squares[layer] = squares.get(layer, 0.0) + float(g @ g)
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def spoilt(model: GPT) -> list[str]:
    """The weights of a model that are not finite, by name."""
    return [
        name for name, p in model.named_parameters() if not tensorgrad.isfinite(p.data).all().item()
    ]


def first_fault(model: GPT, compute: Callable[[], Any]) -> str:
    """Which operation and layer first gives nan or inf while ``compute`` runs; empty if none."""
    weights = spoilt(model)
    if weights:
        more = f" and {len(weights) - 1} others" if len(weights) > 1 else ""
        return f"the last update left nan or inf in the weights {weights[0]}{more}"
    recompute, model.recompute = model.recompute, False  # each operation is to be recorded once
    try:
        with detect_anomaly(), _layers(model) as layer_at:
            compute()
    except RuntimeError as error:
        number = getattr(error, "number", None)
        if number is None:
            raise
        layer = layer_at(number)
        where = f"in the layer {layer}" if layer else "outside the layers"
        return f"{where}, {error}"
    finally:
        model.recompute = recompute
        for p in model.parameters():
            p.grad = None
    return ""


@contextmanager
def _layers(model: nn.Module) -> Iterator[Callable[[int], str]]:
    """A function from the number of an operation to the innermost module that it was part of."""
    names = {id(module): name for name, module in model.named_modules()}
    one = tensorgrad.ones((), requires_grad=True)
    open_since: list[tuple[int, str]] = []
    closed: list[tuple[int, float, str]] = []

    def now() -> int:
        return (one * one).grad_fn.seq  # operations are numbered in the order of execution

    def enter(module: nn.Module, args: Any) -> None:
        open_since.append((now(), names[id(module)]))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        start, name = open_since.pop()
        closed.append((start, now() if output is not None else math.inf, name))

    def layer_at(number: int) -> str:
        inside = [(start, name) for start, end, name in closed if start < number < end]
        return max(inside, default=(0, ""))[1]

    hooks = [
        handle
        for module in model.modules()
        for handle in (
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        )
    ]
    try:
        yield layer_at
    finally:
        for handle in hooks:
            handle.remove()
