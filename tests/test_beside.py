"""A call in a thread of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tensorgrad
from gpt.beside import Beside

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorgrad, "get_num_threads", lambda: 2)


def test_both_go_on() -> None:
    """The call has begun, and has not ended, when the one who made it goes on."""
    begun, told = threading.Event(), threading.Event()

    def call() -> str:
        begun.set()
        assert told.wait(30)
        return "told"

    beside = Beside(call)
    assert begun.wait(30)
    told.set()
    assert beside.result() == beside.result() == "told"


def test_what_it_raises_is_raised() -> None:
    beside = Beside(lambda: [][1])
    for _ in range(2):
        with pytest.raises(IndexError):
            beside.result()


def test_it_sees_the_callers_context() -> None:
    with np.errstate(divide="raise"):
        beside = Beside(lambda: np.ones(1) / 0)
    with pytest.raises(FloatingPointError):
        beside.result()


def test_one_thread_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is the caller's, who does it once, when the result is wanted."""
    monkeypatch.setattr(tensorgrad, "get_num_threads", lambda: 1)
    callers: list[int] = []
    beside = Beside(lambda: callers.append(threading.get_ident()))
    assert not callers
    assert beside.result() is beside.result() is None
    assert callers == [threading.get_ident()]
    failing = Beside(lambda: [][1])
    for _ in range(2):
        with pytest.raises(IndexError):
            failing.result()


def test_nobody_waits_for_it_at_exit() -> None:
    """Ctrl-C while the rest is under way ends the process."""
    code = "import time; from gpt.beside import Beside; Beside(lambda: time.sleep(60)); 1 / 0"
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )
    assert "ZeroDivisionError" in done.stderr
