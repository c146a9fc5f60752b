"""What the user sees of a run: lines, a progress bar, and the pictures at the end."""

from __future__ import annotations

import dataclasses
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import tensorgrad
from tensorgrad import graph

from . import curves
from .config import GPTConfig
from .folder import METRICS
from .model import Block


def say_at_once(line: str) -> None:
    """Print a line that is read while the program goes on."""
    print(line, flush=True)


def progress(done: int, total: int) -> Any:
    """A progress bar, shown on terminals only."""
    from tqdm import tqdm

    return tqdm(
        initial=done,
        total=total,
        disable=None,
        dynamic_ncols=True,
        leave=False,
        desc="starting",
        bar_format="{percentage:3.0f}% |{bar:30}| {n:,}/{total:,} steps, {remaining} left, {desc}",
    )


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
        if curves.read_metrics(out / METRICS):
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
