"""``python -m benchmarks.workers [CONFIG ...]``: a training step with 1, 2 and 4 processes.

The same batch is shared by workers with one thread each, as ``gpt train --workers N`` starts them;
beside them stand one process with the threads of all cores, PyTorch with its own, and one process
with a worker's share of the batch, which is what ``benchmarks.scaling`` makes its model of. All
take turns, a few steps each, and speeds are ratios of neighbouring turns: a speed of 2 is half the
time that one process with one thread took just before. Then steps are taken apart
(``benchmarks.team``): computation, waiting at a barrier for the slowest, and averaging that
nothing overlaps; and to average gradients of several sizes is timed.

At the end the model is compared with what was measured. GPT-2 with 124M parameters takes one row of
1,024 tokens and two, alone, for the prediction; it needs 6 GB and some minutes. ``--save FILE``
keeps the numbers, of which ``docs/make_workers.py`` makes the section of docs/performance.md.

``--mpiexec 'mpiexec -hosts a,b'`` measures workers on several machines that see the same folders.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from gpt.launcher import mpiexec
from tensorgrad.backend.launch import cores

from . import interpreter, scaling
from .command import parser
from .team import write_text
from .worker import CONFIGS

MEASURED = ("char", "baby", "textbook")
SLOW = ("baby",)  # one step is a turn
WORKERS = (1, 2, 4)
PARTS = ("computation", "waiting", "communication")
SIZES = (8, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22, 1 << 24, 1 << 26)  # bytes
LARGE = ("gpt2", 1024, (1, 2))  # of the prediction: model, context, rows


class Side:
    """Processes that work only when asked, by a line, and answer with one."""

    def __init__(self, command: list[str], threads: int | None) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        self.command = command
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._read() != "ready":
            raise RuntimeError(f"{' '.join(command)} did not start")

    def _read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, *order: Any) -> Any:
        assert self.process.stdin
        # PyTorch's side knows numbers of steps only.
        said = order[1] if "benchmarks.worker" in self.command else list(order)
        self.process.stdin.write(f"{json.dumps(said)}\n")
        self.process.stdin.flush()
        return json.loads(self._read())

    def seconds(self, steps: int) -> float:
        """The median of some steps."""
        found = self.ask("steps", steps)
        return found[3] if "benchmarks.worker" in self.command else median(found)

    def close(self) -> None:
        self.process.communicate()


@contextmanager
def sides(
    start: str,
    wanted: dict[str, tuple[int, int, int | None]],
    config: str,
    context: int,
    *more: str,
) -> Iterator[dict[str, Side]]:
    """What takes turns: a name → (workers, rows, threads); "torch" is PyTorch.

    ``start`` is the command that starts workers, but for how many.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as closing:
        vocabulary = CONFIGS[config][1].vocab_size
        text = Path(folder, "text.txt")
        write_text(text, vocabulary, context)
        started = {}
        for name, (workers, rows, threads) in wanted.items():
            out = str(Path(folder, name))
            program = ["-m", "benchmarks.team", config, str(context), str(rows), str(text), out]
            if name == "torch":
                program = ["-m", "benchmarks.worker", "torch", config]
            before = [*shlex.split(start), "-n", str(workers)] if workers > 1 else []
            started[name] = Side([*before, sys.executable, *program, *more], threads)
            closing.callback(started[name].close)
        yield started


