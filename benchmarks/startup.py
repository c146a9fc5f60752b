"""``python -m benchmarks.startup``: how long until something happens, and what is installed for it.

Importing, one training step with kernels that have to be compiled and with kept ones, and the size
of the packages; PyTorch's beside ours where there is something to compare.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import interpreter

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ["-m", "gpt", "train", "--steps", "1"]  # what examples/train_gpt.py does
TIMES = 7


def seconds(arguments: list[str], times: int = TIMES, **environment: str) -> float:
    """The shortest wall time of a Python process with these arguments."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, check=False,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **environment},
        )  # fmt: skip
        taken.append(time.perf_counter() - started)
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
    return min(taken)


def megabytes(*packages: str) -> float:
    """The size of installed packages, with the libraries that their wheels bring along."""
    total = 0
    for package in packages:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for part in (folder, folder.parent / f"{package}.libs"):
            total += sum(f.stat().st_size for f in part.rglob("*") if f.is_file())
    return total / 1e6


def main() -> None:
    print(interpreter.said(), flush=True)
    empty = seconds(["-c", "pass"])
    for package in ("numpy", "tensorgrad", "torch"):
        taken = seconds(["-c", f"import {package}"]) - empty
        print(f"import {package:12} {taken:6.2f} s more than Python itself")
    with tempfile.TemporaryDirectory() as folder:
        run = [*TRAIN, "--out", f"{folder}/run"]
        kept = {"NUMBA_CACHE_DIR": f"{folder}/kept"}
        cold, warm = seconds(run, 1, **kept), seconds(run, 3, **kept)
    print(f"train --steps 1: compiling kernels {cold:.1f} s, with kept ones {warm:.1f} s")
    for packages in (("tensorgrad", "nn", "gpt"), ("numpy",), ("numba", "llvmlite"), ("torch",)):
        print(f"{' + '.join(packages):24} {megabytes(*packages):6.0f} MB installed")


if __name__ == "__main__":
    main()
