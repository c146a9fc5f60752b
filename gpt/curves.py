"""The metrics of a run, and their picture: drawn with matplotlib (extra ``viz``)."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import canvas


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


def loss_curve(
    metrics: list[dict[str, Any]], title: str, each_step: Sequence[tuple[int, float]] = ()
) -> Any:
    """A matplotlib Figure of training and validation loss over steps.

    Args:
        each_step: steps and the losses of their own batches, drawn faintly behind the others.

    Raises:
        ImportError: matplotlib is not installed; the sentence says how to get it.
    """
    figure = canvas.blank(7, 4)
    axes = figure.subplots()
    steps = [m["step"] for m in metrics]
    if each_step:
        axes.plot(*zip(*each_step), label="training, each step", color=canvas.SKY, linewidth=0.6)
    for key, label, colour, line in (
        ("train_loss", "training", canvas.BLUE, "-"),
        ("val_loss", "validation", canvas.VERMILION, "--"),
    ):
        if values := [m[key] for m in metrics]:
            axes.plot(
                steps, values, label=f"{label} (last {values[-1]:.3f})", color=colour,
                linestyle=line, linewidth=1.8, marker="o", markersize=3 if len(steps) < 40 else 0,
            )  # fmt: skip
    axes.set(xlabel="step", ylabel="cross-entropy loss (nats per token)")
    axes.set_title(title, parse_math=False)  # a folder may have dollars in its name
    _plain(axes)
    if metrics or each_step:
        axes.legend(frameon=False)
    return figure


def training_curves(metrics: list[dict[str, Any]], title: str) -> Any:
    """A Figure of learning rate, gradient norms and speed over steps; errors as above."""
    figure = canvas.blank(7, 9)
    rate, norms, speed = figure.subplots(3, sharex=True, height_ratios=(2, 4, 2))
    for axes, key, label in (
        (rate, "lr", "learning rate"),
        (norms, "grad_norm", "norm of the gradients"),
        (speed, "tokens_per_second", "tokens per second"),
    ):
        points = [m for m in metrics if key in m]
        axes.plot(
            [m["step"] for m in points], [m[key] for m in points],
            label="all", color="black", linewidth=1.8,
        )  # fmt: skip
        axes.set(ylabel=label)
        _plain(axes)
    # What an earlier version has measured has no layers.
    layers = dict.fromkeys(layer for m in metrics for layer in m.get("grad_norms", {}))
    blocks = [layer for layer in layers if layer.startswith("blocks.")]
    for layer in layers:
        points = [m for m in metrics if layer in m.get("grad_norms", {})]
        if layer in blocks:  # from dark to light with the depth
            shade = canvas.shade(blocks.index(layer), len(blocks))
            style: dict[str, Any] = {"color": shade}
        else:
            style = {"linestyle": "--"}
        norms.plot(
            [m["step"] for m in points], [m["grad_norms"][layer] for m in points],
            label=layer, linewidth=1.2, **style,
        )  # fmt: skip
    if any(m.get("grad_norm", 0) > 0 for m in metrics):
        norms.set_yscale("log")
        low, high = norms.get_ylim()
        norms.set_ylim(low * (low / high) ** 0.35, high)  # room for the names
    norms.legend(frameon=False, fontsize="small", ncols=3, loc="lower left")
    speed.set(xlabel="step")
    speed.set_ylim(bottom=0)
    rate.set_title(title, parse_math=False)
    return figure


def _plain(axes: Any) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True)
    canvas.plain(axes)


def png(figure: Any) -> bytes:
    """A Figure as the content of a .png file."""
    file = io.BytesIO()
    with _any_title():
        figure.savefig(file, format="png")
    return file.getvalue()


def save_curves(folder: Path, title: str) -> list[Path]:
    """Write ``loss`` and ``training`` as svg and png from the folder's ``metrics.jsonl``."""
    metrics = read_metrics(folder / "metrics.jsonl")
    paths = []
    with _any_title():
        for name, draw in (("loss", loss_curve), ("training", training_curves)):
            figure = draw(metrics, title)
            for kind in ("svg", "png"):
                paths.append(folder / f"{name}.{kind}")
                figure.savefig(paths[-1])
                figure.set_layout_engine("none")  # what was laid out for one file does for both
    return paths


@contextmanager
def _any_title() -> Iterator[None]:
    """A folder's name may have characters that the font does not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        yield
