"""Writing with a trained model, one token at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import tensorgrad
from tensorgrad import Generator, Tensor

from .model import GPT


def next_token(logits: Tensor, temperature: float, top_k: int | None, generator: Generator) -> int:
    """Draw a token from the logits [V] of one position; temperature 0 takes the likeliest."""
    if temperature == 0:
        return int(logits.argmax())
    tokens = None
    if top_k is not None and top_k < logits.shape[0]:
        logits, tokens = logits.topk(top_k)  # so many and no more, also where logits are equal
    # Differences to the largest, in float64: small temperatures do not overflow.
    weights = ((logits.double() - logits.max()) / temperature).softmax(-1)
    drawn = int(tensorgrad.multinomial(weights, 1, generator=generator))
    return drawn if tokens is None else int(tokens[drawn])


def stream(
    model: GPT,
    tokens: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield tokens that continue ``tokens``, one by one; arguments as in :func:`generate`."""
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if not len(tokens):
        raise ValueError("generate needs at least one token to continue")
    generator = Generator(seed) if seed is not None else tensorgrad.default_generator
    context = model.config.context
    written = list(tokens)
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            with tensorgrad.no_grad():
                logits = model(tensorgrad.tensor([written[-context:]]))[0, -1]  # [V]
                token = next_token(logits, temperature, top_k, generator)
            written.append(token)
            yield token
    finally:
        model.train(was_training)


def generate(
    model: GPT,
    tokens: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int | None = None,
) -> list[int]:
    """Continue ``tokens`` by ``max_new_tokens`` more; returns the new ones.

    Args:
        model: in whatever mode; it is evaluated without dropout.
        tokens: at least one; only the last ``context`` of them are seen.
        temperature: divides the logits; below 1 bolder, above 1 more varied, 0 always likeliest.
        top_k: draw from the k likeliest tokens only.
        seed: makes the draws reproducible; default: the global generator.

    >>> from gpt.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=5, context=4, width=8, layers=1, heads=2))
    >>> len(generate(model, [1, 2], 6, temperature=0.8, top_k=3, seed=1))
    6
    """
    return list(stream(model, tokens, max_new_tokens, temperature, top_k, seed))
