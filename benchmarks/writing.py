"""``python -m benchmarks.writing``: tokens per second of writing, ours against PyTorch's.

One text, with a cache of keys and values on both sides, drawn at temperature 0.8 after one token.
The two processes take turns, and only neighbouring turns are compared. A ratio above 1 means that
ours is faster. ``--config gpt2`` takes GPT-2 with 124M parameters: a gigabyte and some minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from gpt.config import GPTConfig
from gpt.garbage import search_rarely

from . import interpreter
from .command import need_torch

# name → (tokens in a turn, model)
CONFIGS = {
    "char": (63, GPTConfig(65, context=64, width=128, layers=4, heads=4, bias=False)),
    "char-256": (255, GPTConfig(65, context=256, width=128, layers=4, heads=4, bias=False)),
    "gpt2": (16, GPTConfig.gpt2()),
}
SIDES = ("ours", "torch", "torch-buffers")


def _writer(side: str, config: GPTConfig) -> Callable[[int], object]:
    if side != "ours":
        from .torch_writer import Writer

        return Writer(config, buffers=side == "torch-buffers").write
    from gpt.generate import generate
    from gpt.model import GPT

    model = GPT(config)
    return lambda count: generate(model, [0], count, temperature=0.8)


def work(side: str, name: str) -> None:
    """A worker process: for each line of standard input a turn, whose tokens/s it prints."""
    search_rarely()  # as ``gpt sample`` does
    count, config = CONFIGS[name]
    write = _writer(side, config)
    write(min(count, 8))
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        write(count)
        print(json.dumps(count / (time.perf_counter() - started)), flush=True)


def compare(name: str, turns: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.writing", "--worker", side, "--config", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for side in SIDES
    ]

    def answer(process: subprocess.Popen[str]) -> str:
        assert process.stdout
        return process.stdout.readline().strip()

    if any(answer(process) != "ready" for process in processes):
        raise RuntimeError(f"a worker of {name} did not start")
    rates = []
    for _ in range(turns):
        turn = []
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
            turn.append(json.loads(answer(process)))
        rates.append(turn)
    for process in processes:
        process.communicate()
    ours = median(turn[0] for turn in rates)
    for i, side in list(enumerate(SIDES))[1:]:
        ratios = sorted(turn[0] / turn[i] for turn in rates)
        print(
            f"{name:9} ours {ours:8.1f} tokens/s   {side:13} "
            f"{median(turn[i] for turn in rates):8.1f} tokens/s   ratio {median(ratios):5.2f}  "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writing", description=__doc__)
    parser.add_argument("--config", choices=CONFIGS, default="char")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.config)
    else:
        need_torch()
        print(interpreter.said(), flush=True)
        compare(arguments.config, arguments.turns)


if __name__ == "__main__":
    main()
