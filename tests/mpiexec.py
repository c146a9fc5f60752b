"""Starts programs in several processes and finds them, for tests; never waits for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Numba's kernels do not know of other processes, and loading them takes longer than the tests.
PLAIN = {"TENSORGRAD_BACKEND": "numpy"}
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK")  # MPICH's name for it, and Open MPI's
LIMIT = 120  # seconds; nothing takes more than a few, unless it hangs or the machine is busy


def mpiexec() -> str:
    """The path of mpiexec; skips where several processes cannot be started."""
    if find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed: pip install 'tensorgrad-gpt[mpi]'")
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.skip("there is no mpiexec: pip install mpich")
    return found


def run(
    workers: int, *command: str, start: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Start ``python *command`` in several processes, and wait for their end."""
    return subprocess.run(
        [*(start or [mpiexec()]), "-n", str(workers), sys.executable, *command],
        **{
            "env": {**os.environ, **PLAIN}, "cwd": ROOT, "capture_output": True, "text": True,
            "timeout": LIMIT, **options,
        },
    )  # fmt: skip


def assert_fine(workers: int, module: str, *programs: str) -> None:
    """Each of several processes runs these programs of a module, and says so at its end."""
    done = run(workers, "-m", module, *programs)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("fine") == workers, done.stdout + done.stderr


def process_of(rank: int, word: str) -> int:
    """The number of a worker's process that has ``word`` on its command line (Linux)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, facts = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:  # it has ended meanwhile
            continue
        own = {f"{name}={rank}".encode() for name in RANKS}
        if word.encode() in line and own & set(facts.split(b"\0")):
            return int(folder.name)
    raise ProcessLookupError(f"there is no worker {rank}")


def is_there(rank: int, word: str) -> bool:
    """Whether there is such a process."""
    try:
        process_of(rank, word)
    except ProcessLookupError:
        return False
    return True
