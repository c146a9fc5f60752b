"""``python -m gpt eval``: how well a trained model predicts a text."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from .. import corpus, trained
from ..evaluation import STRETCHES, Evaluation, evaluate
from ..reporting import count_up
from ..trained import Trained
from .flags import path

DESCRIPTION = """\
Tell how well a trained model predicts a text: its loss, perplexity and bits per
byte, each with its standard error.

    python -m gpt eval runs/default
    python -m gpt eval runs/default/best.safetensors --data other.txt

Without --data the text is the run's own, and of it the part that validates.
"""

EPILOG = """\
what is measured:
  Every token of the text but the first is predicted once. The model looks back
  at its context at most, so the text is read in windows. Half a context apart,
  as without --stride, each token is predicted from half a context or more (but
  for the beginning of the text); 1 apart, from all of it, which takes longer.
  As far apart as the context is long, the windows lie side by side and begin
  with nothing to look back at: so `train` measures at its end.

  Bits per byte count the bytes of the text in UTF-8, so that they compare
  models with different tokenizers; losses per token and perplexities do not.

  The standard error tells how the number would scatter on other texts of this
  kind and length, not how much another training would change it.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.usage = "%(prog)s RUN [--data PATH] [--split PART] [FLAG ...]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "run", type=path, metavar="RUN", help="folder of a run, or a checkpoint file in one"
    )
    parser.add_argument(
        "--data", metavar="PATH", help="UTF-8 text (also .gz), lines of JSON (.jsonl), a folder of "
        "these, or one that `prepare` has made [the run's]"
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("train", "val", "all"), help="the part of the text that training would "
        "learn from, the one that would validate, or both [val; of --data that is not prepared: "
        "all]"
    )  # fmt: skip
    parser.add_argument(
        "--stride", type=int, metavar="N", help="tokens between windows, see below [half of the "
        "context]"
    )  # fmt: skip
    parser.add_argument(
        "--best", action="store_true", help="with the weights of the best validation loss"
    )


def run(given: dict[str, Any]) -> int:
    """Evaluate, and print what came out of it."""
    data, split, stride = given["data"], given["split"], given["stride"]
    model = trained.load(given["run"], given["best"])
    context = model.config.context
    if stride is not None and not 1 <= stride <= context:
        raise ValueError(f"stride must be from 1 to the context, {context}, not {stride}")
    stride = max(1, context // 2) if stride is None else stride
    if split is None:
        split = "all" if data is not None and not corpus.is_prepared(data) else "val"
    tokens, warning = tokens_of(model, data, split)
    for line in filter(None, (model.problem, warning)):
        print(line, file=sys.stderr)
    with count_up(len(tokens) - 1, "tokens") as progress:
        result = evaluate(model.model, model.tokenizer, tokens, stride, progress)
    text = data or model.config.data or "the Python language reference"
    part = {"train": "the training split of ", "val": "the validation split of ", "all": ""}[split]
    print(f"{model.path}, step {model.step:,}, on {part}{text}")
    for line in described(result, context, stride):
        print(line)
    return 0


def tokens_of(model: Trained, data: str | None, split: str) -> tuple[Any, str]:
    """The tokens to predict, and what the user has to know of them: nothing, as a rule."""
    config, coder = model.config, model.tokenizer
    path = config.data if data is None else data
    if split == "all":
        if path is not None and corpus.is_prepared(path):
            raise ValueError(f"{path} is prepared in two parts: give --split train or val")
        source, facts = corpus.source_of(path), corpus.Facts()
        arrays = [ids for _, ids in corpus.tokenise(source, coder, "position", 0.0, facts)]
        tokens: Any = np.concatenate(arrays)
    else:
        found = corpus.load(path, config.tokenizer, config.vocab_size, coder)
        tokens, facts = (found.train if split == "train" else found.val), found.facts
    if len(tokens) < 2:
        raise ValueError(
            f"there are {len(tokens)} tokens to evaluate on, and two are needed, to predict one: "
            "choose another --split, or --data with more text"
        )
    if data is None and model.text not in (None, facts.crc):
        return tokens, (
            "the text is not the one that the run has learnt from: what validates now may have "
            "been learnt then"
        )
    return tokens, ""


def described(result: Evaluation, context: int, stride: int) -> list[str]:
    """Lines for the user."""
    error, byte = result.error, result.bits_per_nat
    stretches = f"over {min(STRETCHES, result.tokens // 2)} stretches of the text"
    return [
        f"loss           {result.loss:9.4f} ± {error:.4f} nats per token",
        f"perplexity     {result.perplexity:9.3f} ± {result.perplexity * error:.3f}",
        f"bits per byte  {result.bits_per_byte:9.4f} ± {error * byte:.4f}",
        f"{result.tokens:,} tokens of {result.bytes:,} bytes; ± is the standard error, {stretches}",
        f"windows of {context} tokens, {stride} apart: a token was predicted from "
        f"{result.mean_context:,.1f} tokens on average, and {result.short:,} "
        f"({result.short / result.tokens:.1%}) from fewer than {context / 2:g}",
    ]
