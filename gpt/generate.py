"""Writing with a trained model, one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

import nn
from tensorgrad import Generator, default_generator

from .model import GPT
from .prefixes import Prefixes
from .sampling import Sampling, log_softmax


class Drawn(NamedTuple):
    """A token, and the logits [V] that the model had for its place."""

    token: int
    logits: np.ndarray

    @property
    def logprob(self) -> float:
        """The log-probability that the model gave it: before temperature and all other choices."""
        return float(log_softmax(self.logits)[self.token])

    def alternatives(self, n: int) -> list[tuple[int, float]]:
        """The n likeliest tokens of the place with their log-probabilities, from the likeliest."""
        logprobs = log_softmax(self.logits)
        order = np.argsort(-logprobs, kind="stable")[:n]
        return [(int(token), float(logprobs[token])) for token in order]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout; afterwards it is in the mode that it was in.

    One that is in that mode already is not touched: other threads may be using it.
    """
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


def draw(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    generators: Sequence[Generator],
    cache: bool = True,
    ends: Callable[[int, Drawn], bool] = lambda row, drawn: False,
) -> Iterator[dict[int, Drawn]]:
    """Continue several prompts together: for each step yields what was drawn, by row.

    A row has a generator of its own, so that its tokens do not depend on its neighbours; it is left
    out of the steps after the one for which ``ends(row, drawn)`` is true.
    """
    sampling.check(model.config.vocab_size)
    texts = Prefixes(model, prompts, max_new_tokens, cache)
    rows = list(range(len(texts.rows)))  # the prompts that texts.rows continue
    with evaluating(model):
        for _ in range(max_new_tokens):
            if not rows:
                return
            drawn = {}
            for row, text, logits in zip(rows, texts.rows, texts.logits()):
                drawn[row] = Drawn(sampling.draw(logits, text, generators[row]), logits)
            texts.append(drawn[row].token for row in rows)
            yield drawn
            going = [i for i, row in enumerate(rows) if not ends(row, drawn[row])]
            texts.select(going)
            rows = [rows[i] for i in going]


def generators_for(seed: int | Sequence[int] | None, rows: int) -> list[Generator]:
    """One for each row: of its own seed, of ``seed`` + row, or seeded by the global generator.

    A single row without a seed draws from the global generator itself.
    """
    if seed is None and rows == 1:
        return [default_generator]
    if seed is None:
        seed = [int(n) for n in default_generator.rng.integers(2**63, size=rows)]
    seeds = [seed + row for row in range(rows)] if isinstance(seed, int) else list(seed)
    if len(seeds) != rows:
        raise ValueError(f"{len(seeds)} seeds for {rows} prompts: give one for each, or one number")
    return [Generator(n) for n in seeds]


def stream(
    model: GPT,
    tokens: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
    *,
    stop_tokens: Sequence[int] = (),
    cache: bool = True,
    **others: Any,
) -> Iterator[int]:
    """Yield tokens that continue ``tokens``, one by one; arguments as in :func:`generate`."""
    sampling = Sampling(temperature, top_k, **others)
    for drawn in draw(
        model, [tokens], max_new_tokens, sampling, generators_for(seed, 1), cache,
        lambda row, drawn: drawn.token in stop_tokens,
    ):  # fmt: skip
        yield drawn[0].token


def generate(
    model: GPT,
    tokens: Any,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: Any = None,
    *,
    stop_tokens: Sequence[int] = (),
    cache: bool = True,
    **others: Any,
) -> list:
    """Continue ``tokens`` by ``max_new_tokens`` more; returns the new ones.

    Args:
        model: in whatever mode; it is evaluated without dropout.
        tokens: at least one; only the last ``context`` of them are seen. Or a list of such prompts,
            of any lengths: a list for each is returned, the one that it alone would have got.
        temperature: divides the logits; below 1 bolder, above 1 more varied, 0 always likeliest.
        top_k: draw from the k likeliest tokens only.
        seed: makes the draws reproducible; default: the global generator. Of several prompts each
            has its own, from a list, or ``seed``, ``seed`` + 1, ...
        stop_tokens: a text ends after one of these.
        cache: keep the keys and values of the past; False reads the whole text for each token.
            The tokens are the same but for ties in the last bits (see :class:`Prefixes`).
        others: ``top_p``, ``min_p``, ``repetition_penalty`` and ``logit_bias`` of
            :class:`Sampling`.

    >>> from gpt.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=5, context=4, width=8, layers=1, heads=2))
    >>> len(generate(model, [1, 2], 6, temperature=0.8, top_k=3, seed=1))
    6
    >>> [len(text) for text in generate(model, [[1, 2], [3]], 6, top_p=0.9, seed=1)]
    [6, 6]
    """
    several = len(tokens) > 0 and np.ndim(tokens[0]) == 1
    prompts = tokens if several else [tokens]
    written: list[list[int]] = [[] for _ in prompts]
    for drawn in draw(
        model, prompts, max_new_tokens, Sampling(temperature, top_k, **others),
        generators_for(seed, len(prompts)), cache, lambda row, drawn: drawn.token in stop_tokens,
    ):  # fmt: skip
        for row, new in drawn.items():
            written[row].append(new.token)
    return written if several else written[0]
