"""How the next token is chosen: logits [V] pass a chain of small functions, then one is drawn.

The order is Hugging Face's: logit bias, repetition penalty, temperature, top-k, top-p, min-p. Each
function returns another array, in float64; a token that is ruled out gets -inf.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from tensorgrad import Generator, default_generator

Array = np.ndarray


def add_bias(logits: Array, bias: Mapping[int, float]) -> Array:
    """Add to the logits of single tokens; -inf forbids one.

    Raises:
        ValueError: a token is not in the vocabulary.
    """
    if unknown := [token for token in bias if not 0 <= token < len(logits)]:
        raise ValueError(
            f"logit_bias names the token {unknown[0]}, and there are the tokens 0 to "
            f"{len(logits) - 1}"
        )
    biased = logits.copy()
    for token, value in bias.items():
        biased[token] += value
    return biased


def penalise_repetition(logits: Array, seen: Collection[int], penalty: float) -> Array:
    """Make the tokens of the text so far less likely (Keskar et al. 2019, section 4.1).

    A positive logit is divided by the penalty. A negative one is multiplied by it, as Hugging Face
    does: the paper divides these too, which would make such a token more likely.
    """
    tokens = list(set(seen))
    penalised, theirs = logits.copy(), logits[tokens]
    penalised[tokens] = np.where(theirs < 0, theirs * penalty, theirs / penalty)
    return penalised


def heat(logits: Array, temperature: float) -> Array:
    """Differences to the largest, divided by the temperature: small ones do not overflow."""
    with np.errstate(over="ignore"):  # to -inf, the limit of a vanishing probability
        return (logits - logits.max()) / temperature


def keep_top_k(logits: Array, k: int) -> Array:
    """The k largest and no more: of equal ones those with the smallest index."""
    if k >= len(logits):
        return logits
    kth = np.partition(logits, -k)[-k]
    larger, equal = logits > kth, np.flatnonzero(logits == kth)
    kept = np.where(larger, logits, -np.inf)
    kept[equal[: k - np.count_nonzero(larger)]] = kth
    return kept


def keep_top_p(logits: Array, p: float) -> Array:
    """The nucleus: the fewest tokens whose probabilities add up to p (Holtzman et al. 2020, eq. 2).

    The one that reaches p belongs to it; of equal tokens those with the smallest index come first.
    """
    order = np.argsort(-logits, kind="stable")
    probabilities = softmax(logits)[order]
    before = np.cumsum(probabilities) - probabilities  # what the likelier ones have already
    kept = logits.copy()
    kept[order[np.flatnonzero(before >= p)]] = -np.inf
    return kept


def keep_min_p(logits: Array, p: float) -> Array:
    """Tokens at least p times as likely as the likeliest (Nguyen et al. 2024)."""
    return np.where(logits >= logits.max() + math.log(p), logits, -np.inf)


def softmax(logits: Array) -> Array:
    """Probabilities of the logits."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def log_softmax(logits: Array) -> Array:
    """Their logarithms, in float64."""
    shifted = logits - np.float64(logits.max())
    return shifted - np.log(np.exp(shifted).sum())


@dataclass(frozen=True)
class Sampling:
    """What can be chosen; what is left out changes nothing.

    Args:
        temperature: divides the logits; below 1 bolder, above 1 more varied, 0 the likeliest.
        top_k: draw from the k likeliest tokens only.
        top_p: draw from the likeliest tokens that have this probability together.
        min_p: draw from the tokens that are at least so many times as likely as the likeliest.
        repetition_penalty: above 1, tokens of the text so far, prompt included, are less likely.
        logit_bias: what to add to the logits of single tokens; -inf forbids one.

    Raises:
        ValueError: a choice is out of range; the sentence says which.

    >>> Sampling(temperature=0, logit_bias={2: -5.0}).draw(np.array([0.0, 1.0, 3.0]))
    1
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:  # nan is neither
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be from 0 to 1, got {self.min_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(
                "repetition_penalty must be above 0 (1 changes nothing), "
                f"got {self.repetition_penalty}"
            )
        for token, value in (self.logit_bias or {}).items():
            if not value < math.inf:
                raise ValueError(
                    f"logit_bias of the token {token} must be a number or -inf, got {value}"
                )

    def check(self, vocab_size: int) -> None:
        """ValueError if the bias does not fit the vocabulary."""
        self.scores(np.zeros(vocab_size))

    def scores(self, logits: Array, seen: Collection[int] = ()) -> Array:
        """The logits [V] with bias and penalty, in float64; ``seen`` are the text's tokens.

        Raises:
            ValueError: the bias names a token that there is not, or forbids all.
            RuntimeError: the logits are nan or infinite.
        """
        scores = logits.astype(np.float64)
        if not np.isfinite(scores.max()):  # nan, too
            raise RuntimeError("the model's logits are not finite numbers: its weights are broken")
        if self.logit_bias:
            scores = add_bias(scores, self.logit_bias)
            if scores.max() == -np.inf:
                raise ValueError("logit_bias forbids every token")
        if self.repetition_penalty != 1:
            scores = penalise_repetition(scores, seen, self.repetition_penalty)
        return scores

    def probabilities(self, logits: Array, seen: Collection[int] = ()) -> Array:
        """What each token is drawn with: [V], in float64."""
        scores = self.scores(logits, seen)
        if self.temperature == 0:
            return np.eye(1, len(scores), int(scores.argmax()))[0]
        scores = heat(scores, self.temperature)
        if self.top_k is not None:
            scores = keep_top_k(scores, self.top_k)
        if self.top_p is not None and self.top_p < 1:
            scores = keep_top_p(scores, self.top_p)
        if self.min_p:
            scores = keep_min_p(scores, self.min_p)
        return softmax(scores)

    def draw(
        self, logits: Array, seen: Collection[int] = (), generator: Generator = default_generator
    ) -> int:
        """One token; temperature 0 draws nothing from the generator, everything else one number."""
        if self.temperature == 0:
            return int(self.scores(logits, seen).argmax())
        cumulated = np.cumsum(self.probabilities(logits, seen))
        cumulated /= cumulated[-1]
        # The first token whose sum is above a number from [0, 1): never one of probability 0.
        return int(np.searchsorted(cumulated, generator.rng.random(), side="right"))
