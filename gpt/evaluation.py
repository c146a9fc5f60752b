"""How well a model predicts a whole text: loss, perplexity, bits per byte, and how sure they are.

A model sees ``context`` tokens at most, so a longer text is read in windows, ``stride`` tokens
apart. Each window predicts what those before it have not predicted yet: every token of the text but
the first is predicted once. A stride of the context sets the windows side by side: each begins with
nothing to look back at. A smaller one lets them overlap, so that each prediction looks back at
``context - stride`` tokens at least, those at the beginning of the text excepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorgrad
from nn import functional as F

from .config import GPTConfig
from .generate import evaluating
from .model import GPT
from .tokenizer import Tokenizer

STRETCHES = 50  # into which a text is cut for the standard error
LOGITS = 2**24  # at most at a time: 64 MiB
WIDEST = 2**22  # numbers that a layer makes of several batches at a time, at most: 16 MiB


@dataclass(frozen=True)
class Evaluation:
    """What came out of it; losses are in nats.

    Args:
        tokens: how many were predicted.
        bytes: of their text in UTF-8; the tokens between documents have none.
        loss: their mean negative log-likelihood.
        error: the standard error of ``loss``, from the means of stretches of the text, for the
            losses of neighbours depend on each other; nan for a text too short to tell.
        mean_context: how many tokens a prediction looked back at.
        short: how many predictions looked back at less than half of the model's context.
    """

    tokens: int
    bytes: int
    loss: float
    error: float
    mean_context: float
    short: int

    @property
    def perplexity(self) -> float:
        """exp(loss): the tokens that it is as if one had to choose among."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """What each byte of the text costs: it compares models with different tokenizers."""
        return self.loss * self.bits_per_nat if self.bytes else math.nan

    @property
    def bits_per_nat(self) -> float:
        """The factor from nats per token to bits per byte of this text."""
        return self.tokens / self.bytes / math.log(2) if self.bytes else math.nan


def window_starts(predictions: int, context: int, stride: int) -> np.ndarray:
    """Where the windows of a text begin, of so many tokens that have one before them.

    >>> window_starts(10, context=4, stride=3).tolist()
    [0, 3, 6]
    >>> window_starts(11, context=4, stride=3).tolist()  # the last one ends with the text
    [0, 3, 6, 7]
    """
    last = max(predictions - context, 0)
    return np.append(np.arange(0, last, stride), last)


def windows_at_once(config: GPTConfig) -> int:
    """How many whole windows a model should read in one pass that keeps nothing for a backward one.

    More would not be faster: the calls take little of the time then, and every processor has work.
    A batch as large as those that the model learns from is fine in any case.
    """
    return max(1, WIDEST // (max(4 * config.width, config.vocab_size) * config.context))


def token_losses(
    model: GPT, tokens: Any, stride: int, size: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The losses of the tokens of a text in order, from the second, and how far each looked back.

    Args:
        tokens: an array of them, or ``shards.Tokens``.
        size: windows at a time.

    Raises:
        ValueError: fewer than two tokens, a stride that does not fit, or an unknown token.
    """
    config, predictions = model.config, len(tokens) - 1
    if predictions < 1:
        raise ValueError(f"the text has {len(tokens)} tokens: two are needed, to predict one")
    if not 1 <= stride <= config.context:
        raise ValueError(f"stride must be from 1 to the context, {config.context}, not {stride}")
    context = min(config.context, predictions)
    starts = window_starts(predictions, context, stride)
    size = size or max(1, LOGITS // (context * config.vocab_size))
    done = 0
    with evaluating(model), np.errstate(all="ignore"), tensorgrad.no_grad():
        for i in range(0, len(starts), size):
            positions = starts[i : i + size, None] + np.arange(context)  # [windows, context]
            x, y = (np.asarray(tokens[p]).astype(np.int64) for p in (positions, positions + 1))
            if (largest := max(x.max(), y.max())) >= config.vocab_size:
                raise ValueError(
                    f"the text has the token {largest:,}, and the model knows 0 to "
                    f"{config.vocab_size - 1:,}: it cannot predict this text"
                )
            # A window predicts what lies behind the end of the one before it.
            ends = np.append(done, positions[:-1, -1] + 1)
            new = positions >= ends[:, None]
            logits = model(tensorgrad.from_numpy(x)).numpy()[new]  # [new tokens, V]
            losses = F.cross_entropy(
                tensorgrad.from_numpy(logits), tensorgrad.from_numpy(y[new]), reduction="none"
            )
            yield losses.numpy().astype(np.float64), np.nonzero(new)[1] + 1
            done = int(positions[-1, -1]) + 1


def evaluate(
    model: GPT,
    coder: Tokenizer,
    tokens: Any,
    stride: int | None = None,
    progress: Callable[[int], object] = lambda tokens: None,
) -> Evaluation:
    """Evaluate a model on the tokens of a text; what is in memory does not grow with the text.

    Args:
        stride: between windows; None: half of the context.
        progress: is told how many tokens have been predicted since it was last called.

    Raises:
        ValueError: as :func:`token_losses`.
        RuntimeError: a loss is not finite.

    >>> from gpt.config import GPTConfig
    >>> from gpt.tokenizer import CharTokenizer
    >>> model = GPT(GPTConfig(vocab_size=3, context=4, width=8, layers=1, heads=2))
    >>> evaluate(model, CharTokenizer("aé\\n"), np.array([1, 2, 1, 0, 2, 2])).bytes
    8
    """
    half = model.config.context / 2
    predictions, stretches = len(tokens) - 1, min(STRETCHES, (len(tokens) - 1) // 2)
    lengths = np.array([_length(coder, token) for token in range(model.config.vocab_size)])
    sums, counts = np.zeros(max(stretches, 1)), np.zeros(max(stretches, 1))
    done = size = looked_back = short = 0
    stride = max(1, model.config.context // 2) if stride is None else stride
    for losses, contexts in token_losses(model, tokens, stride):
        places = np.arange(done, done + len(losses))
        where = places * len(sums) // predictions
        sums += np.bincount(where, losses, len(sums))
        counts += np.bincount(where, minlength=len(sums))
        size += int(lengths[np.asarray(tokens[places + 1])].sum())
        looked_back += int(contexts.sum())
        short += int((contexts < half).sum())
        done += len(losses)
        progress(len(losses))
    loss = float(sums.sum() / done)
    if not math.isfinite(loss):
        raise RuntimeError("the model's loss is not a finite number: its weights are broken")
    return Evaluation(done, size, loss, _error(sums, counts), looked_back / done, short)


def _error(sums: np.ndarray, counts: np.ndarray) -> float:
    """The standard error of sum(sums) / sum(counts), the stretches being independent draws."""
    n = len(sums)
    if n < 2:
        return math.nan
    deviations = sums - counts * (sums.sum() / counts.sum())
    return float(math.sqrt(n / (n - 1) * (deviations**2).sum()) / counts.sum())


def _length(coder: Tokenizer, token: int) -> int:
    """The bytes of a token's text; one that a tokenizer does not know cannot be in a text."""
    if token >= coder.n_vocab or token == coder.end_of_text:
        return 0
    return len(coder.token_bytes(token))
