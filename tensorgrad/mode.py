"""Whether operations are recorded: per thread, on by default."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any


class _Mode(threading.local):
    recording = True


state = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return state.recording


class set_grad_enabled:
    """Switch recording on or off: a call, a context manager, or a decorator."""

    def __init__(self, mode: bool) -> None:
        self.mode, self.previous = mode, state.recording
        state.recording = mode

    def __enter__(self) -> None:
        state.recording = self.mode

    def __exit__(self, *exc: object) -> None:
        state.recording = self.previous


class _GradMode:
    mode: bool

    def __init__(self, function: Callable | None = None) -> None:
        self.previous: list[bool] = []  # a stack, so that one object can be entered repeatedly

    def __enter__(self) -> None:
        self.previous.append(state.recording)
        state.recording = self.mode

    def __exit__(self, *exc: object) -> None:
        state.recording = self.previous.pop()

    def __new__(cls, function: Callable | None = None) -> Any:
        return super().__new__(cls) if function is None else cls()(function)

    def __call__(self, function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return function(*args, **kwargs)

        return wrapped


class no_grad(_GradMode):
    """Do not record: ``with no_grad():`` or ``@no_grad()``."""

    mode = False


class enable_grad(_GradMode):
    """Record, inside a :class:`no_grad` block: ``with enable_grad():`` or ``@enable_grad()``."""

    mode = True
