"""Ctrl-C while a step is computed: the step is finished first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """A list that is filled by the first Ctrl-C, so that a step is never cut in half.

    A second Ctrl-C interrupts at once.
    """
    interrupted: list[int] = []

    def handler(signum: int, frame: Any) -> None:
        interrupted.append(signum)
        signal.signal(signal.SIGINT, previous)
        with suppress(OSError, ValueError):  # print could be in the middle of a line; this not
            os.write(2, b"\nstopping after this step (Ctrl-C again: at once, without saving)\n")

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not in the main thread: nobody can press Ctrl-C here
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
