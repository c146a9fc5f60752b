"""The loss of a run as a picture that grows while it trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import checkpoint, curves
from .callbacks import Callback, Metrics, Result

if TYPE_CHECKING:
    from .train import Trainer

PICTURE = "loss.png"
MOST = 1000  # points of the line that has one for each step
SHARE = 1 / 20  # of the time, at most, is spent on drawing


class LivePlot(Callback):
    """Draws the losses while they come: in Jupyter one figure, in its place; elsewhere the run's
    file ``loss.png``, which many viewers show anew when it changes. Of several workers the first
    draws.

    Args:
        seconds: at least so long between two drawings; longer where drawing is slow.

    Raises:
        ImportError: matplotlib is not installed; the sentence says how to get it.
    """

    first_only = True

    def __init__(self, seconds: float = 2.0) -> None:
        self.seconds = seconds

    def on_train_begin(self, trainer: Trainer) -> None:
        self._losses: list[tuple[int, float]] = []
        self._display = notebook_display()
        self._handle: Any = None
        self._wait_until = 0.0
        self._draw(trainer)  # without matplotlib, this fails before the first step

    def on_step_end(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        self._losses.append((step, metrics["loss"]))
        if time.monotonic() >= self._wait_until:
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, result: Result) -> None:
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        start = time.monotonic()
        title = f"{trainer.out.name}: step {trainer.step:,} of {trainer.config.steps:,}"
        thinned = self._losses[:: 1 + len(self._losses) // MOST]
        content = curves.png(curves.loss_curve(trainer.metrics, title, thinned))
        if self._display is None:
            checkpoint.replace({trainer.out / PICTURE: content})
        elif self._handle is None:
            self._handle = self._display(Png(content), display_id=True)
        else:
            self._handle.update(Png(content))
        end = time.monotonic()
        self._wait_until = end + max(self.seconds, (end - start) / SHARE)


class Png:
    """A picture that Jupyter shows."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def _repr_png_(self) -> bytes:
        return self.content


def notebook_display() -> Callable[..., Any] | None:
    """IPython's ``display`` in a Jupyter kernel, which can update what it shows; None elsewhere."""
    if "IPython" not in sys.modules:  # a kernel has imported it
        return None
    from IPython import get_ipython
    from IPython.display import display

    return display if hasattr(get_ipython(), "kernel") else None
