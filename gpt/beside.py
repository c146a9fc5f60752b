"""A call that another core makes while this one goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from threading import Thread
from typing import Generic, TypeVar

import tensorgrad

T = TypeVar("T")


class Beside(Generic[T]):
    """The call ``function()``, begun at once in a thread that nobody waits for at exit.

    It sees the caller's context, such as NumPy's ``errstate``. Where there is to be one thread only
    (``OMP_NUM_THREADS``), the call is made by who waits for it.

    >>> sum_of_all = Beside(lambda: sum(range(10)))
    >>> sum_of_all.result()
    45
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread: Thread | None = None
        if tensorgrad.get_num_threads() > 1:
            self._thread = Thread(target=copy_context().run, args=(self._run,), daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # the caller's to raise
            self._error = error

    def result(self) -> T:
        """What the call returns, or raises, when that is known."""
        if self._thread is not None:
            self._thread.join()
        elif not self._results and self._error is None:
            self._run()
        if self._error is not None:
            raise self._error
        return self._results[0]
