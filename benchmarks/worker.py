"""One side of a comparison: ``python -m benchmarks.worker ours|torch|ported CONFIG``.

Sets up, says ``ready``, then for every number n read from standard input takes n training steps and
prints as JSON the median seconds of forward, backward, optimizer and whole step, and the largest
memory that the process has had so far, in MB. On our side and on PyTorch's Python looks for garbage
in circles as rarely as in ``gpt train``; in ``ported``, a program as anyone writes it, as it does
by itself.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from gpt.config import GPTConfig
from gpt.garbage import search_rarely

if sys.argv[1:2] in (["ours"], ["ported"]):
    import tensorgrad  # noqa: F401 (before NumPy, as gpt does)

import numpy as np

# name → (batch, model): the sizes that the project measures itself by
CONFIGS = {
    "char": (12, GPTConfig(65, context=64, width=128, layers=4, heads=4, bias=False)),
    "tiny": (4, GPTConfig(512, context=16, width=64, layers=8, heads=4)),
    "textbook": (4, GPTConfig(100_070, context=16, width=64, layers=8, heads=4, tied=False)),
    "gpt2": (4, GPTConfig(50_257, context=64, width=768, layers=12, heads=12)),
    "baby": (16, GPTConfig(65, context=256, width=384, layers=6, heads=6, bias=False)),
}
STEPS: dict[str, Callable] = {}


def _batch(size: int, config: GPTConfig) -> Any:
    rng = np.random.default_rng(0)
    return rng.integers(0, config.vocab_size, (2, size, config.context))


def ours(size: int, config: GPTConfig) -> Callable[[], list[float]]:
    import tensorgrad
    from gpt.model import GPT
    from tensorgrad.optim import AdamW, clip_factor

    model = GPT(config)
    parameters = list(model.parameters())
    optimizer = AdamW(parameters, lr=1e-3)
    x, y = (tensorgrad.from_numpy(a) for a in _batch(size, config))

    def step() -> list[float]:
        times = [time.perf_counter()]
        loss = model(x, y)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        _, factor = clip_factor([p.grad for p in parameters], 1.0)  # as gpt.train does
        optimizer.step(factor=factor)
        optimizer.zero_grad()
        times.append(time.perf_counter())
        return times

    return step


def torch(size: int, config: GPTConfig) -> Callable[[], list[float]]:
    import torch

    from .torch_gpt import GPT

    return _as_with_torch(torch, GPT(config), _batch(size, config))


def ported(size: int, config: GPTConfig) -> Callable[[], list[float]]:
    """PyTorch's side on our engine: of its model's file only the imports are other ones."""
    import tensorgrad

    path = Path(__file__).with_name("torch_gpt.py")
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^import torch$", "import tensorgrad as torch", text, flags=re.MULTILINE)
    text = re.sub(r"^from torch\b", "from tensorgrad", text, flags=re.MULTILINE)
    names: dict[str, Any] = {"__name__": "ported"}
    exec(compile(text, str(path), "exec"), names)
    return _as_with_torch(tensorgrad, names["GPT"](config), _batch(size, config))


def _as_with_torch(torch: Any, model: Any, batch: np.ndarray) -> Callable[[], list[float]]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x, y = (torch.from_numpy(a) for a in batch)

    def step() -> list[float]:
        times = [time.perf_counter()]
        loss = model(x, y)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
        return times

    return step


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MB; nan where nobody tells."""
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main(side: str, name: str) -> None:
    if side != "ported":
        search_rarely()
    step = {"ours": ours, "torch": torch, "ported": ported}[side](*CONFIGS[name])
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        runs = [step() for _ in range(int(line))]
        parts = [[t[i + 1] - t[i] for t in runs] for i in range(3)] + [[t[3] - t[0] for t in runs]]
        print(json.dumps([*(median(p) for p in parts), peak_memory()]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
