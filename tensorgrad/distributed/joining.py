"""The processes that work together: who this one is, and how they find each other."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec

from ..backend import launch
from .group import Group

TIMEOUT = timedelta(minutes=30)

_default: Group | None = None


def is_available() -> bool:
    """True: a single process needs nothing for it; :func:`is_mpi_available` tells of several."""
    return True


def is_mpi_available() -> bool:
    """Whether mpi4py is installed, without which there is one process only."""
    return find_spec("mpi4py") is not None


def is_initialized() -> bool:
    """Whether :func:`init_process_group` has been called."""
    return _default is not None


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
) -> None:
    """Join the processes that ``mpiexec -n N python program.py`` has started.

    A program that was started without mpiexec is alone: it has rank 0 of 1, and needs no MPI.

    Args:
        backend: None or "mpi", the only one.
        init_method: has to be None or "env://": the processes know each other from mpiexec.
        timeout: how long one waits for the others in an operation, 30 minutes by default.
        world_size, rank: mpiexec says them; where they are given, they must be these.

    Raises:
        RuntimeError: there are several processes, but no mpi4py; or the mpiexec is of another MPI
            than the one that mpi4py has loaded.
        ValueError: another backend, another rank or world size, or the second call.
    """
    global _default
    if _default is not None:
        raise ValueError("init_process_group: it has been called before; there is one group")
    if backend not in (None, "mpi"):
        raise ValueError(
            f"init_process_group: there is no backend {backend!r}; leave it out, or give 'mpi': "
            "processes on CPUs, started by mpiexec"
        )
    if init_method not in (None, "env://"):
        raise ValueError(
            f"init_process_group: mpiexec brings the processes together, not {init_method!r}; "
            "leave init_method out"
        )
    seconds = (timeout or TIMEOUT).total_seconds()
    found = _join(launch.size(), backend, seconds)
    for name, given, own in (("rank", rank, found.rank), ("world_size", world_size, found.size)):
        if given not in (-1, own):
            found.close()
            raise ValueError(f"init_process_group: {name} is {own}, and {given} was given")
    _default = found


def _join(announced: int, backend: str | None, timeout: float) -> Group:
    if announced == 1 and not (backend == "mpi" and is_mpi_available()):
        return Group()
    if not is_mpi_available():
        raise RuntimeError(
            f"mpiexec has started {announced} processes, and they cannot find each other without "
            "mpi4py: pip install 'tensorgrad-gpt[mpi]'"
        )
    from .mpi import World

    try:
        found = World(timeout)
    except (ImportError, RuntimeError) as error:
        raise RuntimeError(
            f"mpi4py finds no MPI ({error}): pip install mpich, or load the MPI of this machine"
        ) from None
    if announced > 1 and found.size != announced:
        found.close()
        raise RuntimeError(
            f"mpiexec has started {announced} processes, but MPI knows of {found.size}: this "
            "mpiexec is not of the MPI that mpi4py has loaded; use the mpiexec of that one "
            "(the package mpich has its own, beside python)"
        )
    return found


def destroy_process_group(group: None = None) -> None:
    """Part from the other processes. Optional at the end of a program."""
    global _default
    joined(group).close()
    _default = None


def get_rank(group: None = None) -> int:
    """The number of this process: 0 to ``get_world_size() - 1``."""
    return joined(group).rank


def get_world_size(group: None = None) -> int:
    """How many processes there are."""
    return joined(group).size


def get_backend(group: None = None) -> str:
    """The name of what carries the messages: "mpi"."""
    joined(group)
    return "mpi"


def joined(group: None = None) -> Group:
    """The group of all processes; ValueError before :func:`init_process_group`."""
    if group is not None:
        raise ValueError("there is one group, that of all processes: leave group out")
    if _default is None:
        raise ValueError(
            "the default process group has not been initialized: call "
            "tensorgrad.distributed.init_process_group() first"
        )
    return _default
