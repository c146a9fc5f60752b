"""Training with several workers: the same run as with one, and one end for all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosts import OVER_TCP, two_hosts
from mpiexec import LIMIT, PLAIN, ROOT, is_there, mpiexec, process_of, run
from ranks import SHARED_RUN
from tiny_run import TEXT, flags, metrics, state, trainer

import tensorgrad
from gpt import LivePlot, TensorBoard, checkpoint
from gpt.__main__ import main
from gpt.callbacks import Callbacks
from gpt.folder import BEST, CHECKPOINT, PREVIOUS

LINUX = sys.platform == "linux"
ON_HOSTS = {**os.environ, **PLAIN, **OVER_TCP}


def workers_train(
    count: int, out: Path, until: int, resume: bool = False, sharded: bool = False
) -> None:
    more = ("resume" if resume else "") + (":sharded" if sharded else "")
    done = run(count, "-m", "tests.ranks", f"trains:{out}:{until}:{more}")
    assert done.returncode == 0, done.stdout + done.stderr


def assert_same_but_for_rounding(out: Path, reference: Path) -> None:
    """Metrics, weights and optimizer within rounding; random states and steps to the bit."""
    lines = [metrics(folder) for folder in (out, reference)]
    assert len(lines[0]) == len(lines[1]) > 4
    for own, expected in zip(*lines):
        assert own["step"] == expected["step"]
        for name in ("train_loss", "val_loss", "grad_norm", "lr"):
            np.testing.assert_allclose(own[name], expected[name], 1e-12, 0, name)
    for name in (CHECKPOINT, BEST):
        own, expected = (state(folder, name) for folder in (out, reference))
        facts, known = own.pop("header")["facts"], expected.pop("header")["facts"]
        assert facts["random"] == known["random"]
        assert facts["step"] == known["step"]
        for key, array in expected.items():
            assert array.dtype == np.float64 or key.endswith("step"), key
            np.testing.assert_allclose(own[key], array, 1e-9, 1e-13, key)


@pytest.fixture
def double() -> Iterator[None]:
    """In float64, for in float32 the rounding of gradients near 0 becomes steps of Adam."""
    tensorgrad.set_default_dtype(tensorgrad.float64)
    tensorgrad.backend.use("numpy")
    yield
    tensorgrad.backend.use()
    tensorgrad.set_default_dtype(tensorgrad.float32)


@pytest.fixture
def one(double: None, tmp_path: Path) -> Path:
    """The run that all are compared with: of one process."""
    mpiexec()
    (tmp_path / "one").mkdir()
    trainer(tmp_path / "one" / "run", **SHARED_RUN).fit()
    return tmp_path / "one" / "run"


@pytest.mark.slow  # the next test has three, two and one
def test_workers_train_as_one(one: Path, tmp_path: Path) -> None:
    workers_train(4, tmp_path / "run", 8)
    assert_same_but_for_rounding(tmp_path / "run", one)


def test_another_number_of_workers_goes_on(one: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    workers_train(3, out, 3)
    workers_train(2, out, 5, resume=True)
    trainer(out, True, **SHARED_RUN).fit()
    assert_same_but_for_rounding(out, one)


def test_a_divided_optimizer_trains_as_one(one: Path, tmp_path: Path) -> None:
    """Its checkpoints are those of any number of workers, that divide it or not."""
    out = tmp_path / "run"
    workers_train(3, out, 3, sharded=True)
    workers_train(2, out, 5, resume=True, sharded=True)
    trainer(out, True, **SHARED_RUN, shard_optimizer=True).fit()
    assert_same_but_for_rounding(out, one)


def test_two_hosts_train_as_one(one: Path, tmp_path: Path) -> None:
    """All the way through a network, and no message is left behind."""
    out = tmp_path / "run"
    with two_hosts(tmp_path) as start:
        programs = (
            "on_two_hosts",
            "collectives",
            "training",
            "asked",
            "farewells",
            f"trains:{out}:8:",
        )
        done = run(2, "-m", "tests.ranks", *programs, start=start, env=ON_HOSTS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "was not matched" not in done.stderr  # which UCX says of them
    assert_same_but_for_rounding(out, one)


def test_kill_of_a_host_ends_the_run(tmp_path: Path) -> None:
    """With its checkpoint kept, from which one process goes on."""
    checkpoint_there, words = tmp_path / "run" / CHECKPOINT, command(tmp_path, steps=1_000_000)
    with two_hosts(tmp_path) as start:
        process = subprocess.Popen(
            [*start, "-n", "2", sys.executable, "-m", "gpt", *words], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ON_HOSTS,
        )  # fmt: skip
        until_there(checkpoint_there, process)
        os.kill(process_of(1, str(tmp_path)), signal.SIGKILL)
        killed = time.monotonic()
        said(process)
        assert process.returncode != 0
        while is_there(0, str(tmp_path)):  # mpiexec does not wait for those it ends
            assert time.monotonic() - killed < 15
            time.sleep(0.01)
    step = checkpoint.read(checkpoint_there)[0]["facts"]["step"]
    words = command(tmp_path, "--resume", "--workers", "1", steps=step + 3)
    while (code := main(words)) and time.monotonic() - killed < 15:
        time.sleep(0.1)  # a process that is ending has no command line any more, but its locks
    assert code == 0


def test_what_writes_is_of_the_first_worker() -> None:
    plot = LivePlot()
    assert TensorBoard.first_only
    assert [repr(c) for c in Callbacks([], [plot, print]).given] == ["LivePlot", "print"]
    assert [repr(c) for c in Callbacks([], [plot, print], first=False).given] == ["print"]


def test_troubles_and_callbacks_of_one_worker(tmp_path: Path) -> None:
    names = ("first_draws", "comes_apart", "diverges", "begins_otherwise")
    done = run(2, "-m", "tests.ranks", *(f"{name}:{tmp_path / name / 'run'}" for name in names))
    assert done.returncode == 0, done.stdout + done.stderr


# --- the command line -----------------------------------------------------------------------------


def command(tmp_path: Path, *more: str, **changes: Any) -> list[str]:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    choices = {"batch": 4, "pictures": False, **changes}
    return ["train", *flags(**choices), "--data", str(text), "--out", str(tmp_path / "run"), *more]


def started(words: list[str], backend: str = "numpy") -> subprocess.Popen[str]:
    mpiexec()
    return subprocess.Popen(
        [sys.executable, "-m", "gpt", *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TENSORGRAD_BACKEND": backend},
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> tuple[str, str]:
    """All that it writes, but that kernels are compiled."""
    out, complaints = process.communicate(timeout=LIMIT)
    lines = complaints.splitlines(keepends=True)
    return out, "".join(line for line in lines if not line.startswith("tensorgrad: compiling"))


def until_there(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_flag_starts_them(tmp_path: Path) -> None:
    process = started(command(tmp_path, "--workers", "2"), backend="")
    out, complaints = said(process)
    assert (process.returncode, complaints) == (0, "")
    assert out.count("parameters: layers") == 1, "one of them speaks"
    (tmp_path / "one").mkdir()
    trainer(tmp_path / "one" / "run", batch=4, pictures=False).fit()
    for name in ("train_loss", "val_loss"):
        lines = [metrics(folder) for folder in (tmp_path / "run", tmp_path / "one" / "run")]
        own, expected = ([m[name] for m in several] for several in lines)
        np.testing.assert_allclose(own, expected, 1e-5)


@pytest.mark.skipif(not LINUX, reason="reads of /proc who is who")
@pytest.mark.parametrize("rank", [0, 1])
def test_kill_of_a_worker_ends_the_run(rank: int, tmp_path: Path) -> None:
    kill_of_a_worker(rank, tmp_path, 0.0)


@pytest.mark.slow
@pytest.mark.skipif(not LINUX, reason="reads of /proc who is who")
@pytest.mark.parametrize("time", range(20))
def test_kill_at_any_time(time: int, tmp_path: Path) -> None:
    kill_of_a_worker(time % 2, tmp_path, np.random.default_rng(time).uniform(0, 2))


def kill_of_a_worker(rank: int, tmp_path: Path, after: float) -> None:
    words = command(tmp_path, "--workers", "2", steps=1_000_000)
    process = started(words)
    until_there(tmp_path / "run" / CHECKPOINT, process)
    time.sleep(after)
    os.kill(process_of(rank, str(tmp_path)), signal.SIGKILL)
    killed = time.monotonic()
    _, complaints = said(process)
    assert time.monotonic() - killed < 15
    assert process.returncode == 137
    assert complaints == (
        "error: a worker was killed by the signal 9, and the others have ended with it; the last "
        "checkpoint is kept: the same command with --resume goes on from it\n"
    )
    with pytest.raises(ProcessLookupError):
        process_of(1 - rank, str(tmp_path))
    # The kill can have been between two renames: the one before is there then, and enough.
    steps = []
    paths = [tmp_path / "run" / name for name in (CHECKPOINT, PREVIOUS)]
    checkpoint.restore_first(
        paths, lambda path: steps.append(checkpoint.read(path)[0]["facts"]["step"])
    )
    assert steps[0] >= 3


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_ends(number: int, tmp_path: Path) -> None:
    process = started(command(tmp_path, "--workers", "2", steps=1_000_000))
    until_there(tmp_path / "run" / CHECKPOINT, process)
    process.send_signal(number)
    out, complaints = said(process)
    assert process.returncode == 128 + number
    assert complaints.startswith("stopping after this step")
    assert complaints.count("\n") == 1, "one of them speaks"
    step = int(re.search(r"stopped after step ([\d,]+)", out)[1].replace(",", ""))
    assert "--resume" in out
    header, _ = checkpoint.read(tmp_path / "run" / CHECKPOINT)
    assert header["facts"]["step"] == step


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--workers", "2", "--batch", "1"], "2 workers cannot share a batch of 1"),
        (["--workers", "2", "--lr", "x"], "lr"),
        pytest.param(["--workers", "2", "--data", "nowhere"], "nowhere", marks=pytest.mark.slow),
    ],
)
def test_wrong_use_is_one_line(more: list[str], message: str, tmp_path: Path) -> None:
    process = started(command(tmp_path, *more))
    out, complaints = said(process)
    assert process.returncode == 2
    assert out == ""
    assert len(complaints.splitlines()) == 1
    assert message in complaints


def test_no_worker_and_no_mpi(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(command(tmp_path, "--workers", "0")) == 2
    assert "workers must be at least 1" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr("gpt.launcher.shutil.which", lambda name: None)
    assert main(command(tmp_path, "--workers", "2")) == 2
    complaint = capsys.readouterr().err
    assert "pip install 'tensorgrad-gpt[mpi]'" in complaint
    assert len(complaint.splitlines()) == 1


def test_mpiexec_says_another_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpt", *command(tmp_path, "--workers", "3")], cwd=ROOT,
        env={**os.environ, "PMI_SIZE": "2", "PMI_RANK": "0"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: mpiexec has started 2 workers, and --workers says 3: " \
        "leave it out\n"  # fmt: skip
