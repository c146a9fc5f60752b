"""Gradients averaged in memory that processes share, in real processes that mpiexec starts."""

from __future__ import annotations

import time

import pytest
from mpiexec import LIMIT, assert_fine, run

PROGRAMS = ["means", "as_mpi", "kept", "stopped", "two_models"]
OTHERS = [("kill", 0), ("exit", 0), ("exit", 1)]


# Together, for what takes the time is the start.
@pytest.mark.parametrize(
    ("workers", "programs"), [(2, [*PROGRAMS, "memory", "by_mpi"]), (4, PROGRAMS)]
)
def test_several_processes(workers: int, programs: list[str]) -> None:
    assert_fine(workers, "tests.averages", *programs)


@pytest.mark.parametrize(
    ("how", "who"),
    [("kill", 1), *(pytest.param(*x, marks=pytest.mark.slow) for x in OTHERS)],
)
def test_who_waits_for_gradients_does_not_wait_for_ever(how: str, who: int) -> None:
    started = time.monotonic()
    done = run(2, "-m", "tests.averages", f"ends:{how}:{who}")
    assert done.returncode != 0
    assert "fine" not in done.stdout
    assert time.monotonic() - started < LIMIT / 3
    if how == "exit":
        message = f"all_reduce: rank {1 - who} waits for the other processes, and rank {who} has"
        assert message in done.stderr
