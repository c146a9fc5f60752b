"""The picture of what each layer would predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import canvas
from ..model import GPT
from ..tokenizer import Tokenizer
from .inside import lens_logits
from .labels import read, token_labels

MOST = 16  # tokens that are columns


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of the last axis."""
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def logit_lens(model: GPT, coder: Tokenizer, text: str | Sequence[int], most: int = MOST) -> Any:
    """A Figure with the likeliest next token after each layer (rows) and token (columns).

    The darker, the likelier; what really follows stands above, and has a frame where it is
    predicted.

    Args:
        text: or its tokens; no more than ``most`` are columns.
    """
    tokens, notice = read(text, coder, model, most + 1)
    if len(tokens) == 1:  # nothing is known to follow
        given, following = tokens, []
    else:
        given, following = tokens[:-1], tokens[1:]
    p = probabilities(lens_logits(model, given))  # [layers + 1, T, V]
    best = p.argmax(-1)
    shown = p.max(-1)
    rows, T = shown.shape
    figure = canvas.blank(max(6.5, 0.72 * T + 2.6), 0.36 * rows + 1.9)
    axes = figure.subplots()
    image = axes.imshow(
        shown, cmap=canvas.colours(canvas.LIGHT_TO_DARK), vmin=0, vmax=1, aspect="auto",
        origin="lower",
    )  # fmt: skip
    for row in range(rows):
        for column, label in enumerate(token_labels(best[row].tolist(), coder, 9)):
            axes.text(
                column, row, label, ha="center", va="center", fontsize=7, parse_math=False,
                color="white" if shown[row, column] > 0.55 else "black",
            )  # fmt: skip
            if following and best[row, column] == following[column]:
                axes.plot(
                    column + 0.46 * np.array([-1, 1, 1, -1, -1]),
                    row + 0.43 * np.array([-1, -1, 1, 1, -1]),
                    color=canvas.VERMILION, linewidth=1.6,
                )  # fmt: skip
    canvas.label_ticks(axes.xaxis, token_labels(given, coder, 9), fontsize=8)
    after = ["embedding", *(f"block {n}" for n in range(rows - 2)), f"block {rows - 2} = model"]
    canvas.label_ticks(axes.yaxis, after, fontsize=8)
    axes.set(xlabel="token that was read", ylabel="after")
    if following:
        above = axes.secondary_xaxis("top")
        canvas.label_ticks(above.xaxis, token_labels(following, coder, 9), fontsize=8)
        above.set_xlabel("token that follows (framed where it is predicted)")
    figure.colorbar(image, ax=axes, label="probability", pad=0.01)
    figure.suptitle(f"Logit lens: the likeliest next token after each layer{notice}", fontsize=11)
    return figure
