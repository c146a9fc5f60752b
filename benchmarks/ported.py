"""``python -m benchmarks.ported [CONFIG ...]``: PyTorch's program, with only its imports changed.

The rival of ``python -m benchmarks``, the model of ``torch_gpt.py`` and its training step, runs on
PyTorch and on this engine, in two processes that take turns. A ratio above 1 means that it is
faster here.
"""

from __future__ import annotations

from statistics import median

from . import interpreter
from .__main__ import PARTS, SLOW, Side
from .command import need_torch, parser
from .worker import CONFIGS


def compare(config: str, turns: int, steps: int) -> None:
    sides = {name: Side(name, config) for name in ("ported", "torch")}
    rounds = [{name: side.turn(steps) for name, side in sides.items()} for _ in range(turns)]
    for side in sides.values():
        side.close()
    for i, part in enumerate(PARTS):
        here, there = (median(r[name][i] for r in rounds) * 1e3 for name in sides)
        ratios = sorted(r["torch"][i] / r["ported"][i] for r in rounds)
        print(
            f"{config:9} {part:10} here {here:8.2f} ms   PyTorch {there:8.2f} ms   "
            f"ratio {median(ratios):5.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


def main() -> None:
    arguments = parser("benchmarks.ported", __doc__).parse_args()
    need_torch()
    print(interpreter.said(), flush=True)
    for config in arguments.configs or CONFIGS:
        slow = config in SLOW
        compare(config, min(arguments.turns, 6 if slow else 99), 1 if slow else 8)


if __name__ == "__main__":
    main()
