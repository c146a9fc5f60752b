"""The picture of the loss around the weights of a model."""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorgrad

from .. import canvas
from ..model import GPT
from .inside import undisturbed


def random_directions(model: GPT, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Directions in the space of all weights, drawn at random and normalised by filters.

    What comes into a neuron, or the vector of a token, is a filter: a row of a matrix. Each row of
    a direction is as long as the same row of the weights, so that a step of 1 changes every
    filter by its own length, however large it is; biases and norms stay as they are (Li et al.
    2018, "Visualizing the Loss Landscape of Neural Nets", section 4).
    """
    draw = np.random.Generator(np.random.PCG64(seed))
    directions = []
    for _ in range(count):
        direction = {}
        for name, parameter in model.named_parameters():
            w = parameter.detach().numpy()
            if w.ndim < 2:
                direction[name] = np.zeros_like(w)
                continue
            d = draw.standard_normal(w.shape).astype(w.dtype)
            lengths = [np.linalg.norm(a, axis=-1, keepdims=True) for a in (w, d)]
            direction[name] = d * (lengths[0] / lengths[1])
        directions.append(direction)
    return directions


@np.errstate(all="ignore")  # far away the loss may be inf or nan, and is drawn as that
def loss_grid(
    model: GPT, batch: tuple[Any, Any], directions: list[dict[str, np.ndarray]], steps: np.ndarray
) -> np.ndarray:
    """The loss [n, n] on a batch at w + steps[column]·directions[0] + steps[row]·directions[1].

    Afterwards the weights are what they were, to the bit.
    """
    x, y = (tensorgrad.tensor(a) for a in batch)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = np.empty((len(steps), len(steps)))
    with undisturbed(model):
        try:
            for row, b in enumerate(steps):
                for column, a in enumerate(steps):
                    for name, parameter in model.named_parameters():
                        shift = a * directions[0][name] + b * directions[1][name]
                        w = before[name].numpy()
                        parameter.copy_(tensorgrad.from_numpy((w + shift).astype(w.dtype)))
                    losses[row, column] = model(x, y).item()
        finally:
            for name, parameter in model.named_parameters():
                parameter.copy_(before[name])
    return losses


def loss_landscape(
    model: GPT,
    batch: tuple[Any, Any],
    points: int = 15,
    reach: float = 1.0,
    seed: int = 0,
    what: str = "one batch",
) -> Any:
    """A Figure of the loss in a plane through the weights, and along its two axes.

    Args:
        batch: token ids x and y [B, T]: what the loss is of; it is computed points² times.
        points: on each axis; odd, so that the weights themselves are among them.
        reach: how far to go, in lengths of the filters.
        seed: of the two random directions.
        what: the batch in words, for the title.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points must be odd and at least 3, not {points}")
    steps = np.linspace(-reach, reach, points)
    steps[points // 2] = 0.0  # and not a rounding beside it
    losses = loss_grid(model, batch, random_directions(model, 2, seed), steps)
    figure = canvas.blank(11, 4.6)
    left, right = figure.subplots(1, 2)
    half = reach / (points - 1)  # of a cell: the centre of each is where its loss was computed
    ends = (-reach - half, reach + half)
    shown = np.ma.masked_invalid(losses)
    image = left.imshow(
        shown, extent=(*ends, *ends), origin="lower", aspect="auto",
        cmap=canvas.colours(canvas.DARK_TO_LIGHT),
    )  # fmt: skip
    if shown.count() == shown.size and np.ptp(losses) > 0:
        lines = left.contour(steps, steps, losses, 8, colors="white", linewidths=0.8)
        left.clabel(lines, fontsize=7)
    left.plot([0], [0], marker="*", color="white", markeredgecolor="black", markersize=13)
    left.set(xlabel="direction 1", ylabel="direction 2")
    figure.colorbar(image, ax=left, label="loss (nats per token)", pad=0.01)
    middle = points // 2
    right.plot(steps, losses[middle], color=canvas.BLUE, marker="o", markersize=3,
               label="direction 1")  # fmt: skip
    right.plot(steps, losses[:, middle], color=canvas.VERMILION, marker="s", markersize=3,
               linestyle="--", label="direction 2")  # fmt: skip
    right.plot([0], [losses[middle, middle]], marker="*", color="white", markeredgecolor="black",
               markersize=13, linestyle="none",
               label=f"the model: {losses[middle, middle]:.3f}")  # fmt: skip
    right.set(xlabel="step (1: as long as the filters)", ylabel="loss (nats per token)")
    right.legend(frameon=False)
    canvas.plain(right)
    figure.suptitle(
        f"Loss of {what} around the weights, along two random directions (normalised by filters)",
        fontsize=11,
    )
    return figure
