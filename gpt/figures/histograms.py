"""The pictures of weights, and of how far the last step of the training has moved them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorgrad.optim import Optimizer

from .. import canvas
from ..model import GPT

BINS = 41  # at most: few elements get fewer
COLUMNS = 4


def last_update(model: GPT, optimizer: Optimizer, lr: float) -> dict[str, np.ndarray]:
    """What the last step of AdamW has added to each parameter, by name, in float64.

    It follows from the moments that the optimizer keeps: the step took w to
    (1 - lr·decay) w - lr m̂ / (sqrt(v̂) + eps), and w after it is known, so w before it is too. No
    batch has to be found again, and nothing is drawn anew.

    Args:
        lr: the learning rate of that step; a scheduler has already set the next one.

    Raises:
        ValueError: the optimizer has not made a step of this kind.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    updates: dict[str, Any] = dict.fromkeys(names.values())  # in the order of the model
    for group in optimizer.param_groups:
        if group["amsgrad"] or group["maximize"] or not group["decoupled_weight_decay"]:
            raise ValueError("the last update can be told of a plain AdamW only")
        beta1, beta2 = group["betas"]
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if "exp_avg" not in state:
                raise ValueError("the optimizer has not made a step yet")
            step = int(state["step"])
            m, v = (_wide(state[name]) for name in ("exp_avg", "exp_avg_sq"))
            m, v = m / (1 - beta1**step), v / (1 - beta2**step)
            moved = lr * m / (np.sqrt(v) + group["eps"])
            after = _wide(parameter)
            before = (after + moved) / (1 - lr * group["weight_decay"])
            updates[names[id(parameter)]] = after - before
    return updates


def _wide(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def log_ratios(update: np.ndarray, after: np.ndarray) -> np.ndarray:
    """log10 of |Δw| / |w| element by element, w before the update; without those that are 0."""
    before = np.abs(after - update).reshape(-1)
    moved = np.abs(update).reshape(-1)
    both = (before > 0) & (moved > 0)
    return np.log10(moved[both] / before[both])


def norm_ratio(update: np.ndarray, after: np.ndarray) -> float:
    """log10 of ‖Δw‖ / ‖w‖, w before the update; nan if there is none."""
    before, moved = np.linalg.norm(after - update), np.linalg.norm(update)
    return math.log10(moved / before) if before and moved else math.nan


def weight_histograms(model: GPT) -> Any:
    """A Figure with a panel for every kind of parameter, and in it a line for every block."""
    values = {
        name: parameter.detach().numpy().reshape(-1) for name, parameter in model.named_parameters()
    }
    figure = _panels(values, [])
    figure.supxlabel("weight", fontsize=9)
    figure.suptitle("Weights", fontsize=11)
    return figure


def update_histograms(model: GPT, updates: dict[str, np.ndarray]) -> Any:
    """A Figure of how large an update is beside the weights that it changes, kind by kind.

    Lines: log10 of |Δw| / |w|, element by element. Triangles: the same of the norms of all
    elements together, of which 1e-3 is a rule of thumb.

    Args:
        updates: of each parameter by name, as :func:`last_update` gives them.
    """
    weights = {name: _wide(parameter) for name, parameter in model.named_parameters()}
    ratios = {name: log_ratios(update, weights[name]) for name, update in updates.items()}
    figure = _panels(ratios, [norm_ratio(updates[name], weights[name]) for name in updates])
    figure.supxlabel("log10 of |update| / |weight| (triangles: of their norms)", fontsize=9)
    figure.suptitle("How far the last step has moved the weights", fontsize=11)
    return figure


def kinds_of(names: Any) -> dict[str, list[tuple[int | None, str]]]:
    """Names of parameters by kind, each with its block.

    >>> kinds_of(["norm.bias", "blocks.0.norm1.bias", "blocks.1.norm1.bias"])
    {'norm.bias': [(None, 'norm.bias')], \
'norm1.bias': [(0, 'blocks.0.norm1.bias'), (1, 'blocks.1.norm1.bias')]}
    """
    kinds: dict[str, list[tuple[int | None, str]]] = {}
    for name in names:
        parts = name.split(".")
        block = int(parts[1]) if parts[0] == "blocks" else None
        kind = name if block is None else ".".join(parts[2:])
        kinds.setdefault(kind, []).append((block, name))
    return kinds


def _panels(values: dict[str, np.ndarray], marks: list[float]) -> Any:
    """A panel for every kind, a line for every array in it, and perhaps a mark for each array."""
    kinds = kinds_of(values)
    mark = dict(zip(values, marks))
    blocks = max((len(members) for members in kinds.values()), default=1)
    rows = math.ceil(len(kinds) / COLUMNS)
    figure = canvas.blank(3 * COLUMNS, 1.75 * rows + 0.9)
    panels = figure.subplots(rows, COLUMNS, squeeze=False)
    for n, axes in enumerate(panels.flat):
        if n >= len(kinds):
            axes.set_axis_off()
            continue
        kind, members = list(kinds.items())[n]
        edges = _edges([values[name] for _, name in members])
        for block, name in members:
            colour = "black" if block is None else canvas.shade(block, blocks)
            counts, _ = np.histogram(values[name], edges)
            part = counts / max(1, values[name].size)
            label = kind if block is None else f"block {block}"
            axes.stairs(part, edges, color=colour, label=label, linewidth=1.1)
            if name in mark:
                axes.plot([mark[name]], [1.05], marker="v", color=colour, markersize=5,
                          transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
        size = values[members[0][1]].size
        canvas.heading(axes, f"{kind} ({size:,})", fontsize=8, pad=11 if mark else 4)
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.locator_params(axis="x", nbins=6)
        axes.tick_params(labelsize=6)
        canvas.plain(axes)
    handles, labels = next(
        (axes.get_legend_handles_labels() for axes in panels.flat if len(axes.patches) > 1),
        ([], []),
    )
    if handles:
        figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    figure.supylabel("part of the elements", fontsize=9)
    return figure


def _edges(arrays: list[np.ndarray]) -> np.ndarray:
    """The ends of equal bins from the least to the largest element of all arrays."""
    finite = [a[np.isfinite(a)] for a in arrays]
    ends = [(a.min(), a.max()) for a in finite if a.size] or [(0.0, 0.0)]
    size = max(a.size for a in arrays)
    bins = min(BINS, max(5, math.ceil(2 * size ** (1 / 3))))  # the rule of Rice
    return np.histogram_bin_edges([min(e[0] for e in ends), max(e[1] for e in ends)], bins)