def measure(start: str, config: str, turns: int, steps: int) -> dict[str, Any]:
    """All sides in turns; prints and returns what was found."""
    batch, model = CONFIGS[config]
    wanted: dict[str, tuple[int, int, int | None]] = {}
    wanted |= {f"workers {n}": (n, batch, 1) for n in WORKERS}
    wanted |= {f"rows {batch // n}": (1, batch // n, 1) for n in WORKERS if n > 1}
    wanted["threads"] = (1, batch, cores())
    if importlib.util.find_spec("torch"):
        wanted["torch"] = (1, batch, None)
    several = [n for n in WORKERS if n > 1]
    rounds, alone = [], []
    parts: dict[int, list[list[float]]] = {n: [] for n in several}
    slower: dict[int, list[float]] = {n: [] for n in several}
    with sides(start, wanted, config, model.context) as running:
        for _ in range(turns):
            rounds.append({name: side.seconds(steps) for name, side in running.items()})
            alone += running["workers 1"].ask("steps", steps)
            for n in several:
                here = running[f"workers {n}"].ask("apart", steps)
                parts[n] += here
                computing = median(step[0] for step in here)
                slower[n].append(computing / rounds[-1][f"rows {batch // n}"])
        profile = running["workers 1"].ask("profile", 3 * steps)
    taken = {name: median(r[name] for r in rounds) for name in wanted}
    shares = {str(batch // n): taken[f"rows {batch // n}"] for n in several}
    found = {
        "batch": batch,
        "context": model.context,
        "seconds": {k: v for k, v in taken.items() if not k.startswith("rows ")},
        "speeds": {n: sorted(r["workers 1"] / r[n] for r in rounds) for n in wanted},
        "alone": {**shares, str(batch): taken["workers 1"]},
        "spread": spread(alone),
        "profile": profile,
        "apart": {str(n): dict(zip(PARTS, map(median, zip(*parts[n])))) for n in several},
        "slower": {str(n): median(slower[n]) for n in several},
    }
    for name in wanted:
        speeds = found["speeds"][name]
        print(
            f"{config:9} {name:10} {taken[name] * 1e3:9.2f} ms   speed {median(speeds):5.2f}  "
            f"({speeds[0]:.2f} to {speeds[-1]:.2f})",
            flush=True,
        )
    for n, times in found["apart"].items():
        said = "   ".join(f"{part} {t * 1e3:8.2f} ms" for part, t in times.items())
        print(f"{config:9} {n} workers, taken apart: {said}", flush=True)
    return found


def spread(taken: list[float]) -> float:
    """The standard deviation as a share of the median, told by the middle half of the times."""
    if len(taken) < 4:
        return 0.0
    low, middle, high = quantiles(taken, n=4)
    return (high - low) / 1.349 / middle


def measure_all_reduce(start: str, repeat: int) -> dict[str, Any]:
    """Averaging by 2 and 4 processes, and copying and adding in one; in seconds."""
    wanted = {f"workers {n}": (n, 4, 1) for n in WORKERS}
    with sides(start, wanted, "char", CONFIGS["char"][1].context) as running:
        copied, added = map(median, zip(*running["workers 1"].ask("copying", 1 << 24, repeat)))
        reduced = {
            str(n): [
                [size, median(running[f"workers {n}"].ask("reduce", size, repeat))]
                for size in SIZES
            ]
            for n in WORKERS
            if n > 1
        }
    for n, points in reduced.items():
        latency, per_byte = scaling.fitted([(s, t) for s, t in points])
        off = max(abs((latency + per_byte * s) / t - 1) for s, t in points)
        print(
            f"averaging, {n} workers: " + ", ".join(f"{s:,} B {t * 1e6:,.0f} µs" for s, t in points)
        )
        print(
            f"  latency {latency * 1e6:.1f} µs, {1e-9 / per_byte:.2f} GB/s; the line is off by "
            f"{off:.0%} at most",
            flush=True,
        )
    print(f"copying {2**24 / copied / 1e9:.2f} GB/s, adding {2**24 / added / 1e9:.2f} GB/s")
    return {"reduce": reduced, "copying": copied / 2**24, "adding": added / 2**24}


def measure_large(turns: int) -> dict[str, Any]:
    """GPT-2 alone, with one row and with two."""
    name, context, rows = LARGE
    wanted = {str(n): (1, n, 1) for n in rows}
    with sides("", wanted, name, context, "1") as running:
        rounds = [{n: side.seconds(1) for n, side in running.items()} for _ in range(turns)]
        profile = running[str(rows[0])].ask("profile", 1)
    alone = {n: median(r[n] for r in rounds) for n in wanted}
    for n, seconds in alone.items():
        print(f"{name}, {n} x {context} tokens: {seconds:.2f} s", flush=True)
    return {"config": name, "context": context, "alone": alone, "spread": 0.0, "profile": profile}


def told(found: dict[str, Any]) -> Iterator[str]:
    """The model beside what was measured, line by line."""
    yield f"the model (a busy core takes {scaling.busy(found):.2f} times as long):"
    for point in scaling.reproduced(found):
        parts = point.model
        yield (
            f"{point.config:9} {point.workers} workers: measured {point.measured * 1e3:8.2f} ms, "
            f"model {parts.seconds * 1e3:8.2f} ms ({point.error:+.1%}): computing "
            f"{parts.compute * 1e3:.2f}, waiting {parts.waiting * 1e3:.2f}, communication "
            f"{parts.communication * 1e3:.2f}"
        )


def main() -> None:
    command = parser(
        "benchmarks.workers", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--steps", type=int, help="steps in a turn [8; of baby 1]")
    command.add_argument(
        "--mpiexec", metavar="COMMAND", help="what starts workers [on this machine]"
    )
    command.add_argument("--no-gpt2", action="store_true", help="no prediction for GPT-2")
    command.add_argument("--save", type=Path, metavar="FILE", help="write the numbers as JSON")
    arguments = command.parse_args()
    if importlib.util.find_spec("torch") is None:
        print("without PyTorch, which is not installed: pip install torch==2.13.0")
    try:
        start = arguments.mpiexec or shlex.quote(mpiexec())
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    print(interpreter.said(), flush=True)
    found: dict[str, Any] = {"cores": cores(), "machine": platform.machine(), "configs": {}}
    found["network"] = arguments.mpiexec is not None

    def save() -> None:
        if arguments.save:
            arguments.save.write_text(json.dumps(found, indent=1) + "\n")

    found |= measure_all_reduce(start, 5 * arguments.turns)
    for config in arguments.configs or MEASURED:
        steps = arguments.steps or (1 if config in SLOW else 8)
        turns = min(arguments.turns, 6) if config in SLOW else arguments.turns
        found["configs"][config] = measure(start, config, turns, steps)
        save()
    if not arguments.no_gpt2:
        found["large"] = measure_large(min(arguments.turns, 3))
    save()
    for line in told(found):
        print(line)


if __name__ == "__main__":
    main()
