"""Write ``tests/oracle/gpt.npz``: what PyTorch computes for two small GPTs, frozen to a file.

``make oracle`` runs this. The training program below, :func:`record`, is given PyTorch and the twin
to make the file, and tensorgrad and its GPT to be compared with it: the interfaces are the same.
The learning rates alone come by two ways, from PyTorch's own schedulers and from ours.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gpt.config import GPTConfig

FILE = Path(__file__).parent / "oracle" / "gpt.npz"

CASES = {
    "gpt2": GPTConfig(
        vocab_size=65, context=16, width=32, layers=2, heads=4,
        positions="learned", activation="gelu", tied=True, bias=False,
    ),
    "tutorial": GPTConfig(
        vocab_size=65, context=16, width=24, layers=3, heads=3,
        positions="sinusoidal", activation="relu", tied=False, bias=True,
    ),
}  # fmt: skip

STEPS, BATCH = 10, 4
LR, WARMUP, FLOOR = 1e-3, 2, 0.1  # a line up over 2 steps, then half a cosine down to 1e-4
BETAS, DECAY, CLIP = (0.9, 0.99), 0.1, 1.0


def inputs(config: GPTConfig, shapes: dict[str, tuple], seed: int) -> dict[str, np.ndarray]:
    """Random weights for the names and shapes given, and the tokens of all steps."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        centre = np.float32("norm" in name and name.endswith("weight"))  # scales start around 1
        made[f"weights/{name}"] = centre + np.float32(0.1) * rng.standard_normal(shape, np.float32)
    if config.tied:
        made["weights/output.weight"] = made["weights/token_embedding.weight"]
    made["tokens"] = rng.integers(0, config.vocab_size, (STEPS, BATCH, config.context + 1))
    return made


def record(
    lib: ModuleType, model: Any, schedule: Callable, inputs: dict[str, np.ndarray], dtype: str
) -> dict[str, np.ndarray]:
    """Train ``model`` on the tokens for all steps, and write down what happens.

    ``lib`` is ``torch`` or ``tensorgrad``; ``schedule`` makes a learning-rate scheduler for an
    optimizer. Of the first step, before any update, there are the logits and all gradients.
    """
    weights = {name: lib.from_numpy(value) for name, value in members(inputs, "weights").items()}
    model.load_state_dict(weights)
    model.to(getattr(lib, dtype))
    parameters = dict(model.named_parameters())
    optimizer = lib.optim.AdamW(
        [
            {"params": [p for p in parameters.values() if p.dim() >= 2], "weight_decay": DECAY},
            {"params": [p for p in parameters.values() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=LR,
        betas=BETAS,
    )
    scheduler = schedule(optimizer)
    tokens = lib.from_numpy(inputs["tokens"])

    found = {"logits": model(tokens[0, :, :-1]).detach().numpy()}
    losses, norms, rates = [], [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(tokens[step, :, :-1], tokens[step, :, 1:])
        loss.backward()
        if step == 0:
            for name, p in parameters.items():
                found[f"gradients/{name}"] = p.grad.numpy().copy()
        losses.append(loss.item())
        norms.append(lib.nn.utils.clip_grad_norm_(parameters.values(), CLIP).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    for name, p in parameters.items():
        found[f"trained/{name}"] = p.detach().numpy()
    return {**found, "losses": np.array(losses), "norms": np.array(norms), "rates": np.array(rates)}


def members(record: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The entries called ``prefix/name``, by name."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in record.items() if k.startswith(start)}


def by_torch(config: GPTConfig, inputs: dict[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """What PyTorch makes of it, in eager mode."""
    import torch
    import torch_twin

    def schedule(optimizer: torch.optim.Optimizer) -> Any:
        schedulers = torch.optim.lr_scheduler
        line = schedulers.LinearLR(optimizer, start_factor=1 / (WARMUP + 1), total_iters=WARMUP)
        cosine = schedulers.CosineAnnealingLR(optimizer, STEPS - WARMUP, eta_min=LR * FLOOR)
        return schedulers.SequentialLR(optimizer, [line, cosine], milestones=[WARMUP])

    return record(torch, torch_twin.GPT(config), schedule, inputs, dtype)


def make() -> dict[str, np.ndarray]:
    """All that is frozen: the inputs, the float32 run, and the end of the float64 run."""
    import torch_twin

    made = {}
    for seed, (case, config) in enumerate(CASES.items()):
        state = torch_twin.GPT(config).state_dict()
        given = inputs(config, {name: tuple(value.shape) for name, value in state.items()}, seed)
        single = by_torch(config, given, "float32")
        double = by_torch(config, given, "float64")
        made |= {f"{case}/{key}": value for key, value in given.items()}
        made |= {f"{case}/float32/{key}": value for key, value in single.items()}
        made |= {
            f"{case}/float64/{key}": value
            for key, value in double.items()
            if not key.startswith(("logits", "gradients"))
        }
    return made


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **make())
    print(f"wrote {FILE.name}: {FILE.stat().st_size / 1e6:.2f} MB")
