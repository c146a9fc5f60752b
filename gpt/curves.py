"""The metrics of a run, and their picture: drawn with matplotlib (extra ``viz``)."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The objects of a ``metrics.jsonl``, one a line; none if there is no such file.

    A last line that was cut off, by a crash or a full disk, is left out; any other that is not
    an object of metrics raises ValueError.
    """
    if not path.exists():
        return []
    metrics = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            for key in ("step", "train_loss", "val_loss"):
                float(record[key])
            metrics.append(record)
        except (ValueError, KeyError, TypeError):
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ValueError(
                f"{path}: line {number} does not hold the metrics of a step: remove it"
            ) from None
    return metrics


def loss_curve(metrics: list[dict[str, Any]], title: str) -> Any:
    """A matplotlib Figure of training and validation loss over steps.

    Raises:
        ImportError: matplotlib is not installed; the sentence says how to get it.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise ImportError("the loss curve needs matplotlib: pip install matplotlib") from None
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    steps = [m["step"] for m in metrics]
    # Colours of Okabe & Ito, told apart in print and by colour-blind readers; a dash besides.
    for key, label, colour, line in (
        ("train_loss", "training", "#0072B2", "-"),
        ("val_loss", "validation", "#D55E00", "--"),
    ):
        values = [m[key] for m in metrics]
        axes.plot(
            steps, values, label=f"{label} (last {values[-1]:.3f})", color=colour, linestyle=line,
            linewidth=1.8, marker="o", markersize=3 if len(steps) < 40 else 0,
        )  # fmt: skip
    axes.set(xlabel="step", ylabel="cross-entropy loss (nats per token)")
    axes.set_title(title, parse_math=False)  # a folder may have dollars in its name
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def save_loss_curve(folder: Path, title: str) -> list[Path]:
    """Write ``loss.svg`` and ``loss.png`` from the folder's ``metrics.jsonl``."""
    figure = loss_curve(read_metrics(folder / "metrics.jsonl"), title)
    paths = [folder / "loss.svg", folder / "loss.png"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a folder's name may be beyond the font
        for path in paths:
            figure.savefig(path)
    return paths
