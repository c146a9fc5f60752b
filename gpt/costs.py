"""What a model costs: parameters, floating-point operations, memory."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np

import tensorgrad

from .config import GPTConfig
from .model import GPT


def peak_memory(model: GPT, batch: int, recompute: bool) -> int:
    """The most bytes at a time of one forward and backward pass, as Python's tracemalloc has them.

    NumPy tells tracemalloc of its arrays. Weights and the optimizer's memory, which are there
    before, do not count; gradients do. The model and the random numbers are left as they were.
    """
    before, model.recompute = model.recompute, recompute
    tokens = tensorgrad.zeros(batch, model.config.context, dtype=tensorgrad.int64)
    random = tensorgrad.get_rng_state()
    running = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        with np.errstate(all="ignore"):
            model(tokens, tokens).backward()  # what is loaded for good when it is first needed
            for p in model.parameters():
                p.grad = None
            start = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            model(tokens, tokens).backward()
            return tracemalloc.get_traced_memory()[1] - start
    finally:
        if not running:
            tracemalloc.stop()
        for p in model.parameters():
            p.grad = None
        tensorgrad.set_rng_state(random)
        model.recompute = before


def resident_peak() -> int | None:
    """The most memory that this process has had so far, in bytes; None where nobody counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def parameters_by_part(model: GPT) -> dict[str, int]:
    """How many parameters each part of the model has; weights that are tied count once."""
    parts: dict[str, int] = {}
    for name, p in model.named_parameters():
        path = name.split(".")
        part = f"blocks.*.{path[2]}" if path[0] == "blocks" else path[0]
        parts[part] = parts.get(part, 0) + p.numel()
    return parts


def flops_per_token(config: GPTConfig) -> tuple[int, int]:
    """Floating-point operations of a token in matrix products: to read it, to train on it.

    A multiplication and an addition for each weight of a matrix, and in attention for each feature
    of each of ``context`` keys and values; a backward pass is twice a forward pass (Kaplan et al.
    2020, section 2.1). Half of attention is masked, and is counted all the same.

    >>> flops_per_token(GPTConfig(vocab_size=10, context=4, width=2, layers=1, heads=1))
    (168, 504)
    """
    c = config
    matrices = c.layers * 12 * c.width**2 + c.vocab_size * c.width
    forward = 2 * matrices + 4 * c.layers * c.context * c.width
    return forward, 3 * forward


def described(model: GPT, batch: int, recompute: bool = False) -> Iterator[str]:
    """Lines that say what a model costs; the memory of a batch is measured."""
    c = model.config
    yield (
        f"layers {c.layers}, heads {c.heads}, width {c.width}, context {c.context}, vocabulary "
        f"{c.vocab_size:,}, positions {c.positions}, {c.activation}, "
        f"{'tied' if c.tied else 'not tied'}"
    )
    yield "parameters:"
    total = model.parameter_count()
    for part, count in parameters_by_part(model).items():
        yield f"  {part:<22} {count:>15,}  {count / total:4.0%}"
    yield f"  {'all':<22} {total:>15,}"
    forward, training = flops_per_token(c)
    yield f"operations per token: {forward:,} to read it, {training:,} to train on it"
    yield "memory in training (MiB):"
    fixed = 3 * 4 * total
    taken = peak_memory(model, batch, recompute)
    for what, size in (
        ("weights and AdamW's two moments", fixed),
        (f"a batch of {batch} x {c.context}", taken),
        ("all", fixed + taken),
    ):
        yield f"  {what:<34} {size / 2**20:>12,.1f}"
    other = peak_memory(model, batch, not recompute)
    yield (
        f"  {'a batch ' + ('without' if recompute else 'with') + ' --recompute':<34} "
        f"{other / 2**20:>12,.1f}"
    )
    yield "(that of a batch, gradients included, is the peak of one, measured with tracemalloc)"
