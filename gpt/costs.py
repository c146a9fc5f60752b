"""What a model costs: parameters, floating-point operations, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np

import tensorgrad

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
