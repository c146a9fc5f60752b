"""What the user sees of a run: lines, a progress bar, and the pictures at the end."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorgrad
from tensorgrad import graph

from . import curves
from .callbacks import Callback, Metrics, Result
from .config import GPTConfig
from .costs import peak_memory
from .folder import BEST, CHECKPOINT, METRICS, PREVIOUS, SAMPLE, SUMMARY
from .model import GPT, Block
from .tensorboard import FOLDER as TENSORBOARD

if TYPE_CHECKING:
    from .train import Trainer

COLUMNS = "TENSORGRAD_COLUMNS"  # says to workers that somebody looks, and how wide his terminal is


class Report(Callback):
    """Tells the user how a run goes and what has come of it, through the trainer's ``say``."""

    def on_train_begin(self, trainer: Trainer) -> None:
        c, m = trainer.config, trainer.model_config
        trainer.say(
            f"{trainer.model.parameter_count():,} parameters: layers {m.layers}, heads {m.heads}, "
            f"width {m.width}, context {m.context}, vocabulary {m.vocab_size:,}\n"
            f"{trainer.tokens:,} tokens of {trainer.characters / trainer.tokens:.1f} characters "
            f"({trainer.tokenizer.name}) from {c.data or 'the Python language reference'}"
        )
        trainer.say(
            "losses are in nats per token, the lower the better; guessing would be "
            f"{math.log(m.vocab_size):.2f}"
        )
        if c.warmup >= c.steps > 1:
            trainer.say(
                f"the learning rate will not get to {c.lr:g}: --warmup {c.warmup:,} takes all of "
                f"--steps {c.steps:,}"
            )
        if c.recompute:
            trainer.say(memory_saved(trainer.model, c.batch))
        self.bar = progress(trainer.step, c.steps)

    def on_step_end(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        loss, rate = metrics["loss"], metrics["tokens_per_second"]
        self.bar.set_description_str(f"loss {loss:.3f}, {rate:,.0f} tokens/s", False)
        self.bar.update(1)

    def on_evaluation(self, trainer: Trainer, step: int, metrics: Metrics) -> None:
        with self.bar.external_write_mode():
            trainer.say(
                f"step {step:>6,}   train loss {metrics['train_loss']:.4f}   "
                f"val loss {metrics['val_loss']:.4f}   {metrics['tokens_per_second']:>8,.0f} "
                f"tokens/s   {metrics['seconds']:>5.0f} s"
            )

    def on_train_end(self, trainer: Trainer, result: Result) -> None:
        self.close()
        if result.reason == "interrupted":
            trainer.say(
                f"stopped after step {result.step:,} of {trainer.config.steps:,}; "
                f"saved {trainer.out / CHECKPOINT}"
            )
            trainer.say(f"to go on: {trainer.how_to_go_on}")
        elif result.summary:
            _tell_the_end(trainer, result)

    def close(self) -> None:
        if bar := vars(self).pop("bar", None):
            bar.close()


def _tell_the_end(trainer: Trainer, result: Result) -> None:
    """Losses, pictures, the sample, and which files there are."""
    out, say, summary = trainer.out, trainer.say, result.summary
    best = summary["best"]
    say(
        f"validation loss {summary['val_loss']:.4f} over {summary['val_tokens']:,} tokens "
        f"(in the lines above: over {trainer.config.eval_batches} random batches)"
    )
    if result.reason == "patience":
        since = trainer.patience.since
        say(
            f"stopped early after step {result.step:,}: the {since} evaluation{'s' * (since > 1)} "
            f"since step {best['step']:,} found no better loss than {best['val_loss']:.4f}; "
            f"its weights are in {out / BEST}"
        )
    if result.reason == "stop":
        say(f"stopped by a callback after step {result.step:,} of {trainer.config.steps:,}")
    title = f"{out.resolve().name}: {result.model.parameter_count():,} parameters"
    config = trainer.model_config
    pictures, advice = draw(out, title, config) if trainer.config.pictures else ([], [])
    names = (CHECKPOINT, PREVIOUS, BEST, METRICS, SUMMARY, TENSORBOARD)
    written = [*(out / name for name in names if (out / name).exists()), *pictures]
    heading = " sample "
    if summary["sample_step"] != result.step:
        heading = f" sample of the best weights, those of step {summary['sample_step']:,} "
    say(f"\n{heading:-^80}\n{printable(result.sample)}\n{'-' * 80}")
    say(f"wrote {out}: {', '.join(p.name for p in written)}, {SAMPLE}")
    for line in advice:
        say(line)


def memory_saved(model: GPT, batch: int) -> str:
    """What --recompute saves, measured."""
    less, more = (peak_memory(model, batch, on) / 2**20 for on in (True, False))
    saved = f"{1 - less / more:.0%} saved" if less < more else "the model is too small to save any"
    return (
        f"recompute: a batch takes {less:,.1f} MiB beside the weights, without it {more:,.1f} "
        f"MiB: {saved} (peaks measured with tracemalloc)"
    )


def say_at_once(line: str) -> None:
    """Print a line that is read while the program goes on."""
    print(line, flush=True)


class _Unseen:
    """A progress bar that nobody sees."""

    def set_description_str(self, text: str, refresh: bool) -> None:
        pass

    def update(self, steps: int) -> None:
        pass

    def external_write_mode(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        pass


def progress(done: int, total: int) -> Any:
    """A progress bar, shown on terminals only."""
    if COLUMNS not in os.environ and not sys.stderr.isatty():
        return _Unseen()  # tqdm's would be as silent, and takes longer to be imported

    from tqdm import tqdm

    where: dict[str, Any] = {"disable": None, "dynamic_ncols": True}
    if columns := os.environ.get(COLUMNS):  # in the stream of the lines, which keeps the order
        where = {"disable": False, "ncols": int(columns), "file": sys.stdout}
    return tqdm(
        initial=done,
        total=total,
        **where,
        leave=False,
        desc="starting",
        bar_format="{percentage:3.0f}% |{bar:30}| {n:,}/{total:,} steps, {remaining} left, {desc}",
    )


@contextmanager
def count_up(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """Gives a function to be told how many more are done; a bar, shown on terminals only."""
    from tqdm import tqdm

    with tqdm(total=total, disable=None, dynamic_ncols=True, leave=False, unit=f" {unit}") as bar:
        yield bar.update


def printable(text: str) -> str:
    """Text without the control characters that do things to a terminal."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c
        for c in text.replace("\r\n", "\n")
    )


def draw(out: Path, title: str, config: GPTConfig) -> tuple[list[Path], list[str]]:
    """Draw the pictures of a run: the paths written, and what to install for those missing."""
    written, advice = [], []
    try:
        if len(curves.read_metrics(out / METRICS)) > 1:  # one point is no curve
            written += curves.save_curves(out, title)
    except ImportError as missing:
        advice.append(str(missing))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        written.append(draw_block(config, out / "block.svg"))
    return written, advice + [str(w.message) for w in caught]


def draw_block(config: GPTConfig, path: Path) -> Path:
    """Draw every operation of one transformer block; returns the path written."""
    block = Block(dataclasses.replace(config, dropout=0.0))
    run = graph.trace(block, tensorgrad.zeros(1, config.context, config.width), values=False)
    return Path(graph.render(graph.draw(run, title="One block of the GPT"), path))
