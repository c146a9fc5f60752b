"""``python -m benchmarks.ladder``: each fused op as a ladder, from its definition to the limit.

The rungs: the composite in NumPy, NumPy's kernel, Numba's kernel, PyTorch's op, and the time in
which this machine moves the bytes that have to be moved, or in which it multiplies the numbers in a
large product, NumPy's or ours, whichever is faster (for linear layers, whose activations are not
counted, and for attention, causal, with dropout 0.2, with the same mask as booleans), measured in
the same run. Forward, then backward, in milliseconds; all take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

import tensorgrad
from tensorgrad import fused
from tensorgrad.backend import kernels, products, threads

ROUNDS = 15
BACKENDS = ("composite", "numpy", "numba")


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def cases() -> dict[str, tuple[Callable, Callable, list[np.ndarray], float, float]]:
    """name → (our function, PyTorch's, inputs, bytes or flops forward, and backward).

    Sizes of a batch of 12 x 64 tokens, 128 wide, and of a vocabulary of 50,257. Counted are the
    arrays of the size of x that are read or written; flops are given as negative numbers.
    """
    import torch
    from torch.nn import functional as F

    wide, x, weight = rows(768, 512), rows(768, 128), rows(128)
    logits, targets = rows(256, 50_257), np.arange(256)
    q, k, v = (rows(12, 4, 64, 32) for _ in range(3))
    keep = np.random.default_rng(0).random(wide.shape) >= 0.2
    seeds, may = np.arange(48).reshape(12, 4), np.tri(64, dtype=bool)
    flops = -2 * 2 * 12 * 4 * 64 * 64 * 32 / 2  # two products, the causal half of each
    product, linear = -2 * 768 * 128 * 512, [x, rows(512, 128), rows(512)]
    return {
        "linear": (fused.linear, F.linear, linear, product, 2 * product),
        "linear + x": (
            fused.linear_add, lambda x, w, b, y: y + F.linear(x, w, b), [*linear, wide],
            product, 2 * product,
        ),
        "linear, relu": (
            fused.linear_relu, lambda *inputs: F.relu(F.linear(*inputs)), linear,
            product, 2 * product,
        ),
        "linear, gelu": (
            fused.linear_gelu, lambda *inputs: F.gelu(F.linear(*inputs)), linear,
            product, 2 * product,
        ),
        "gelu": (fused.gelu, F.gelu, [wide], 2 * wide.nbytes, 3 * wide.nbytes),
        "gelu (tanh)": (
            lambda x: fused.gelu(x, approximate="tanh"), lambda x: F.gelu(x, approximate="tanh"),
            [wide], 2 * wide.nbytes, 3 * wide.nbytes,
        ),
        "layer_norm": (
            fused.layer_norm, lambda x, w, b: F.layer_norm(x, (128,), w, b),
            [x, weight, weight], 2 * x.nbytes, 3 * x.nbytes,
        ),
        "rms_norm": (
            fused.rms_norm, lambda x, w: F.rms_norm(x, (128,), w, 1e-5),
            [x, weight], 2 * x.nbytes, 3 * x.nbytes,
        ),
        "cross_entropy": (
            lambda x: fused.cross_entropy(x, tensorgrad.from_numpy(targets)).sum(),
            lambda x: F.cross_entropy(x, torch.from_numpy(targets), reduction="sum"),
            [logits], logits.nbytes, 2 * logits.nbytes,
        ),
        "dropout, 0.2": (
            lambda x: fused.dropout(x, keep, p=0.2), lambda x: F.dropout(x, 0.2),
            [wide], 2 * wide.nbytes + keep.nbytes, 2 * wide.nbytes + keep.nbytes,
        ),
        "attention": (
            lambda q, k, v: fused.scaled_dot_product_attention(
                q, k, v, None, None, scale=32**-0.5, causal=True
            ),
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            [q, k, v], flops, 2.5 * flops,
        ),
        "attention, 0.2": (
            lambda q, k, v: fused.scaled_dot_product_attention(
                q, k, v, None, seeds, scale=32**-0.5, causal=True, dropout=0.2
            ),
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=0.2),
            [q, k, v], flops, 2.5 * flops,
        ),
        "attention, mask": (
            lambda q, k, v: fused.scaled_dot_product_attention(q, k, v, may, None, scale=32**-0.5),
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.from_numpy(may)),
            [q, k, v], 2 * flops, 5 * flops,
        ),
    }  # fmt: skip


def timed(function: Callable, inputs: list) -> tuple[float, float]:
    """Seconds forward and backward."""
    started = time.perf_counter()
    y = function(*inputs)
    forward = time.perf_counter()
    y.sum().backward()
    done = time.perf_counter()
    for x in inputs:
        x.grad = None
    return forward - started, done - forward


def machine() -> tuple[float, float]:
    """Bytes a second in a copy of 64 MB, floating-point operations a second in a product."""
    a, b = rows(1 << 23), np.empty(1 << 23, np.float32)
    c, d = rows(768, 512), rows(512, 512)
    copying, product = [], []
    for _ in range(9):
        times = [time.perf_counter()]
        for work in (lambda: np.copyto(b, a), lambda: c @ d, lambda: products.matmul(c, d)):
            work()
            times.append(time.perf_counter())
        copied, *multiplied = np.diff(times)
        copying.append(copied)
        product.append(min(multiplied))
    return 2 * a.nbytes / min(copying), 2 * 768 * 512 * 512 / min(product)


def main() -> None:
    import torch

    torch.set_num_threads(threads.COUNT)
    rate, flops = machine()
    print(
        f"threads {threads.COUNT}, copying {rate / 1e9:.1f} GB/s, "
        f"products {flops / 1e9:.0f} GFLOP/s"
    )
    print(f"{'milliseconds':26}" + "".join(f"{n:>11}" for n in (*BACKENDS, "PyTorch", "limit")))
    for name, (ours, theirs, inputs, *work) in cases().items():
        taken: dict[str, list] = {n: [] for n in (*BACKENDS, "PyTorch")}
        for turn in range(ROUNDS + 2):
            for rung, times in taken.items():
                lib: Any = torch if rung == "PyTorch" else tensorgrad
                xs = [lib.from_numpy(a).requires_grad_() for a in inputs]
                kernels.enabled = rung != "composite"
                tensorgrad.backend.use(rung if rung in kernels.BACKENDS else None)
                seconds = timed(theirs if lib is torch else ours, xs)
                if turn >= 2:
                    times.append(seconds)
        for i, direction in enumerate(("forward", "backward")):
            best = work[i] / rate if work[i] > 0 else -work[i] / flops
            medians = [median(t[i] for t in times) * 1e3 for times in taken.values()]
            columns = "".join(f"{m:11.3f}" for m in (*medians, best * 1e3))
            print(f"{name:16} {direction:9}{columns}", flush=True)
    kernels.enabled = True
    tensorgrad.backend.use()


if __name__ == "__main__":
    main()
