"""MPI goes on only while it is asked: a thread that asks while its process computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Any


class Progress:
    """Asks again and again, as long as something is under way.

    Loops and matrix products let other threads have the interpreter, so the thread gets its turn
    in the middle of a backward pass.

    Args:
        ask: lets what is under way go on.
        pause: seconds between two times.
    """

    def __init__(self, ask: Callable[[], Any], pause: float) -> None:
        self._ask, self._pause = ask, pause
        self._under_way: dict[int, Any] = {}
        self._something = Event()
        self._stopped = False
        self._thread: Thread | None = None

    def began(self, request: Any) -> None:
        self._under_way[id(request)] = request
        if self._thread is None and not self._stopped:
            self._thread = Thread(target=self._work, name="tensorgrad-progress", daemon=True)
            self._thread.start()
        self._something.set()

    def ended(self, request: Any) -> None:
        """It is over; or it never was of those that began."""
        self._under_way.pop(id(request), None)

    def stop(self) -> None:
        """Return when nothing is asked any more."""
        self._stopped = True
        self._something.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._stopped:
            self._something.wait()
            self._something.clear()
            while self._under_way and not self._stopped:
                self._ask()
                time.sleep(self._pause)
