"""``python -m benchmarks.presets [NAME ...]``: what each preset does, measured as users run it.

Trains each preset with several seeds, one run after the other, by ``python -m gpt train``. When a
preset is complete, its part of gpt/expectations.json (which ``train --check`` compares with), of
docs/presets.md and its picture are written, all or none. What has been measured is kept in --work:
called again, the script goes on where it was, in the middle of a training too.

The texts of two presets are not in the repository; --texts names the folder that has them. The
default text changes with the Python version: measured with another one, it is added to the others.

--steps N trains for N steps only, to try the script, and leaves the repository alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gpt import checkpoint, costs, curves, expectations, folder, label
from gpt.expectations import Band, Expectation, Text
from gpt.model import GPT
from gpt.presets import PRESETS, RunConfig

from . import presets_page

ROOT = Path(__file__).resolve().parent.parent
TEXTS = {"shakespeare-char-cpu": "tinyshakespeare.txt", "textbook": "sales_textbook.txt"}

POINTS = 8  # of a curve, beside the first step
FALSE_ALARMS = 0.01  # good runs that --check may call unexpected


@dataclass(frozen=True)
class Run:
    """What one training did."""

    config: dict[str, Any]
    text: Text
    metrics: list[dict[str, Any]]
    val_loss: float  # over the validation split
    memory: int
    resident: int
    wall: float
    machine: str
    sample: str

    @property
    def seconds(self) -> float:
        """Of the training steps alone."""
        return self.metrics[-1]["seconds"]

    @classmethod
    def read(cls, path: Path) -> Run | None:
        """That in a file; None if there is none, or it is of another version of this script."""
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**saved, "text": Text(**saved["text"])})
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None


# --- the bands ------------------------------------------------------------------------------------


@cache
def student(level: float, df: int) -> float:
    """How far from 0 Student's t stays with this probability.

    >>> round(student(0.95, 4), 3), round(student(0.99, 10), 3)
    (2.776, 3.169)
    """
    # With t = sqrt(df) tan(angle) the density is a power of the cosine.
    constant = 2 * math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)

    def inside(angle: float, n: int = 200) -> float:  # Simpson's rule
        values = [math.cos(angle * i / n) ** (df - 1) for i in range(n + 1)]
        odd, even = sum(values[1::2]), sum(values[2:-1:2])
        return constant * angle / (3 * n) * (values[0] + 4 * odd + 2 * even + values[-1])

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < level else (low, middle)
    return math.sqrt(df) * math.tan(low)


def points_of(steps: list[int]) -> list[int]:
    """The first step, the last, and some between them, which are closer together at the beginning.

    >>> points_of([1, *range(50, 1001, 50)])
    [1, 50, 100, 200, 300, 400, 650, 1000]
    """
    first, *rest = steps
    if len(rest) <= POINTS:
        return steps
    ratio = (rest[-1] / rest[0]) ** (1 / (POINTS - 1))
    wanted = [rest[0] * ratio**i for i in range(POINTS)]
    near = [min(rest, key=lambda step: abs(step - w)) for w in wanted]
    return [first, *sorted(set(near))]


def bands(columns: list[list[float]], pooled: float, factor: float) -> list[Band]:
    """For each point, of which the seeds' values are given, the mean and how far a run may be off.

    The seeds' own scatter at one point is known badly: it is never taken to be less than what it
    is on average along the curve (``pooled``).
    """
    return [
        Band(round(float(np.mean(values)), 5), round(factor * max(deviation(values), pooled), 5))
        for values in columns
    ]


def deviation(values: list[float]) -> float:
    """The standard deviation that a sample tells of."""
    return float(np.std(values, ddof=1))


def expectation(name: str, runs: list[Run]) -> Expectation:
    """What a preset is expected to do, of runs with different seeds; two at least.

    A new run differs from the mean of n by its own deviation and by the mean's: together by
    sqrt(1 + 1/n) standard deviations. Of these as many are allowed as Student's t needs for all
    comparisons together to fail in ``FALSE_ALARMS`` of good runs (Bonferroni's bound).
    """
    if len(runs) < 2:
        raise ValueError("one run tells nothing of how far runs lie apart: measure two at least")
    steps = points_of([m["step"] for m in runs[0].metrics])
    by_step = [{m["step"]: m for m in run.metrics} for run in runs]
    level = 1 - FALSE_ALARMS / (2 * len(steps) + 2)
    own, spread = len(runs) - 1, math.sqrt(1 + 1 / len(runs))
    factor = student(level, own * (len(steps) - 1)) * spread
    curve: dict[int, dict[str, Band]] = {step: {} for step in steps}
    pooled = 0.0
    for split in ("train_loss", "val_loss"):
        columns = [[line[step][split] for line in by_step] for step in steps]
        # Not of the first step, where all are as good as untrained.
        pooled = math.sqrt(np.mean([deviation(values) ** 2 for values in columns[1:]]))
        for step, band in zip(steps, bands(columns, pooled, factor)):
            curve[step][split] = band
    # Over the whole split it scatters less than over random batches. Enough seeds show that.
    last = [run.val_loss for run in runs]
    of_itself = bands([last], 0.0, student(level, own) * spread)
    val_loss = min(of_itself + bands([last], pooled, factor), key=lambda band: band.width)
    return Expectation(
        preset=name,
        config={**runs[0].config, "data": None, "seed": PRESETS[name].seed},
        text=runs[0].text,
        seeds=[run.config["seed"] for run in runs],
        curve=curve,
        val_loss=val_loss,
        memory=max(run.memory for run in runs),
        resident=[run.resident for run in runs],
        seconds=[round(run.seconds, 1) for run in runs],
        machine=runs[0].machine,
        sample=runs[0].sample,
    )


def outside(expected: Expectation, run: Run) -> list[str]:
    """The numbers of a run that are not where they are expected."""
    found = {m["step"]: m for m in run.metrics}
    return [
        f"step {step} {split}"
        for step, both in expected.curve.items()
        for split, band in both.items()
        if found[step][split] not in band
    ] + ["val_loss"] * (run.val_loss not in expected.val_loss)


# --- the runs -------------------------------------------------------------------------------------


def measured(name: str, config: RunConfig, text: Text, work: Path) -> Run:
    """The run of a preset with one seed: from its file, or by training it to its end."""
    stem = f"{name}-{config.seed}-{text.crc:08x}"
    record, out = work / f"{stem}.json", work / stem
    found = Run.read(record)
    if found and found.text == text and found.config == config.to_json():
        print(f"{stem}: measured before ({found.wall:,.0f} s)", flush=True)
        return found
    command = [sys.executable, "-m", "gpt", "train", "--out", str(out)]
    if (out / folder.CHECKPOINT).exists() and not (out / folder.SUMMARY).exists():
        command += ["--resume", "--steps", str(config.steps)]
    else:
        shutil.rmtree(out, ignore_errors=True)
        command += ["--preset", name, "--seed", str(config.seed), "--steps", str(config.steps)]
        command += ["--data", config.data] if config.data is not None else []
    print(f"{stem}: {' '.join(command[1:])}", flush=True)
    started = time.perf_counter()
    code, resident = trained(command, work / f"{stem}.log")
    wall = time.perf_counter() - started
    if code != 0:
        raise RuntimeError(f"{stem} ended with the exit code {code}: {work / stem}.log tells more")
    summary = json.loads((out / folder.SUMMARY).read_text(encoding="utf-8"))
    model_config = folder.read_config(out)[1]
    run = Run(
        config=config.to_json(),
        text=text,
        metrics=curves.read_metrics(out / folder.METRICS),
        val_loss=summary["val_loss"],
        memory=costs.peak_memory(GPT(model_config), config.batch, config.recompute),
        resident=resident,
        wall=wall,
        machine=machine(),
        sample=(out / "sample.txt").read_text(encoding="utf-8"),
    )
    checkpoint.replace({record: json.dumps(dataclasses.asdict(run)).encode()})
    print(f"{stem}: val loss {run.val_loss:.4f}, {wall:,.0f} s", flush=True)
    return run


def trained(command: list[str], log: Path) -> tuple[int, int]:
    """Run a training; its exit code, and the most memory that it had, in bytes."""
    with open(log, "ab") as file:
        # In a session of its own, so that Ctrl-C reaches it once, from here.
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, start_new_session=True)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.send_signal(signal.SIGINT)  # it saves what it has
            os.waitpid(process.pid, 0)
            raise
    unit = 1 if sys.platform == "darwin" else 1024
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit


def machine() -> str:
    """What it ran on, in a few words."""
    facts = label.label(0)
    numba = f"Numba {facts['numba']}" if facts["numba"] else "no Numba"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS")
    return (
        f"{cores} cores ({platform.machine()}{f', {threads} thread' if threads else ''}), "
        f"Python {facts['python']}, NumPy {facts['numpy']}, {numba}"
    )


def write(new: Expectation, runs: list[Run], out: Path) -> None:
    """Put what is expected of one preset beside the rest: the file, the page and the picture."""
    file, page = out / "gpt" / "expectations.json", out / "docs" / "presets.md"
    picture = out / "docs" / "images" / f"preset-{new.preset}.svg"
    known = expectations.read(file) if file.exists() else []
    kept = [
        e
        for e in known
        if e.preset != new.preset
        or (e.config == new.config and e.text != new.text and e.text.name == new.text.name)
    ]
    order = list(PRESETS)
    everything = sorted([*kept, new], key=lambda e: (order.index(e.preset), e.text.characters))
    content = json.dumps([e.to_json() for e in everything], indent=1, ensure_ascii=False) + "\n"
    for path in (file, picture):
        path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.replace(
        {
            file: content.encode(),
            page: presets_page.page(everything).encode(),
            picture: presets_page.picture(new, [run.metrics for run in runs]),
        }
    )
    print(f"wrote {file}, {page} and {picture}")


def main() -> int:
    default_texts = os.environ.get("TENSORGRAD_SHARED") or ROOT.parent / "shared"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="presets [all]")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each [5]")
    parser.add_argument("--steps", type=int, metavar="N", help="only to try the script")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "presets", metavar="DIR",
                        help="what has been measured [runs/presets]")  # fmt: skip
    parser.add_argument("--texts", type=Path, default=Path(default_texts) / "data", metavar="DIR",
                        help=f"folder with {' and '.join(TEXTS.values())}")  # fmt: skip
    given = parser.parse_args()
    if unknown := set(given.names) - set(PRESETS):
        parser.error(f"there is no preset {', '.join(unknown)}, but {', '.join(PRESETS)}")
    if given.seeds < 2 or (given.steps is not None and given.steps < 2):
        parser.error("--seeds and --steps are 2 at least")
    out = ROOT
    if given.steps is not None:
        out = given.work = given.work.resolve() / f"{given.steps}-steps"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    given.work, given.texts = given.work.resolve(), given.texts.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    for name in given.names or PRESETS:
        started, data = time.perf_counter(), None
        if name in TEXTS:
            data = given.texts / TEXTS[name]
            if not data.exists():
                print(f"{name}: left out, for there is no {data}: name its folder with --texts")
                continue
        config = dataclasses.replace(PRESETS[name], data=None if data is None else str(data))
        if given.steps is not None:
            config = dataclasses.replace(config, steps=given.steps)
        text = expectations.text_of(config.data)
        try:
            runs = [
                measured(name, dataclasses.replace(config, seed=config.seed + i), text, given.work)
                for i in range(given.seeds)
            ]
        except KeyboardInterrupt:
            print("stopped: called again, it goes on from here")
            return 130
        new = expectation(name, runs)
        for i, run in enumerate(runs):
            others = runs[:i] + runs[i + 1 :]
            wrong = outside(expectation(name, others), run) if len(others) > 1 else []
            if wrong:
                print(f"{name}: seed {run.config['seed']} is not what the others expect: {wrong}")
        write(new, runs, out)
        print(f"{name}: {time.perf_counter() - started:,.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
