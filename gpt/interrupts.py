"""Ctrl-C and SIGTERM while a step is computed: the step is finished first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


@contextmanager
def interruptible(speaks: bool = True) -> Iterator[list[int]]:
    """A list that receives the first signal's number, so that a step is never cut in half.

    A second one does at once what it did before: Ctrl-C interrupts, SIGTERM ends the program. Who
    does not ``speak`` leaves it to others to say so.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def handler(signum: int, frame: Any) -> None:
        received.append(signum)
        put_back()
        if not speaks:
            return
        with suppress(OSError, ValueError):  # print could be in the middle of a line; this not
            again = f"{NAMES[signal.Signals(signum)]} again: at once, without saving"
            os.write(2, f"\nstopping after this step ({again})\n".encode())

    def put_back() -> None:
        for signum, previous in before.items():
            signal.signal(signum, previous)

    try:
        for signum in NAMES:
            before[signum] = signal.signal(signum, handler)
    except ValueError:  # not in the main thread: signals do not arrive here
        yield received
        return
    try:
        yield received
    finally:
        put_back()
