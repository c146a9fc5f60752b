"""Kill a training with -9 again and again, resume it, and compare its end with a quiet run's.

    python -m tests.kill --times 100
    python -m tests.kill --workers 2 --times 20

Half of the kills come at a random time, half in the middle of a save: before a random fsync or
rename, or after half of a write. After each, every checkpoint there is must be whole; and the run
that ends at last must have the weights, optimizer, random states and metrics of one that nobody
killed, to the bit. It needs os.fork, with which a start takes no time.

Of several workers one is drawn, and killed at a random time, also while they start. All must have
ended within seconds, with one line that says so. It needs Linux, where one can see who is who.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mpiexec import LIMIT, ROOT, process_of
from tiny_run import TEXT, assert_same_run, flags, trainer

from gpt import checkpoint, reporting
from gpt.folder import BEST, CHECKPOINT, CONFIG, PREVIOUS
from tensorgrad import serialization

STEPS = 60
OPERATIONS = 40  # of the file system, among which one is drawn
# Of several workers: a run takes as long as its start.
LONGER = {"steps": 300, "batch": 4, "eval_every": 5, "save_every": 3, "sample_tokens": 1,
          "pictures": False}  # fmt: skip
SOON = 15.0  # seconds in which all have ended after one


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="kills [100]")
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills [0]")
    parser.add_argument("--workers", type=int, default=1, help="processes of a run [1]")
    args = parser.parse_args(argv)
    if args.workers > 1:
        return kill_workers(args.workers, args.times, random.Random(args.seed))
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
                check_checkpoints(out)
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
    resume = can_go_on(out)
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


def can_go_on(out: Path) -> bool:
    there = any((out / name).exists() for name in (CHECKPOINT, PREVIOUS))
    return there and (out / CONFIG).exists()


def check_checkpoints(out: Path) -> None:
    """ValueError if one is not whole."""
    for kind in (CHECKPOINT, PREVIOUS, BEST):
        if (out / kind).exists():
            checkpoint.read(out / kind)


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


# --- several workers ------------------------------------------------------------------------------


def kill_workers(workers: int, times: int, drawn: random.Random) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(TEXT)
        for quiet in ("first", "quiet"):  # the first compiles what is not compiled
            started = time.perf_counter()
            said = ended(begin_workers(workers, folder / quiet))
            lasts = time.perf_counter() - started
        assert said == (0, ""), said
        killed, starting, longest, runs = [0] * workers, 0, 0.0, 0
        while sum(killed) < times:
            out = folder / f"run {runs}"
            while True:
                process = begin_workers(workers, out)
                time.sleep(drawn.uniform(0, lasts) if sum(killed) < times else 0)
                rank = drawn.randrange(workers)
                if sum(killed) == times or not kill_worker(process, rank, str(out)):
                    break
                at = time.perf_counter()
                check_end(*ended(process, SOON))
                longest = max(longest, time.perf_counter() - at)
                killed[rank] += 1
                starting += not can_go_on(out)
                check_checkpoints(out)
            assert (code := ended(process)[0]) == 0, f"exit code {code}"
            assert_same_run(out, folder / "quiet")
            runs += 1
    said = ", ".join(f"{count} of worker {rank}" for rank, count in enumerate(killed))
    print(
        f"{sum(killed)} kills ({said}), {starting} of them before the first checkpoint, in {runs} "
        f"runs: all had ended after {longest:.1f} s at most, with one line, no checkpoint was "
        "corrupt, and each run ended as the one that nobody killed"
    )
    return 0


def begin_workers(workers: int, out: Path) -> subprocess.Popen[str]:
    """Train, or go on, by the command line."""
    words = (
        ["--resume"] if can_go_on(out) else [*flags(**LONGER), "--data", out.parent / "text.txt"]
    )
    command = [sys.executable, "-m", "gpt", "train", "--workers", workers, "--out", out, *words]
    return subprocess.Popen(
        [str(word) for word in command], cwd=ROOT, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def kill_worker(process: subprocess.Popen[str], rank: int, out: str) -> bool:
    """Kill one as soon as it is there; False if the run has ended before."""
    while process.poll() is None:
        try:
            os.kill(process_of(rank, out), signal.SIGKILL)
        except ProcessLookupError:
            time.sleep(0.01)
        else:
            return True
    return False


def ended(process: subprocess.Popen[str], limit: float = LIMIT) -> tuple[int, str]:
    """The exit code, and what was complained of; TimeoutExpired if it goes on."""
    try:
        _, complaints = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise
    return process.returncode, complaints


def check_end(code: int, complaints: str) -> None:
    """AssertionError unless it tells in one line of the worker that was killed."""
    assert code == 128 + signal.SIGKILL, f"exit code {code}: {complaints}"
    assert len(complaints.splitlines()) == 1, complaints
    assert "a worker was killed by the signal 9" in complaints, complaints
    assert "--resume" in complaints, complaints


if __name__ == "__main__":
    sys.exit(main())
