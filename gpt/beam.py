"""Beam search: the likeliest continuation, looked for among the best few of each length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .generate import evaluating
from .model import GPT
from .prefixes import Prefixes
from .sampling import log_softmax


class Hypothesis(NamedTuple):
    """A continuation with the log-probability of each of its tokens, and what it is ranked by."""

    tokens: list[int]
    logprobs: list[float]
    score: float


def length_norm(length: int, alpha: float) -> float:
    """What a log-probability is divided by: ((5 + length) / 6)^alpha (Wu et al. 2016, eq. 14)."""
    return ((5 + length) / 6) ** alpha


def beam_search(
    model: GPT,
    tokens: Sequence[int],
    max_new_tokens: int,
    beams: int = 4,
    length_penalty: float = 0.6,
    *,
    ends: Callable[[list[int]], bool] = lambda tokens: False,
    cache: bool = True,
) -> list[Hypothesis]:
    """The best continuations of ``tokens`` that were found, from the best; at most ``beams``.

    In every step each of the kept texts is continued by every token, and the ``beams`` likeliest
    results are kept. A text that ends is set aside, if it is among them; the search is over when
    nothing that still goes on can become better than those.

    Args:
        beams: 1 is greedy; as many as there are texts finds the best of all.
        length_penalty: the exponent by which longer texts are forgiven their lower probability:
            0 not at all, 1 nearly as much as a mean over the tokens does.
        ends: whether a continuation is complete; by default they all have ``max_new_tokens``.
        cache: as in :func:`generate`.

    >>> from gpt.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=5, context=4, width=8, layers=1, heads=2))
    >>> best, second = beam_search(model, [1, 2], 3, beams=2)
    >>> best.score >= second.score
    True
    """
    if beams < 1:
        raise ValueError(f"beams must be at least 1, got {beams}")
    if not 0 <= length_penalty < math.inf:
        raise ValueError(f"length_penalty must not be negative, got {length_penalty}")

    def hypothesis(tokens: list[int], logprobs: list[float]) -> Hypothesis:
        return Hypothesis(
            tokens, logprobs, sum(logprobs) / length_norm(len(tokens), length_penalty)
        )

    texts = Prefixes(model, [tokens], max_new_tokens, cache)
    live = [hypothesis([], [])]
    complete: list[Hypothesis] = []
    longest = length_norm(max_new_tokens, length_penalty)
    with evaluating(model):
        for _ in range(max_new_tokens):
            logprobs = np.stack([log_softmax(row) for row in texts.logits()])  # [live, V]
            totals = logprobs + np.array([[sum(text.logprobs)] for text in live])
            found: list[Hypothesis] = []
            parents = []
            best = np.argsort(-totals, axis=None, kind="stable")
            for place, flat in enumerate(best[: 2 * beams]):  # so many, for some may end
                parent, token = divmod(int(flat), totals.shape[1])
                before, logprob = live[parent], float(logprobs[parent, token])
                text = hypothesis([*before.tokens, token], [*before.logprobs, logprob])
                if ends(text.tokens):
                    complete += [text] if place < beams else []
                elif len(found) < beams:
                    found.append(text)
                    parents.append(parent)
            complete = sorted(complete, key=lambda text: -text.score)[:beams]
            live = found
            if not live:
                break
            # Probabilities only fall, and the norm is never larger than at the end.
            hope = max(sum(text.logprobs) for text in live) / longest
            if len(complete) == beams and complete[-1].score >= hope:
                live = []
                break
            texts.select(parents)
            texts.append(text.tokens[-1] for text in live)
    return sorted(complete + live, key=lambda text: -text.score)[:beams]
