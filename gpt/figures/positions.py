"""The picture of how a model tells positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import canvas
from ..model import GPT


def positions_of(model: GPT) -> np.ndarray:
    """The vector that is added to a token at each position: [context, width]."""
    if model.config.positions == "learned":
        return model.position_embedding.weight.detach().numpy()
    return model.positions.numpy()


def position_table(model: GPT) -> Any:
    """A Figure of the table of positions, and of how alike any two positions are."""
    table = positions_of(model)
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    figure = canvas.blank(12, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=[2.6, 1])
    reach = float(np.abs(table).max())
    image = left.imshow(
        table, cmap=canvas.colours("viridis"), vmin=-reach, vmax=reach, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    canvas.heading(left, f"position table ({model.config.positions})")
    left.set(xlabel="dimension", ylabel="position")
    figure.colorbar(image, ax=left, label="value", pad=0.01)
    image = right.imshow(
        unit @ unit.T, cmap=canvas.colours(canvas.DARK_TO_LIGHT), vmin=-1, vmax=1,
        interpolation="nearest",
    )  # fmt: skip
    canvas.heading(right, "cosine of two positions")
    right.set(xlabel="position", ylabel="position")
    figure.colorbar(image, ax=right, label="cosine", shrink=0.8)
    for axis in (left.yaxis, right.xaxis, right.yaxis, left.xaxis):
        axis.get_major_locator().set_params(integer=True)
    return figure
