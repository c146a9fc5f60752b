"""``python -m benchmarks [CONFIG ...]``: a training step of ours against PyTorch's.

The processes (ours with Numba's kernels, ours in plain NumPy, PyTorch) take turns, a few steps
each, and only ratios of neighbouring turns are compared: the machine's speed drifts, the ratio does
not. A ratio above 1 means that ours is faster. Without a configuration everything is measured: all
of them, then PyTorch's program with other imports, several workers, a step beside another process,
generating, the overhead of an operation, the ladder of the kernels, starting up; in about three
quarters of an hour.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from . import interpreter
from .command import need_torch, parser
from .worker import CONFIGS

PARTS = ("forward", "backward", "optimizer", "step")
SLOW = ("gpt2", "baby")  # one step is a turn
OTHERS = (
    ["ported"], ["workers"], ["beside"], ["writing"], ["writing", "--config", "gpt2"],
    ["overhead"], ["ladder"], ["startup"],
)  # fmt: skip


class Side:
    """A worker process that runs only when asked."""

    def __init__(self, side: str, config: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", side, config],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
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


def compare(config: str, turns: int, steps: int) -> dict[str, Any]:
    """Print medians of all sides and of the ratios, for each part of a step; returns them."""
    sides = {
        "numba": Side("ours", config),
        "numpy": Side("ours", config, TENSORGRAD_BACKEND="numpy"),
        "torch": Side("torch", config),
    }
    rounds = [{name: side.turn(steps) for name, side in sides.items()} for _ in range(turns)]
    for side in sides.values():
        side.close()
    found: dict[str, Any] = {}
    for i, part in enumerate(PARTS):
        ms = {name: median(r[name][i] for r in rounds) * 1e3 for name in sides}
        ratios = {n: sorted(r["torch"][i] / r[n][i] for r in rounds) for n in ("numba", "numpy")}
        found[part] = {"ms": ms, "ratios": ratios}
        numba, numpy = (ratios[n] for n in ("numba", "numpy"))
        print(
            f"{config:9} {part:10} ours {ms['numba']:8.2f} ms   PyTorch {ms['torch']:8.2f} ms   "
            f"ratio {median(numba):5.2f}  ({numba[0]:.2f} to {numba[-1]:.2f})   "
            f"NumPy alone {ms['numpy']:8.2f} ms   ratio {median(numpy):5.2f}",
            flush=True,
        )
    memory = {name: rounds[-1][name][-1] for name in sides}
    found["memory"] = {"mb": memory}
    print(
        f"{config:9} {'memory':10} ours {memory['numba']:8.0f} MB   "
        f"PyTorch {memory['torch']:8.0f} MB   ratio {memory['torch'] / memory['numba']:5.2f}"
        f"{'':18} NumPy alone {memory['numpy']:8.0f} MB   "
        f"ratio {memory['torch'] / memory['numpy']:5.2f}",
        flush=True,
    )
    return found


def main() -> None:
    command = parser("benchmarks", __doc__)
    command.add_argument("--steps", type=int, help="steps in a turn [8; of the large ones 1]")
    command.add_argument(
        "--save", type=Path, metavar="FILE", help="write the numbers as JSON, for docs/make_plot.py"
    )
    arguments = command.parse_args()
    need_torch()
    print(interpreter.said(), flush=True)
    found = {}
    for config in arguments.configs or CONFIGS:
        steps = arguments.steps or (1 if config in SLOW else 8)
        turns = min(arguments.turns, 6) if config in SLOW else arguments.turns
        found[config] = compare(config, turns, steps)
        if arguments.save:
            arguments.save.write_text(json.dumps(found, indent=1) + "\n")
    for module, *rest in [] if arguments.configs else OTHERS:
        print(f"\n== python -m benchmarks.{' '.join([module, *rest])}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *rest], check=False)


if __name__ == "__main__":
    main()
