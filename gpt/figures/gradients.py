"""The picture of how gradients flow through the layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tensorgrad

from .. import canvas
from ..divergence import layer_of
from ..model import GPT
from .inside import undisturbed


def gradient_norms(model: GPT, x: Any, y: Any) -> dict[str, float]:
    """The norm of each layer's gradients of the loss on one batch, x and y [B, T] token ids."""
    names, parameters = zip(*model.named_parameters())
    with undisturbed(model), tensorgrad.enable_grad():
        loss = model(tensorgrad.tensor(x), tensorgrad.tensor(y))
        gradients = tensorgrad.grad(loss, parameters)
    squares: dict[str, float] = {}
    for name, gradient in zip(names, gradients):
        g = gradient.numpy().reshape(-1)
        squares[layer_of(name)] = squares.get(layer_of(name), 0.0) + float(g @ g)
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def gradient_flow(
    metrics: list[dict[str, Any]], model: GPT | None = None, batch: tuple[Any, Any] | None = None
) -> Any:
    """A Figure of the gradients' norms of every layer (rows) over training (columns).

    Args:
        metrics: the lines of a run's metrics.jsonl.
        model: of that run, and ``batch`` [B, T], [B, T]: used if the metrics do not tell the norms
            layer by layer. Then those of this batch are drawn, and the title says so.
    """
    measured = [m for m in metrics if m.get("grad_norms")]
    if measured:
        return _over_training(measured)
    if model is None or batch is None:
        raise ValueError(
            "the metrics have no grad_norms: give a model and a batch to measure them on"
        )
    return _of_one_batch(gradient_norms(model, *batch))


def _over_training(measured: list[dict[str, Any]]) -> Any:
    layers = list(dict.fromkeys(layer for m in measured for layer in m["grad_norms"]))
    steps = [m["step"] for m in measured]
    norms = np.array([[m["grad_norms"].get(layer, math.nan) for m in measured] for layer in layers])
    figure = canvas.blank(max(6.0, min(12.0, 2.4 + 0.3 * len(steps))), 1.8 + 0.3 * len(layers))
    axes = figure.subplots()
    image = axes.imshow(
        np.ma.masked_where(~(norms > 0), norms),  # a logarithm has no colour for 0
        cmap=canvas.colours(canvas.DARK_TO_LIGHT),
        norm="log" if (norms > 0).any() else None,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
    )
    canvas.label_ticks(axes.yaxis, layers, fontsize=8)
    thinned = range(0, len(steps), math.ceil(len(steps) / 10))
    axes.set_xticks(thinned, [f"{steps[i]:,}" for i in thinned])
    axes.set(xlabel="step", ylabel="layer (the text comes in below)")
    figure.colorbar(image, ax=axes, label="norm of the gradients", pad=0.01)
    canvas.heading(axes, "Gradient flow over training (before clipping)")
    return figure


def _of_one_batch(norms: dict[str, float]) -> Any:
    figure = canvas.blank(7, 1.6 + 0.3 * len(norms))
    axes = figure.subplots()
    axes.barh(range(len(norms)), list(norms.values()), color=canvas.BLUE)
    canvas.label_ticks(axes.yaxis, list(norms), fontsize=8)
    if any(norms.values()):
        axes.set_xscale("log")
    axes.set(xlabel="norm of the gradients", ylabel="layer (the text comes in below)")
    canvas.plain(axes)
    canvas.heading(axes, "Gradients of one batch (the run's metrics do not have them by layer)")
    return figure
