"""The pictures of the token embedding: which tokens are alike, and a map of all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import canvas
from ..model import GPT
from ..tokenizer import Tokenizer
from .labels import read, token_label, token_labels

MOST = 12  # tokens whose neighbours are shown
LABELLED = 120  # tokens with a name on the map, as far as there is room


def embedding_of(model: GPT) -> np.ndarray:
    """The vector of each token: [V, C]."""
    return model.token_embedding.weight.detach().numpy()


def cosine_neighbours(table: np.ndarray, row: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` rows of ``table`` nearest in direction to ``row``, and their cosines.

    >>> rows, cosines = cosine_neighbours(np.array([[1.0, 0], [2, 0], [0, 3], [1, 1]]), 0, 2)
    >>> rows.tolist(), cosines.round(3).tolist()
    ([1, 3], [1.0, 0.707])
    """
    lengths = np.maximum(np.linalg.norm(table, axis=1), 1e-12)
    cosines = table @ table[row] / lengths / lengths[row]
    cosines[row] = -math.inf  # not itself
    nearest = np.argsort(-cosines, kind="stable")[: min(count, len(table) - 1)]
    return nearest, cosines[nearest]


def principal_components(table: np.ndarray, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The rows [V, C] in the directions in which they vary most, [V, count], and the parts of the
    variance [count] that are in them.

    A direction points to where its largest number is positive, so that the same table always
    gives the same picture.
    """
    centred = table.astype(np.float64) - table.mean(0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    directions = directions[:, ::-1][:, :count]
    largest = np.abs(directions).argmax(0)
    directions = directions * np.sign(directions[largest, range(directions.shape[1])])
    parts = np.maximum(variances[::-1][:count], 0) / max(variances.sum(), 1e-300)
    # Rounding alone is no direction: magnified to the size of a picture it would look like one.
    return np.where(parts > 1e-12, centred @ directions, 0.0), parts


def embedding_neighbours(
    model: GPT, coder: Tokenizer, text: str | Sequence[int], count: int = 8, most: int = MOST
) -> Any:
    """A Figure with the tokens nearest to each token of a text, by the cosine of their vectors.

    Args:
        text: or its tokens; the first ``most`` different ones with letters are shown.
        count: neighbours of each.
    """
    tokens, _ = read(text, coder, model)
    worded = [t for t in tokens if any(c.isalpha() for c in coder.decode([t]))]
    different = list(dict.fromkeys(worded or tokens))
    asked, table = different[:most], embedding_of(model)
    columns = min(4, len(asked))
    rows = math.ceil(len(asked) / columns)
    figure = canvas.blank(2.7 * columns + 0.4, rows * (0.19 * count + 0.6) + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for n, axes in enumerate(panels.flat):
        if n >= len(asked):
            axes.set_axis_off()
            continue
        nearest, cosines = cosine_neighbours(table, asked[n], count)
        axes.barh(range(len(nearest)), cosines, color=canvas.BLUE, height=0.7)
        canvas.label_ticks(axes.yaxis, token_labels(nearest.tolist(), coder), fontsize=8)
        axes.invert_yaxis()
        canvas.heading(axes, token_label(asked[n], coder), fontsize=10, fontweight="bold")
        canvas.plain(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="x", labelsize=7, labelbottom=n + columns >= len(asked))
    figure.supxlabel("cosine with the token in the title", fontsize=9)
    cut = f" ({most} of {len(different)} tokens)" if len(different) > most else ""
    figure.suptitle(f"Nearest tokens by embedding{cut}", fontsize=11)
    return figure


def embedding_map(
    model: GPT, coder: Tokenizer, text: str | Sequence[int] | None = None, most: int = LABELLED
) -> Any:
    """A Figure of all tokens in the plane in which their vectors vary most (PCA).

    Args:
        text: or its tokens: the ``most`` frequent of them have names, so far as there is room;
            None: the first of the vocabulary.
    """
    points, parts = principal_components(embedding_of(model))
    if text is None:
        named = list(range(min(len(points), coder.n_vocab)))[:most]
    else:
        named = [t for t, _ in Counter(read(text, coder, model)[0]).most_common(most)]
    figure = canvas.blank(9, 7.5)
    axes = figure.subplots()
    faint = max(0.04, min(0.5, 2000 / len(points)))  # names are to be read on a crowd, too
    axes.scatter(*points.T, s=6, color=canvas.FAINT, alpha=faint, linewidths=0, rasterized=True)
    axes.scatter(*points[named].T, s=9, color=canvas.BLUE)
    span = np.ptp(points, axis=0)
    # About the points (1/72 inch) that the axes have, to find out which names would overlap.
    place = (points - points.min(0)) / np.where(span > 0, span, 1) * (560, 460)
    taken: list[tuple[float, float, float]] = []
    for token in named:
        label = token_label(token, coder)
        (x, y), width = place[token], 5.2 * len(label) + 4
        if all(abs(y - b) > 9 or x > a + w or a > x + width for a, b, w in taken):
            taken.append((x, y, width))
            axes.annotate(
                label, points[token], xytext=(3, 0), textcoords="offset points", va="center",
                fontsize=8, parse_math=False,
            )  # fmt: skip
    for axis, n in ((axes.xaxis, 0), (axes.yaxis, 1)):
        axis.set_label_text(f"component {n + 1}: {parts[n]:.1%} of the variance")
    canvas.plain(axes)
    size = f"{len(points):,} vectors of {model.config.width} numbers"
    canvas.heading(axes, f"Token embeddings ({size}) in a plane: PCA")
    return figure
