"""``python -m benchmarks.beside [CONFIG ...]``: a step while others want the cores, too.

Ours and PyTorch take turns, each alone and then beside processes that never rest (one, or as many
as ``--others`` says). The ratio is how many times as long a step takes then. With two threads on
two cores and one other process, 1.33 would be left if nobody ever waited for anybody: of two cores,
one and a half.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from . import interpreter
from .__main__ import SLOW, Side
from .command import need_torch, parser


class Others:
    """Processes that never rest, but when they are held."""

    def __init__(self, count: int) -> None:
        busy = [sys.executable, "-c", "while True: pass"]
        self.processes = [subprocess.Popen(busy) for _ in range(count)]
        self.hold()

    def hold(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)

    @contextmanager
    def running(self) -> Iterator[None]:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
        yield
        self.hold()

    def end(self) -> None:
        for process in self.processes:
            process.kill()


def compare(config: str, turns: int, steps: int, count: int) -> None:
    sides = {"here": Side("ours", config), "PyTorch": Side("torch", config)}
    others = Others(count)
    rounds = []
    try:
        for _ in range(turns):
            alone = {name: side.turn(steps)[3] for name, side in sides.items()}
            with others.running():
                beside = {name: side.turn(steps)[3] for name, side in sides.items()}
            rounds.append((alone, beside))
    finally:
        others.end()
    for side in sides.values():
        side.close()
    for name in sides:
        one, other = (median(r[i][name] for r in rounds) * 1e3 for i in (0, 1))
        ratios = sorted(beside[name] / alone[name] for alone, beside in rounds)
        print(
            f"{config:9} {name:8} alone {one:8.2f} ms   beside {count} {other:8.2f} ms   "
            f"ratio {median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )
    gained = sorted(beside["PyTorch"] / beside["here"] for _, beside in rounds)
    print(
        f"{config:9} PyTorch / ours beside {count}: {median(gained):.2f} "
        f"({gained[0]:.2f} to {gained[-1]:.2f})",
        flush=True,
    )


def main() -> None:
    command = parser("benchmarks.beside", __doc__)
    command.add_argument("--others", type=int, default=1, help="processes that never rest [1]")
    arguments = command.parse_args()
    need_torch()
    print(interpreter.said(), flush=True)
    for config in arguments.configs or ("char", "tiny", "baby"):
        slow = config in SLOW
        turns = min(arguments.turns, 6) if slow else arguments.turns
        compare(config, turns, 2 if slow else 16, arguments.others)


if __name__ == "__main__":
    main()
