"""A model that was trained: its weights, its tokenizer and its choices, read back from its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from . import checkpoint, folder, tokenizer
from .model import GPT
from .presets import RunConfig
from .tokenizer import Tokenizer

SUFFIX = Path(folder.CHECKPOINT).suffix


class Trained(NamedTuple):
    """What is needed to work with a model."""

    config: RunConfig
    model: GPT
    tokenizer: Tokenizer
    path: Path  # of the checkpoint
    header: dict[str, Any]
    problem: str  # what was wrong with the checkpoint that should have been read; mostly nothing

    @property
    def step(self) -> int:
        """The step that the weights are of."""
        return int(self.header["facts"]["step"])

    @property
    def text(self) -> int | None:
        """The CRC-32 of the tokens that the run learnt from, if it is known."""
        return self.header["facts"].get("text")


def load(where: Path, best: bool = False) -> Trained:
    """The model of a run.

    Args:
        where: the folder of a run: its last checkpoint, or the one before if that is damaged; or a
            checkpoint file in such a folder.
        best: the weights of the best validation loss.

    Raises:
        OSError, ValueError: one sentence that says what is missing, damaged or does not fit.
    """
    out, names = where, [folder.BEST] if best else [folder.CHECKPOINT, folder.PREVIOUS]
    if where.suffix == SUFFIX and not where.is_dir():
        if best:
            raise ValueError(f"{where} is one checkpoint: leave out --best, or name its folder")
        out, names = where.parent, [where.name]
    config, model_config = folder.read_config(out)
    model, headers = GPT(model_config), []

    def restore(path: Path) -> None:
        header, arrays = checkpoint.read(path)
        checkpoint.restore_model(model, header, arrays, path)
        headers.append(header)

    path, bad = checkpoint.restore_first([out / name for name in names], restore)
    coder = tokenizer.load(out / folder.TOKENIZER)
    problem = f"{bad}; taking {path.name} instead" if bad else ""
    return Trained(config, model, coder, path, headers[-1], problem)
