"""Pictures of a run, drawn with matplotlib (extra ``viz``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The objects of a ``metrics.jsonl``, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def loss_curve(metrics: list[dict[str, Any]], title: str) -> Any:
    """A matplotlib Figure of training and validation loss over steps.

    Raises:
        ImportError: matplotlib is not installed; the sentence says how to get it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "the loss curve needs matplotlib: pip install 'tensorgrad-gpt[viz]'"
        ) from None
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    steps = [m["step"] for m in metrics]
    # Colours of Okabe & Ito, told apart in print and by colour-blind readers; a dash besides.
    for key, label, colour, line in (
        ("train_loss", "training", "#0072B2", "-"),
        ("val_loss", "validation", "#D55E00", "--"),
    ):
        values = [m[key] for m in metrics]
        last = f"{label} (last {values[-1]:.3f})"
        axes.plot(steps, values, label=last, color=colour, linestyle=line, linewidth=1.8)
    axes.set(xlabel="step", ylabel="cross-entropy loss (nats per token)", title=title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def save_loss_curve(folder: Path, title: str) -> list[Path]:
    """Write ``loss.svg`` and ``loss.png`` from the folder's ``metrics.jsonl``."""
    figure = loss_curve(read_metrics(folder / "metrics.jsonl"), title)
    paths = [folder / "loss.svg", folder / "loss.png"]
    for path in paths:
        figure.savefig(path)
    return paths
