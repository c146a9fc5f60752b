"""What an operation on a single number costs: ``python -m benchmarks.overhead``.

A chain of multiplications and additions of 1-element tensors, forward and backward, ours and
PyTorch's in turns in one process with one thread; the medians in microseconds an operation.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

LENGTH = 300


def measure(lib: Any) -> tuple[float, float]:
    """Microseconds an operation, forward and backward."""
    x, w = lib.ones(1).requires_grad_(), lib.ones(1) * 0.99
    started = time.perf_counter()
    y = x
    for _ in range(LENGTH):
        y = (y * w) + w
    forward = time.perf_counter()
    y.backward()
    done = time.perf_counter()
    return (forward - started) / (2 * LENGTH) * 1e6, (done - forward) / (2 * LENGTH) * 1e6


def main(rounds: int = 150) -> None:
    import torch

    import tensorgrad

    torch.set_num_threads(1)
    times: dict[Any, list] = {tensorgrad: [], torch: []}
    for _ in range(rounds):
        for lib, taken in times.items():
            taken.append(measure(lib))
    totals = {}
    for lib, taken in times.items():
        forward, backward = (median(t[k] for t in taken) for k in (0, 1))
        totals[lib] = forward + backward
        print(f"{lib.__name__:12} forward {forward:5.2f} µs   backward {backward:5.2f} µs")
    print(f"ratio (PyTorch / ours) {totals[torch] / totals[tensorgrad]:.2f}")


if __name__ == "__main__":
    main()
