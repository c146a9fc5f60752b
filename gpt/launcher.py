"""``--workers N``: the same command in several processes, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

FIRST_SPEAKS = 2.0  # seconds in which the first worker may say what is wrong with all

# The lines by which MPICH's mpiexec tells of a process that was killed, and of signals.
_CHATTER = ("====", "=   ", "YOUR APPLICATION TERMINATED", "This typically refers",
            "Please see the FAQ", "[mpiexec@", "[proxy:")  # fmt: skip
_OUR_CODES = (0, 1, 2, 3, 130, 141, 143)


def start(workers: int, argv: Sequence[str]) -> int:
    """Run the command line ``argv`` in several processes; returns the exit code.

    They share the cores, or the threads that ``OMP_NUM_THREADS`` allows.

    Raises:
        RuntimeError: there is no MPI.
    """
    script = Path(sys.argv[0])
    program = [str(script), *argv[1:]] if script.name == "train_gpt.py" else ["-m", "gpt", *argv]
    process = subprocess.Popen(
        [mpiexec(), "-n", str(workers), sys.executable, *program],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        start_new_session=True,  # Ctrl-C arrives here, and is handed on once
        env={**os.environ, **share(workers), **_terminal()},
    )  # fmt: skip
    before = {
        number: signal.signal(number, lambda n, frame: process.send_signal(n))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.strip() and not line.startswith(_CHATTER):
                print(line, end="", file=sys.stderr, flush=True)
        code = process.wait()
    finally:
        process.stderr.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if code in _OUR_CODES:
        return code
    killed = abs(code) - 128 if abs(code) > 128 else abs(code)
    if killed == getattr(signal, "SIGPIPE", None):  # nobody reads the output any more
        return 141
    print(
        f"error: a worker was killed by the signal {killed}, and the others have ended with it; "
        "the last checkpoint is kept: the same command with --resume goes on from it",
        file=sys.stderr,
    )
    return 128 + killed


def share(workers: int) -> dict[str, str]:
    """What says to so many workers how many threads each of them has."""
    import tensorgrad

    return {"OMP_NUM_THREADS": str(max(1, tensorgrad.get_num_threads() // workers))}


def _terminal() -> dict[str, str]:
    """What workers, who write through mpiexec, have to know of the terminal, if there is one."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return {}
    from .reporting import COLUMNS

    return {COLUMNS: str(shutil.get_terminal_size().columns)}


def mpiexec() -> str:
    """The program that starts workers; RuntimeError if it is not there."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None or find_spec("mpi4py") is None:
        missing = "mpiexec" if found is None else "mpi4py"
        raise RuntimeError(
            f"several workers need MPI, and there is no {missing}: "
            "pip install 'tensorgrad-gpt[mpi]'"
        )
    return found


def end(problem: str, code: int) -> int:
    """Say what went wrong; of several workers one says it for all, and all end."""
    from tensorgrad import distributed

    several = distributed.launch_size() > 1
    if rank := distributed.launch_rank():
        time.sleep(FIRST_SPEAKS)  # if the first has the same trouble, this is the end
        problem = f"worker {rank}: {problem}"
    print(problem, file=sys.stderr, flush=True)
    if several:
        sys.stdout.flush()
        os._exit(code)  # without waiting for the others, which mpiexec ends
    return code
