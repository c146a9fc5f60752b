"""The kernels that most tests need, compiled by two test processes at once, each one dtype's.

In a fresh clone every process would compile all of them by itself, which takes it a minute.
"""

from __future__ import annotations

import contextlib

import tensorgrad
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorgrad import fused

DTYPES = ("float32", "float64")


def compile_share(process: int) -> None:
    """What the process of that number compiles, the third and later ones nothing."""
    for dtype in DTYPES[process : process + 1]:
        with contextlib.suppress(Exception):  # the tests say what is wrong
            take_a_step(dtype)


def take_a_step(dtype: str) -> None:
    """Of a GPT, whose heads are cut from one array; then attention to what lies in one piece."""
    model = GPT(GPTConfig(vocab_size=5, context=8, width=4, layers=1, heads=2, dropout=0.5))
    model.to(getattr(tensorgrad, dtype))
    ids = tensorgrad.tensor([[0, 1, 2, 3, 4, 3, 2, 1]])
    model(ids, ids).backward()
    tensorgrad.optim.AdamW(model.parameters()).step()
    x = tensorgrad.ones(1, 8, 2, dtype=dtype, requires_grad=True)
    (fused.scaled_dot_product_attention(x, x, x, None, None, scale=1.0) * x).sum().backward()
