"""``python -m benchmarks [CONFIG ...]``: a training step of ours against PyTorch's.

The two processes take turns, a few steps each, and only ratios of neighbouring turns are compared:
the machine's speed drifts, the ratio does not. A ratio above 1 means that ours is faster.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from statistics import median

from .worker import CONFIGS

PARTS = ("forward", "backward", "optimizer", "step")


class Side:
    """A worker process that runs only when asked."""

    def __init__(self, side: str, config: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", side, config],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self._read() != "ready":
            raise RuntimeError(f"the worker {side} {config} did not start")

    def _read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def turn(self, steps: int) -> list[float]:
        """Take some steps; the median seconds of each part, and the peak memory in MB."""
        assert self.process.stdin
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return json.loads(self._read())

    def close(self) -> None:
        self.process.communicate()


def compare(config: str, turns: int, steps: int) -> None:
    """Print medians of both sides and of the ratios, for each part of a step."""
    sides = [Side("ours", config), Side("torch", config)]
    rounds = [[side.turn(steps) for side in sides] for _ in range(turns)]
    for side in sides:
        side.close()
    for i, part in enumerate(PARTS):
        ours, torch = (median(r[k][i] for r in rounds) * 1e3 for k in (0, 1))
        ratios = sorted(r[1][i] / r[0][i] for r in rounds)
        print(
            f"{config:10} {part:10} ours {ours:8.2f} ms   PyTorch {torch:8.2f} ms   "
            f"ratio {median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )
    memory = [r[-1] for r in rounds[-1]]
    print(
        f"{config:10} {'memory':10} ours {memory[0]:8.0f} MB   PyTorch {memory[1]:8.0f} MB   "
        f"ratio {memory[1] / memory[0]:5.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("configs", nargs="*", default=["char"], help=", ".join(CONFIGS))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
    arguments = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit("the comparison needs PyTorch: pip install torch==2.13.0")
    for config in arguments.configs:
        if config not in CONFIGS:
            sys.exit(f"there is no configuration {config!r}: {', '.join(CONFIGS)}")
        compare(config, arguments.turns, arguments.steps)


if __name__ == "__main__":
    main()
