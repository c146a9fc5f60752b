"""The events of a run, how to listen to them, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .model import GPT

if TYPE_CHECKING:
    from .train import Trainer

Metrics = dict[str, Any]
Function = Callable[["Trainer", int, Metrics], Any]


class Callback:
    """Listens to a run: a subclass overrides the events that it wants to know of.

    Each gets the trainer, with its ``model``, ``step``, ``metrics``, ``sample()``, and ``stop()``,
    which ends the run after the step. A callback can evaluate, write and differentiate as it likes:
    random states and gradients are put back, and the run computes the same numbers, to the bit, as
    without it. (What it does to the weights stays.) If it raises an error, the step that is done is
    saved (unless ``shard_optimizer`` has divided what there is to save), and the run ends with that
    error.

    Of several workers, each calls its own callbacks: what they compute, all do alike, and a weight
    that they change has to change in all. One that writes a file or draws has ``first_only = True``
    and is called by the first worker alone; it must not call what all have to do together, as
    ``trainer.evaluate()``. A function can ask whether it is in the ``trainer.workers.first``.
    """

    first_only = False

    def on_train_begin(self, trainer: Trainer) -> None:
        """Before the first step of this start or resumption."""

    def on_step_end(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        """After each step, and its evaluation where one is due: ``loss``, ``lr``, ``grad_norm``
        (before clipping) and ``tokens_per_second`` (the mean since the previous evaluation).
        """

    def on_evaluation(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        """After an evaluation, with what is new in ``metrics.jsonl``."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint, the last or the best one, has been written."""

    def on_train_end(self, trainer: Trainer, result: Result) -> None:
        """When no more step follows: the last one is done, or ``result.reason`` says why."""

    def close(self) -> None:
        """The run is over, perhaps by an error: the place to let go of files and the like."""

    def __repr__(self) -> str:
        return type(self).__name__


class OnStepEnd(Callback):
    """A function as a callback: it is called after each step."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def on_step_end(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        self.function(trainer, step, metrics)

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


class Callbacks:
    """The callbacks of a run: the trainer's own, then those that were given; functions, too.

    Args:
        first: whether this is the first worker, which calls also those that it alone calls.

    >>> Callbacks([], [print]).given
    [print]
    """

    def __init__(
        self, own: list[Callback], given: Iterable[Callback | Function], first: bool = True
    ) -> None:
        listeners = [_listener(one) for one in given]
        self.own, self.given = own, [one for one in listeners if first or not one.first_only]
        self.failed = ""  # which one of those that were given, and where

    def tell(self, trainer: Trainer, event: str, *arguments: Any) -> None:
        for callback in (*self.own, *self.given):
            try:
                getattr(callback, event)(trainer, *arguments)
            except Exception:
                if callback in self.given:
                    self.failed = f"the callback {callback} has failed in {event}"
                raise

    def close(self) -> None:
        for callback in (*self.own, *self.given):
            callback.close()


def _listener(one: Any) -> Callback:
    if isinstance(one, Callback):
        return one
    if isinstance(one, type):
        raise TypeError(f"{one.__name__} is a class: pass an object of it, {one.__name__}()")
    if not callable(one):
        raise TypeError(f"{one!r} is neither a Callback nor a function")
    return OnStepEnd(one)


@dataclass(repr=False)
class Result:
    """What a run has come to."""

    folder: Path
    model: GPT  # with the last weights; the best ones are in the folder
    step: int
    reason: str  # of the end: "steps", "patience", "stop" (a callback) or "interrupted" (a signal)
    metrics: list[Metrics]  # the objects of metrics.jsonl
    summary: dict[str, Any]  # that of summary.json; empty if the run was interrupted
    sample: str  # empty as well

    @property
    def losses(self) -> dict[str, list[float]]:
        """The columns ``step``, ``train`` and ``val`` of the metrics, to be plotted."""
        columns = {"step": "step", "train": "train_loss", "val": "val_loss"}
        return {name: [m[key] for m in self.metrics] for name, key in columns.items()}

    def __repr__(self) -> str:
        loss = self.summary.get("val_loss")
        return f"Result({self.folder}: {self.reason} at step {self.step:,}" + (
            ")" if loss is None else f", validation loss {loss:.4f})"
        )
