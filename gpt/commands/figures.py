"""``python -m gpt figures``: every picture of a trained model, from the folder of its run."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import canvas, checkpoint, corpus, curves, data, folder, tokenizer, train
from ..figures import (
    attention_maps,
    embedding_map,
    embedding_neighbours,
    gradient_flow,
    last_update,
    logit_lens,
    loss_landscape,
    position_table,
    update_histograms,
    weight_histograms,
)
from ..figures.labels import read
from ..model import GPT
from ..presets import RunConfig
from .flags import path

PANELS = 36  # maps of attention in one file; with more heads every layer has a file
BATCH = 512  # tokens that the loss is of, in windows as long as the context; one at least
TOKENS = 4000  # of the validation text: the map names the frequent ones, the others cut more

DESCRIPTION = """\
Write the pictures of a trained model: who attends to whom, how it tells
positions, which tokens are alike, what each layer would predict, how gradients
flow, weights and their last update, the loss around the weights.

    python -m gpt figures runs/default
    python -m gpt figures runs/default/best.safetensors --text "To be or not"
    python -m gpt figures runs/default --only attention --only lens --format png
"""


@dataclass
class Subject:
    """A trained model, and what its pictures are about."""

    out: Path  # the folder of the run
    path: Path  # the checkpoint
    config: RunConfig
    model: GPT
    coder: tokenizer.Tokenizer
    header: dict[str, Any]
    arrays: dict[str, Any]
    tokens: Sequence[int]
    batch: tuple[Any, Any]
    batch_name: str
    points: int


Pictures = Iterator[tuple[str, Any]]


def _attention(s: Subject) -> Pictures:
    layers = s.model.config.layers
    if layers * s.model.config.heads <= PANELS:
        yield "attention", attention_maps(s.model, s.coder, s.tokens)
        return
    for layer in range(layers):
        name = f"attention-layer{layer:0{len(str(layers - 1))}}"
        yield name, attention_maps(s.model, s.coder, s.tokens, [layer])


def _positions(s: Subject) -> Pictures:
    yield "positions", position_table(s.model)


def _neighbours(s: Subject) -> Pictures:
    yield "neighbours", embedding_neighbours(s.model, s.coder, s.tokens)


def _map(s: Subject) -> Pictures:
    yield "map", embedding_map(s.model, s.coder, s.tokens)


def _lens(s: Subject) -> Pictures:
    yield "lens", logit_lens(s.model, s.coder, s.tokens)


def _gradients(s: Subject) -> Pictures:
    metrics = curves.read_metrics(s.out / folder.METRICS)
    yield "gradients", gradient_flow(metrics, s.model, s.batch)


def _weights(s: Subject) -> Pictures:
    yield "weights", weight_histograms(s.model)


def _updates(s: Subject) -> Pictures:
    try:
        optimizer = train.adamw(s.model, s.config)
        checkpoint.restore_optimizer(optimizer, s.header, s.arrays)
        lr = s.config.lr * train.rate_factor(s.config)(int(s.header["facts"]["step"]) - 1)
        updates = last_update(s.model, optimizer, lr)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        print(f"no picture of updates: {s.path} does not tell the last one ({error})", flush=True)
        return
    yield "updates", update_histograms(s.model, updates)


def _landscape(s: Subject) -> Pictures:
    yield "landscape", loss_landscape(s.model, s.batch, s.points, what=s.batch_name)


FIGURES: dict[str, Callable[[Subject], Pictures]] = {
    "attention": _attention, "positions": _positions, "neighbours": _neighbours, "map": _map,
    "lens": _lens, "gradients": _gradients, "weights": _weights, "updates": _updates,
    "landscape": _landscape,
}  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "run", type=path, metavar="PATH", help="the folder of a run, or a checkpoint in it"
    )
    parser.add_argument(
        "--out", type=path, metavar="DIR", help="folder of the pictures [figures in the run's]"
    )
    parser.add_argument(
        "--text", metavar="TEXT", help="what the model reads [how the validation text begins]"
    )
    parser.add_argument("--file", metavar="FILE", help="take that text from a UTF-8 file")
    parser.add_argument(
        "--only", choices=FIGURES, action="append", metavar="NAME",
        help=f"one of {', '.join(FIGURES)}; can be repeated [all]",
    )  # fmt: skip
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="[svg]")
    parser.add_argument(
        "--points", type=int, default=15, metavar="N",
        help="on each axis of the landscape, whose loss is computed N² times; odd [15]",
    )  # fmt: skip


def run(given: dict[str, Any]) -> int:
    """Write the pictures of the run in PATH."""
    try:
        canvas.blank(1, 1)
    except ImportError as missing:
        raise RuntimeError(str(missing)) from None
    if given["points"] < 3 or given["points"] % 2 == 0:
        raise ValueError(f"points must be odd and at least 3, not {given['points']}")
    subject = _subject(given)
    out = given["out"] or subject.out / "figures"
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"cannot write to the folder {out} ({error.strerror or error}): "
            "choose another with --out"
        ) from None
    try:
        for kind in given["only"] or FIGURES:
            for name, figure in FIGURES[kind](subject):
                path = out / f"{name}.{given['format']}"
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Glyph")  # a token may be beyond the font
                    figure.savefig(path)
                print(path, flush=True)
    finally:
        if new and not any(out.iterdir()):
            out.rmdir()
    return 0


def _subject(given: dict[str, Any]) -> Subject:
    """The model of a run and a text for it, or one sentence why there is none."""
    path = given["run"]
    if path.is_dir():
        out, paths = path, [path / folder.CHECKPOINT, path / folder.PREVIOUS]
    elif path.exists():
        out, paths = path.parent, [path]
    else:
        raise FileNotFoundError(f"there is no {path}: name the folder of a run or its checkpoint")
    config, model_config = folder.read_config(out)
    coder = tokenizer.load(out / folder.TOKENIZER)
    model, found = GPT(model_config), {}

    def restore(path: Path) -> None:
        found["header"], found["arrays"] = checkpoint.read(path)
        checkpoint.restore_model(model, found["header"], found["arrays"], path)

    path, bad = checkpoint.restore_first(paths, restore)
    if bad:
        print(f"{bad}; drawing {path.name} instead", flush=True)
    text = _text(given)
    try:
        val = corpus.load(config.data, config.tokenizer, config.vocab_size, coder).val
    except (OSError, ValueError, RuntimeError) as error:
        if text is None:
            raise ValueError(
                f"the text of the run cannot be read ({error}): give another with --text or --file"
            ) from None
        val = np.empty(0, int)
    context = model_config.context
    tokens = (
        coder.encode(text) if text is not None else val[np.arange(min(TOKENS, len(val)))].tolist()
    )
    read(tokens, coder, model)  # complains before anything is drawn
    if len(val) > context:
        x, y = data.windows(val, context, max(1, BATCH // context))
        name = f"{x.size:,} tokens of the validation text"
    else:
        if len(tokens) < 2:
            raise ValueError("the text has one token: for a loss give a longer one")
        x, y = data.windows(tokens, min(context, len(tokens) - 1), 1)
        name = f"{x.size:,} tokens of the given text"
    return Subject(out, path, config, model, coder, **found, tokens=tokens,
                   batch=(x, y), batch_name=name, points=given["points"])  # fmt: skip


def _text(given: dict[str, Any]) -> str | None:
    if given["text"] is not None and given["file"] is not None:
        raise ValueError("--text and --file are two texts: leave one out")
    return data.read_text(given["file"]) if given["file"] is not None else given["text"]
