"""The metrics of a run as TensorBoard reads them: written by tensorboardX (extra ``tensorboard``).

The program ``tensorboard --logdir runs`` shows them; it is not needed to write them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .callbacks import Callback, Metrics

if TYPE_CHECKING:
    from .train import Trainer

FOLDER = "tensorboard"


class TensorBoard(Callback):
    """Writes losses, learning rate, norms of gradients and speed as scalars.

    What a resumed run does again replaces what was there of it.

    Args:
        folder: for the files; ``tensorboard`` in that of the run.
        every: so many steps apart are the loss of the step, the rate and the norm of all gradients;
            the others are written at evaluations.

    Raises:
        ImportError: tensorboardX is not installed; the sentence says how to get it.
    """

    first_only = True

    def __init__(self, folder: str | Path | None = None, every: int = 10) -> None:
        self.folder, self.every = folder, every
        self._new_writer = _writer_class()
        self._writer: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        self._writer = self._new_writer(
            str(self.folder or trainer.out / FOLDER),
            purge_step=trainer.step + 1 if trainer.step else None,
            filename_suffix=f".{trainer.step}",  # two files of one second must not be one
        )

    def on_step_end(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        if step % self.every == 0:
            self._writer.add_scalar("loss/step", metrics["loss"], step)
            self._writer.add_scalar("lr", metrics["lr"], step)
            self._writer.add_scalar("gradients/all", metrics["grad_norm"], step)

    def on_evaluation(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        self._writer.add_scalar("loss/train", metrics["train_loss"], step)
        self._writer.add_scalar("loss/val", metrics["val_loss"], step)
        self._writer.add_scalar("tokens_per_second", metrics["tokens_per_second"], step)
        for layer, norm in metrics["grad_norms"].items():
            self._writer.add_scalar(f"gradients/{layer}", norm, step)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _writer_class() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError(
            "TensorBoard's files need tensorboardX: pip install tensorboardX"
        ) from None
    return SummaryWriter
