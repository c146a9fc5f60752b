"""The picture of who attends to whom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import canvas
from ..model import GPT
from ..tokenizer import Tokenizer
from .inside import attention_weights
from .labels import read, token_labels

MOST = 24  # tokens whose labels can be read beside a map


def attention_maps(
    model: GPT,
    coder: Tokenizer,
    text: str | Sequence[int],
    layers: Iterable[int] | None = None,
    most: int = MOST,
) -> Any:
    """A Figure with a map for every head: row i, column j is how much token i attends to token j.

    The layers are rows, the heads columns; of one layer alone the heads make a square.

    Args:
        text: or its tokens; no more than ``most`` are drawn.
        layers: which of them, from 0; None: all.
    """
    tokens, notice = read(text, coder, model, most)
    weights = attention_weights(model, tokens)  # [layers, H, T, T]
    T, H = len(tokens), model.config.heads
    chosen = list(range(len(weights)) if layers is None else layers)
    if not chosen or not all(0 <= layer < len(weights) for layer in chosen):
        raise ValueError(f"the layers are 0 to {len(weights) - 1}; asked for were {chosen}")
    columns = H if len(chosen) > 1 else math.ceil(math.sqrt(H))
    rows = len(chosen) if len(chosen) > 1 else math.ceil(H / columns)
    side = max(1.3, 0.115 * T)  # inches: labels of 6 points fit
    figure = canvas.blank(max(4.0, columns * (side + 0.15) + 1.6), rows * (side + 0.25) + 1.1)
    panels = figure.subplots(rows, columns, squeeze=False)
    labels = token_labels(tokens, coder)
    pairs = [(layer, head) for layer in chosen for head in range(H)]
    future = np.triu(np.ones((T, T), bool), 1)
    for n, axes in enumerate(panels.flat):
        if n >= len(pairs):
            axes.set_axis_off()
            continue
        layer, head = pairs[n]
        image = axes.imshow(
            np.ma.array(weights[layer, head], mask=future),
            cmap=canvas.colours(canvas.LIGHT_TO_DARK),
            norm=canvas.root_scale(),
        )
        canvas.heading(axes, f"layer {layer}, head {head}", fontsize=8, pad=3)
        # The words stand at the left and at the bottom of the grid only.
        canvas.label_ticks(axes.yaxis, labels if n % columns == 0 else [""] * T, fontsize=6)
        lowest = n + columns >= len(pairs)
        canvas.label_ticks(axes.xaxis, labels if lowest else [""] * T, fontsize=6, rotation=90)
    bar = figure.colorbar(image, ax=panels, shrink=min(1.0, 2.4 / (rows * side)), pad=0.01)
    bar.set_label("weight (colours by its square root)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.supylabel("token that looks", fontsize=9)
    figure.supxlabel("token that is looked at (grey: still to come)", fontsize=9)
    figure.suptitle(f"Attention{notice}", fontsize=11)
    return figure
