"""Kill a training with -9 again and again, resume it, and compare its end with a quiet run's.

    python -m tests.kill --times 100

Half of the kills come at a random time, half in the middle of a save: before a random fsync or
rename, or after half of a write. After each, every checkpoint there is must be whole; and the run
that ends at last must have the weights, optimizer, random states and metrics of one that nobody
killed, to the bit. It needs os.fork, with which a start takes no time.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tiny_run import assert_same_run, trainer

from gpt import checkpoint, reporting
from gpt.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS
from tensorgrad import serialization

STEPS = 60
OPERATIONS = 40  # of the file system, among which one is drawn


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="kills [100]")
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills [0]")
    args = parser.parse_args(argv)
    reporting.draw = lambda *args: ([], [])  # no pictures
    drawn = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder / "first")  # loads what would otherwise be loaded after every fork
        started = time.perf_counter()
        train(folder / "quiet")
        lasts = time.perf_counter() - started
        kills = runs = saving = 0
        while kills < args.times:
            out = folder / f"run {runs}"
            while not finished(out, drawn, lasts, kills):
                kills += 1
                saving += bool(list(out.glob("*.tmp")) + list(out.glob("*.new")))
                for kind in (CHECKPOINT, PREVIOUS, BEST):
                    if (out / kind).exists():
                        checkpoint.read(out / kind)  # raises if it is not whole
                if kills == args.times:
                    drawn = None
            assert_same_run(out, folder / "quiet")
            runs += 1
        print(
            f"{kills} kills, {saving} of them while a file was written, in {runs} runs of {STEPS} "
            "steps: no checkpoint was corrupt, and each run ended as the one that nobody killed"
        )
    return 0


def finished(out: Path, drawn: random.Random | None, lasts: float, kills: int) -> bool:
    """Train, or go on, until the end or a kill, whichever is first; None draws no kill."""
    resume = any((out / name).exists() for name in (CHECKPOINT, PREVIOUS))
    resume = resume and (out / CONFIG).exists()
    if drawn is None:
        wait(begin(lambda: train(out, resume)))
        return True
    if kills % 2:
        at = drawn.randint(1, OPERATIONS)
        child = begin(lambda: (die_at(at), train(out, resume)))
    else:
        child = begin(lambda: train(out, resume))
        time.sleep(drawn.uniform(0, lasts))
        os.kill(child, signal.SIGKILL)
    return wait(child)


def train(out: Path, resume: bool = False) -> None:
    trainer(out, resume, steps=STEPS, eval_every=5, save_every=3, sample_tokens=1).run()


def begin(work: Callable[[], Any]) -> int:
    """Do ``work`` in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def wait(child: int) -> bool:
    """Whether the process has ended by itself; RuntimeError if it has failed."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the training has ended with the exit code {code}")
    return code == 0


def die_at(count: int) -> None:
    """Kill this process before its file operation of this number; a write is cut in half."""
    left = [count]

    def fatal(real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        return operation

    def write_half(name: Any, mode: str) -> Any:
        file = open(name, mode)  # noqa: SIM115 (the caller closes it)
        if left[0] == 1:
            file.write(b"\x80" * 100)
            file.flush()
        fatal(lambda: None)()
        return file

    os.fsync, os.replace = fatal(os.fsync), fatal(os.replace)
    serialization.open = write_half  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
