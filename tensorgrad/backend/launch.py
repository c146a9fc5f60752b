"""What mpiexec says of this process: one of how many, and how many of them share this machine.

It says so in the environment, which is read here without loading MPI. Importing this gives every
process its share of the cores. NumPy looks at it only once, while it is loaded: whoever imports
NumPy first has chosen for himself.
"""

from __future__ import annotations

import os

# MPICH, Intel MPI, MVAPICH and srun --mpi=pmi2; Open MPI; srun --mpi=pmix.
_SIZE = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
_RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
_LOCAL = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")


def _first(names: tuple[str, ...], default: int) -> int:
    for name in names:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return default


def rank() -> int:
    """The number of this process among those that were started together; 0 if it is alone."""
    return _first(_RANK, 0)


def size() -> int:
    """How many processes were started together; 1 if no mpiexec has started this one."""
    if not any(name in os.environ for name in _RANK):
        return 1  # Slurm tells the number of tasks also to programs that are none of them
    return _first(_SIZE, 1)


def cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def threads() -> int:
    """``OMP_NUM_THREADS``, or else the number of cores that this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    return cores()


def share_cores() -> None:
    """Of several processes, each gets as many threads as there are cores for it.

    A choice in ``OMP_NUM_THREADS`` stands. Threads of several processes that wait for the same
    core spin while they do, and make a step many times as long.
    """
    if size() > 1:
        here = _first(_LOCAL, size())
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // here)))


share_cores()
