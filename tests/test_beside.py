"""A call in a thread of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpt.beside import Beside

ROOT = Path(__file__).resolve().parent.parent


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


def test_nobody_waits_for_it_at_exit() -> None:
    """Ctrl-C while the rest is under way ends the process."""
    code = "import time; from gpt.beside import Beside; Beside(lambda: time.sleep(60)); 1 / 0"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert "ZeroDivisionError" in done.stderr
